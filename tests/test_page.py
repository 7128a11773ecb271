"""The lesson's page in a real browser, over a real server: what it shows, and to whom."""

import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tools import generate, succeed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = "chromium", "chromium-browser", "google-chrome"
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)

# Beside the project's own handlers: a second listener, one that fails, a chain, a slow route.
SERVED = '''
import asyncio
import os
from dataclasses import field
from pathlib import Path

from fastapi import FastAPI

from app.bus import emit, on
from app.events import Event, OrderPlaced
from app.main import app as inner
from lesson.live import watched


class ShelfEmptied(Event):
    """A shelf is empty."""

    item: str
    left: int = 0
    urgent: bool = False
    note: str | None = None
    places: list[str] = field(default_factory=list)


class Spoiled(Event):
    """Something went bad."""


@on(OrderPlaced)
def count_order(event: OrderPlaced) -> None:
    if event.quantity > 5:
        raise ValueError("only five on the shelf")


@on(ShelfEmptied)
async def refill(event: ShelfEmptied) -> str:
    await emit(Spoiled())
    return "Refilled"


@inner.get("/slow")
async def slow() -> str:
    await asyncio.sleep(2)
    return "slow"


app = watched(inner, Path(__file__).parent / "steps")
'''


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium."""
    if find_spec("playwright") is None or find_spec("axe_playwright_python") is None:
        pytest.skip("playwright and axe-playwright-python are not installed; run uv sync")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--host-resolver-rules=MAP *.example 127.0.0.1"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's project, its dependencies installed."""
    made = generate(tmp_path_factory.mktemp("student"), lesson="student")
    succeed("uv", "sync", "--quiet", cwd=made)
    return made


class Server:
    """A real server of the watched app on a port of its own, which it keeps over restarts."""

    def __init__(self, project: Path, folder: Path, command: list[str] | None = None) -> None:
        with closing(socket.socket()) as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log.txt"
        (folder / "served.py").write_text(SERVED, encoding="utf-8")
        self.project = project
        self.command = command or ["uvicorn", "served:app"]
        self.env = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{project}"}
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        python = self.project / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
        command = [str(python), "-m", *self.command, "--port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.project, env=self.env, stdout=log, stderr=log
            )
        for _ in range(400):
            try:
                self.get("/lesson/steps")
                return
            except OSError:
                time.sleep(0.05)
        pytest.fail(self.log.read_text(encoding="utf-8"))

    def get(self, path: str) -> Any:
        """Return the JSON that a path answers."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as response:
            return json.load(response)

    def order(self, item: str, quantity: int = 1) -> None:
        """Place an order, as another program would."""
        body = json.dumps({"item": item, "quantity": quantity}).encode()
        headers = {"Content-Type": "application/json"}
        with suppress(urllib.error.HTTPError):  # 500 where a listener fails
            urllib.request.urlopen(urllib.request.Request(f"{self.url}/orders", body, headers))

    def stop(self, number: int = signal.SIGINT) -> float:
        """Send a signal; return the seconds until the server is done (Python itself ends after)."""
        if self.process is None or self.process.poll() is not None:
            return 0
        started = time.monotonic()
        self.process.send_signal(number)
        while self.process.poll() is None:
            if self.log.read_text(encoding="utf-8").endswith(f"process [{self.process.pid}]\n"):
                break
            time.sleep(0.01)
        took = time.monotonic() - started
        self.process.wait(timeout=20)
        return took


@pytest.fixture
def server(student: Path, tmp_path: Path) -> Iterator[Server]:
    """The watched app, with SERVED beside it."""
    server = Server(student, tmp_path)
    yield server
    server.stop()


Opened = Callable[..., "Page"]


@pytest.fixture
def opened(browser: "Browser", server: Server) -> Iterator[Opened]:
    """Opens the page of `server`; after the test, no page may have had an error of script."""
    contexts, errors = [], []

    def open_page(**options: Any) -> "Page":
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{server.url}/lesson")
        page.locator("#rows tbody tr").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def audit(page: "Page") -> None:
    """Fail if axe-core finds anything."""
    import axe_playwright_python

    script = Path(axe_playwright_python.__file__).with_name("axe.min.js")
    if not page.evaluate("'axe' in window"):
        page.evaluate(script.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({rules: {'target-size': {enabled: true}}})")
    assert [
        (violation["id"], [node["html"][:200] for node in violation["nodes"]])
        for violation in found["violations"]
    ] == []
    assert len(found["passes"]) > 20


def shows(page: "Page", selector: str, text: str | re.Pattern[str]) -> None:
    """Wait until an element holds a text."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_contain_text(text, timeout=10_000)


