"""The lesson's page in a real browser, over a real server: what it shows, and to whom."""

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.pages import audit, row, shows
from support.processes import Server, StartServer
from support.projects import Bake

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


@pytest.fixture
def served(baked: Bake, server: StartServer, tmp_path: Path) -> Server:
    """The watched app, with what served.py adds."""
    project = baked(lesson="student")
    shutil.copy(Path(__file__).parent / "in_project" / "served.py", tmp_path)
    command = (project.python, "-m", "uvicorn", "served:app")
    path = f"{tmp_path}{os.pathsep}{project.path}"
    return server(*command, cwd=project.path, PYTHONPATH=path).up("/lesson/steps")


def order(server: Server, item: str, quantity: int = 1) -> None:
    """Place an order, as another program would."""
    server.post("/orders", {"item": item, "quantity": quantity})


Opened = Callable[..., "Page"]


@pytest.fixture
def opened(browser: "Browser", served: Server) -> Iterator[Opened]:
    """Opens the page of `served`; after the test, no page may have had an error of script."""
    contexts, errors = [], []

    def open_page(**options: Any) -> "Page":
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{served.url}/lesson")
        page.locator("#rows tbody tr").first.wait_for()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


LOOKS = [
    {"color_scheme": "light", "viewport": {"width": 1280, "height": 900}},
    {"color_scheme": "dark", "viewport": {"width": 1280, "height": 900}},
    {"color_scheme": "light", "viewport": {"width": 320, "height": 640}},
    {"color_scheme": "dark", "viewport": {"width": 320, "height": 640}},
]


@pytest.mark.parametrize("look", LOOKS, ids=["light", "dark", "light 320", "dark 320"])
def test_every_state_tells_the_truth_and_passes_axe(
    opened: Opened, served: Server, look: dict[str, Any]
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
    order(served, "tea", quantity=9)
    shows(page, "#log", "failed ValueError: only five on the shelf")
    assert page.locator("#log tr[data-depth='1']").count() == 2
    shows(page, "#boxes", "The other listeners still run")
    audit(page)

    # Paused: nothing moves until it may.
    page.locator("#pause").click()
    before = page.locator("#log").inner_text()
    order(served, "coffee")
    shows(page, "#state", "Paused. 3 new steps to show.")
    assert page.locator("#log").inner_text() == before
    audit(page)
    page.locator("#pause").click()
    shows(page, "#log", "coffee")

    # Shut down, gone, and back, with row 3 of the last run.
    served.stop()
    shows(page, "#state", "The server is gone; look at your terminal.")
    audit(page)
    served.up("/lesson/steps")
    shows(page, "#state", "The app is back. Row 3 of the last run: Prints 'Cleanup done'.")
    assert "last run" in row(page, 3)
    shows(page, "#variables", '"Cleanup done"')
    audit(page)

    # Killed: no goodbye, no row 3.
    served.stop(signal.SIGKILL)
    shows(page, "#state", "The server is gone; look at your terminal.")
    served.up("/lesson/steps")
    shows(page, "#state", "The last run has no row 3: it was stopped without a goodbye.")
    assert "not yet" in row(page, 3)
    audit(page)


def test_a_shutdown_is_first_requested(opened: Opened, served: Server) -> None:
    page = opened()
    seen = """() => {
        window.states = [];
        const note = () => states.push(document.querySelector("#state").textContent);
        new MutationObserver(note).observe(document.querySelector("#state"),
            {subtree: true, childList: true, characterData: true});
    }"""
    page.evaluate(seen)
    served.stop(signal.SIGTERM)
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


def test_at_320_pixels_nothing_is_cut_off(opened: Opened, served: Server) -> None:
    page = opened(viewport={"width": 320, "height": 640}, reduced_motion="reduce")
    order(served, "x" * 180)
    shows(page, "#log", "OrderPlaced")

    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert page.evaluate("document.querySelector('#log-scroll').scrollWidth <= 320")
    cell = page.locator("#rows td").first
    assert cell.evaluate("td => getComputedStyle(td, '::before').content") != "none"
    assert cell.get_attribute("data-label") == "Event"


def test_what_an_order_holds_is_text(opened: Opened, served: Server) -> None:
    page = opened()
    item = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    order(served, item)
    shows(page, "#log", item)
    page.reload()
    shows(page, "#log", item)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main script, main img").count() == 0


def test_a_form_is_made_from_the_fields(opened: Opened, served: Server) -> None:
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
    first = next(step for step in served.get("/lesson/steps") if step["type"] == "ShelfEmptied")
    fields = {"item": "caf\u00e9", "left": 3, "urgent": True, "note": None, "places": ["a"]}
    assert first["fields"] == fields
    shows(page, "#log", "No listener triggered")  # nobody hears Spoiled

    page.get_by_label(f"Send no. {first['sequence']} again: ShelfEmptied").click()
    shows(page, "#state", "Idle")
    page.wait_for_timeout(500)
    again = [step for step in served.get("/lesson/steps") if step["type"] == "ShelfEmptied"]
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


def test_announcements_come_in_batches(opened: Opened, served: Server) -> None:
    page = opened(reduced_motion="reduce")
    page.evaluate(
        """() => {
            window.said = [];
            new MutationObserver(() => said.push(document.querySelector("#announce").textContent))
                .observe(document.querySelector("#announce"), {childList: true});
        }"""
    )
    for _ in range(5):
        order(served, "tea")
    shows(page, "#announce", "new steps")
    page.wait_for_timeout(3500)
    said = page.evaluate("said")
    assert len(said) <= 2
    assert sum(int(text.split()[0]) for text in said) == 15


def test_fastapi_dev_reloads_under_the_page(
    browser: "Browser", bake: Bake, server: StartServer
) -> None:
    project = bake(lesson="student")
    dev = server(project.python, "-m", "fastapi", "dev", cwd=project.path).up("/lesson/steps")
    page = browser.new_page()
    page.goto(f"{dev.url}/lesson")
    shows(page, "#who", "read_root")
    time.sleep(1)  # the watcher of files takes a moment
    project.edit("app/handlers/requests.py", "read_root", "read_home")
    shows(page, "#who", "read_home")
    shows(page, "#state", "The app is back. Row 3 of the last run: Prints 'Cleanup done'.")
    page.close()
    dev.send(signal.SIGINT)
    dev.wait(10)
    assert "Traceback" not in str(dev)