def row(page: "Page", number: int) -> str:
    """Return a row of the execution table as text."""
    return page.locator("#rows tbody tr").nth(number - 1).inner_text()


LOOKS = [
    {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    {"color_scheme": "light", "viewport": {"width": 320, "height": 640}},
    {"color_scheme": "dark", "viewport": {"width": 320, "height": 640}},
]


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark", "light 320", "dark 320"])
def test_every_state_tells_the_truth_and_passes_axe(
    opened: Opened, server: Server, look: dict[str, Any]
) -> None:
    page = opened(**look, reduced_motion="reduce")

    # Started, and idle.
    shows(page, "#state", re.compile(r"Idle: nothing runs; quiet for [3-9] s\."))
    assert "Prints 'App is starting'" in row(page, 1)
    assert "not yet" in row(page, 2)
    assert "Idle state" in row(page, 4)
    audit(page)

    # A request that runs, and nothing else is claimed meanwhile.
    with page.expect_response("**/slow"):
        page.evaluate("void fetch('/slow')")
        shows(page, "#state", "Running: GET /slow")
        assert "not now" in row(page, 4)
        audit(page)
    shows(page, "#rows", 'Returns 200 "slow"')

    # An order: two listeners, one of which fails; a row each, indented under the request.
    server.order("tea", quantity=9)
    shows(page, "#log", "failed ValueError: only five on the shelf")
    assert page.locator("#log tr[data-depth='1']").count() == 2
    shows(page, "#boxes", "The other listeners still run")
    audit(page)

    # Paused: nothing moves until it may.
    page.locator("#pause").click()
    before = page.locator("#log").inner_text()
    server.order("coffee")
    shows(page, "#state", "Paused. 3 new steps to show.")
    assert page.locator("#log").inner_text() == before
    audit(page)
    page.locator("#pause").click()
    shows(page, "#log", "coffee")

    # Shut down, gone, and back, with row 3 of the last run.
    server.stop()
    shows(page, "#state", "The server is gone; look at your terminal.")
    audit(page)
    server.start()
    shows(page, "#state", "The app is back. Row 3 of the last run: Prints 'Cleanup done'.")
    assert "last run" in row(page, 3)
    shows(page, "#variables", '"Cleanup done"')
    audit(page)

    # Killed: no goodbye, no row 3.
    server.stop(signal.SIGKILL)
    shows(page, "#state", "The server is gone; look at your terminal.")
    server.start()
    shows(page, "#state", "The last run has no row 3: it was stopped without a goodbye.")
    assert "not yet" in row(page, 3)
    audit(page)


def test_a_shutdown_is_first_requested(opened: Opened, server: Server) -> None:
    page = opened()
    seen = """() => {
        window.states = [];
        const note = () => states.push(document.querySelector("#state").textContent);
        new MutationObserver(note).observe(document.querySelector("#state"),
            {subtree: true, childList: true, characterData: true});
    }"""
    page.evaluate(seen)
    server.stop(signal.SIGTERM)
    shows(page, "#state", "The server is gone")
    assert any("Shutdown requested." in state for state in page.evaluate("states"))


def test_the_flow_lights_up_box_by_box(opened: Opened) -> None:
    page = opened()
    lit = "#boxes li[data-box='lit']"
    page.evaluate(
        """() => {
            window.counts = new Set();
            const lit = () => document.querySelectorAll("#boxes [data-box=lit]").length;
            new MutationObserver(() => counts.add(lit()))
                .observe(document.querySelector("#boxes"), {subtree: true, attributes: true});
        }"""
    )
    page.locator("#moment-1").click()
    shows(page, "#boxes li:last-child", "Ends: Wait for next request")
    assert page.locator(lit).count() == 5  # nothing new was emitted
    assert page.evaluate("[...counts].sort()") == [1, 2, 3, 4, 5]
    assert "not this time" in page.locator("#boxes li").nth(4).inner_text()


def test_with_the_keyboard_alone(opened: Opened) -> None:
    page = opened(reduced_motion="reduce")

    def tab_to(selector: str) -> None:
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.matches(s)", selector):
                outline = "getComputedStyle(document.activeElement).outlineStyle"
                assert page.evaluate(outline) != "none"
                return
        pytest.fail(f"{selector} cannot be reached by Tab")

    tab_to(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to("#request [name=path]")
    page.keyboard.press("Enter")
    shows(page, "#request .result", "200")
    tab_to("#emit button")
    page.keyboard.press("Space")
    shows(page, "#emit .result", "Emitted")
    tab_to("#log-scroll")
    tab_to("#moment-2")
    page.keyboard.press("Enter")
    shows(page, "#moments", "One OrderPlaced made 2 rows: send_receipt, count_order.")
    tab_to("#quiz input")
    for key in ("Space", "ArrowDown", "ArrowDown", "Tab", "Tab", "Enter"):
        page.keyboard.press(key)
    shows(page, "#quiz .verdict >> nth=0", "right")
    audit(page)


def test_at_320_pixels_nothing_is_cut_off(opened: Opened, server: Server) -> None:
    page = opened(viewport={"width": 320, "height": 640}, reduced_motion="reduce")
    server.order("x" * 180)
    shows(page, "#log", "OrderPlaced")

    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert page.evaluate("document.querySelector('#log-scroll').scrollWidth <= 320")
    cell = page.locator("#rows td").first
    assert cell.evaluate("td => getComputedStyle(td, '::before').content") != "none"
    assert cell.get_attribute("data-label") == "Event"


def test_what_an_order_holds_is_text(opened: Opened, server: Server) -> None:
    page = opened()
    item = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    server.order(item)
    shows(page, "#log", item)
    page.reload()
    shows(page, "#log", item)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main script, main img").count() == 0


def test_a_form_is_made_from_the_fields(opened: Opened, server: Server) -> None:
    page = opened(reduced_motion="reduce")
    form = page.locator("#emit")
    offered = form.locator("option").all_inner_texts()
    assert {"OrderPlaced", "ShelfEmptied", "Spoiled"} <= set(offered)
    assert not {"Startup", "Shutdown"} & set(offered)

    form.locator("select").first.select_option("OrderPlaced")
    form.get_by_label("quantity").fill("many")
    form.get_by_role("button").click()
    shows(page, "#emit .fields", "Input should be a valid integer")
    assert page.evaluate("document.activeElement.getAttribute('aria-invalid')") == "true"
    audit(page)

    form.locator("select").first.select_option("ShelfEmptied")
    form.get_by_label("item").fill("caf\u00e9")
    form.get_by_label("left").fill("3")
    form.get_by_label("urgent").check()
    form.get_by_label("places").fill("[nowhere")
    form.get_by_role("button").click()
    shows(page, "#emit .fields", "This must be JSON")
    form.get_by_label("places").fill('["a"]')
    form.get_by_role("button").click()
    shows(page, "#log", "Refilled")
    first = next(step for step in server.get("/lesson/steps") if step["type"] == "ShelfEmptied")
    fields = {"item": "caf\u00e9", "left": 3, "urgent": True, "note": None, "places": ["a"]}
    assert first["fields"] == fields
    shows(page, "#log", "No listener triggered")  # nobody hears Spoiled

    page.get_by_label(f"Send no. {first['sequence']} again: ShelfEmptied").click()
    shows(page, "#state", "Idle")
    page.wait_for_timeout(500)
    again = [step for step in server.get("/lesson/steps") if step["type"] == "ShelfEmptied"]
    assert [step["fields"] for step in again] == [fields, fields]


def test_listeners_and_their_counts(opened: Opened) -> None:
    page = opened(reduced_motion="reduce")
    shows(page, "#who", "waits, 0 times")
    shows(page, "#who tr:has-text('Spoiled')", "nobody listens")
    page.locator("#moment-1").click()
    shows(page, "#moments", "Before: called 0 times. The event occurred. Now: 1 time.")
    shows(page, "#who tr:has-text('read_root')", "1 time")
    page.locator("#moment-3").click()
    shows(page, "#moments", "Five seconds, no event, no row.")


def test_predict_then_compare(opened: Opened) -> None:
    page = opened(reduced_motion="reduce")
    page.locator("#predict input").nth(1).fill("a page")
    shows(page, "#predict", "It has not happened yet.")
    page.locator("#moment-1").click()
    shows(page, "#predict", "You predicted: a page. What happened: Returns 200")
    audit(page)


def test_the_quiz(opened: Opened) -> None:
    page = opened()
    first = page.locator("#quiz form").first
    first.get_by_role("button").click()
    shows(page, "#quiz .verdict >> nth=0", "not yet")
    first.get_by_label("Cleanup done").check()
    first.get_by_role("button").click()
    shows(page, "#quiz .verdict >> nth=0", "wrong That line belongs to step 3")
    first.get_by_label("App is starting").check()
    first.get_by_role("button").click()
    shows(page, "#quiz .verdict >> nth=0", "right")
    shows(page, "#quiz", "Because")  # the next question comes with the right answer
    audit(page)


def test_announcements_come_in_batches(opened: Opened, server: Server) -> None:
    page = opened(reduced_motion="reduce")
    page.evaluate(
        """() => {
            window.said = [];
            new MutationObserver(() => said.push(document.querySelector("#announce").textContent))
                .observe(document.querySelector("#announce"), {childList: true});
        }"""
    )
    for _ in range(5):
        server.order("tea")
    shows(page, "#announce", "new steps")
    page.wait_for_timeout(3500)
    said = page.evaluate("said")
    assert len(said) <= 2
    assert sum(int(text.split()[0]) for text in said) == 15


def test_a_foreign_page_gets_nothing(browser: "Browser", server: Server) -> None:
    class Evil(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>evil</title>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Evil) as evil:
        threading.Thread(target=evil.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{evil.server_port}/")
        attack = """async (url) => {
            const socket = await new Promise((done) => {
                const socket = new WebSocket(url.replace("http", "ws") + "/lesson/live");
                socket.onopen = () => done("open");
                socket.onerror = () => done("refused");
            });
            const body = JSON.stringify({type: "Spoiled", fields: {}});
            await fetch(url + "/lesson/events", {method: "POST", mode: "no-cors", body})
                .catch(() => "its answer may not be read");
            const read = await fetch(url + "/lesson/steps").then(() => "read", () => "refused");
            return [socket, read];
        }"""
        assert page.evaluate(attack, server.url) == ["refused", "refused"]
        # DNS that answers with this machine's address: same origin for the browser, not for us.
        response = page.goto(f"http://rebind.example:{server.port}/lesson")
        assert response is not None
        assert response.status == 403
        assert page.evaluate(attack, f"http://rebind.example:{server.port}")[0] == "refused"
        page.close()
        evil.shutdown()
    assert "Spoiled" not in [step["type"] for step in server.get("/lesson/steps")]


def test_20_pages_do_not_hold_it_up(opened: Opened, server: Server) -> None:
    first = opened(reduced_motion="reduce")
    pages = [first, *(first.context.new_page() for _ in range(19))]
    for page in pages[1:]:
        page.goto(f"{server.url}/lesson")
        shows(page, "#state", "Idle")

    assert server.stop(signal.SIGINT) < 1

    log = server.log.read_text(encoding="utf-8")
    assert "Cleanup done" in log
    assert "Traceback" not in log
    for page in pages:
        shows(page, "#state", "The server is gone; look at your terminal.")
    server.start()
    shows(first, "#state", "Row 3 of the last run")


def test_fastapi_dev_reloads_under_the_page(
    browser: "Browser", student: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(student, copy, symlinks=True)
    server = Server(copy, tmp_path, ["fastapi", "dev"])
    try:
        page = browser.new_page()
        page.goto(f"{server.url}/lesson")
        shows(page, "#who", "read_root")
        time.sleep(1)  # the watcher of files takes a moment
        requests = copy / "app" / "handlers" / "requests.py"
        code = requests.read_text(encoding="utf-8")
        requests.write_text(code.replace("read_root", "read_home"), encoding="utf-8")
        shows(page, "#who", "read_home")
        shows(page, "#state", "The app is back. Row 3 of the last run: Prints 'Cleanup done'.")
        page.close()
    finally:
        assert server.stop(signal.SIGINT) < 3
    assert "Traceback" not in server.log.read_text(encoding="utf-8")
