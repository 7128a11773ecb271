"""The lesson's page in a real browser, over a real server: what it shows, and to whom."""

import os
import re
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support.pages import audit, row, shows
from support.processes import Server, StartServer
from support.projects import Bake, Project

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


@pytest.fixture
def served(bake: Bake, server: StartServer, tmp_path: Path) -> Server:
    """The watched app, with what served.py adds."""
    project = bake(lesson="student")
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
        page.locator("#quiz form").first.wait_for()
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
    assert page.locator("#log td[data-depth='1']").count() == 2
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

    # Shut down: row 3 is there, as it happened; and still there when the app is back.
    served.stop()
    shows(page, "#state", "Stopped.")
    shows(page, "#rows tbody tr:nth-child(3)", "Prints 'Cleanup done'")
    assert "last run" not in row(page, 3)
    shows(page, "#variables", '"Cleanup done"')
    shows(page, "#table caption", "The run that has ended: process")
    audit(page)
    served.up("/lesson/steps")
    shows(page, "#state", "The app is back. Row 3 of the last run: Prints 'Cleanup done'.")
    assert "last run" in row(page, 3)
    shows(page, "#table caption", "This run: process")
    audit(page)

    # Killed: no goodbye, no row 3, and the reason why.
    served.stop(signal.SIGKILL)
    shows(page, "#state", "It was killed (kill -9), or it crashed: no shutdown ran")
    shows(page, "#rows tbody tr:nth-child(3)", "there's no row 3")
    audit(page)
    served.up("/lesson/steps")
    shows(page, "#state", "The app is back. The last run was killed, or it crashed")
    assert "not yet" in row(page, 3)
    audit(page)


def dev(project: Project, server: StartServer) -> Server:
    """Start `fastapi dev`, with its reloader, as a learner does."""
    return server(project.python, "-m", "fastapi", "dev", cwd=project.path).up("/lesson/steps")


def look(browser: "Browser", server: Server) -> "Page":
    """Open the page of a server."""
    page = browser.new_page(reduced_motion="reduce")
    page.goto(f"{server.url}/lesson")
    page.locator("#quiz form").first.wait_for()
    return page


SHUTDOWNS = {
    "slow": (
        "    await asyncio.sleep(1.5)\n    return 'Cleanup done'",
        "Prints 'Cleanup done'",
    ),
    "failing": ("    raise OSError('no disk')", "OSError: no disk"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of Unix is made")
@pytest.mark.parametrize("kind", ["plain", *SHUTDOWNS])
def test_ctrl_c_in_a_terminal_shows_row_3(
    browser: "Browser", bake: Bake, server: StartServer, kind: str
) -> None:
    project, expected = bake(lesson="student"), "Prints 'Cleanup done'"
    if kind in SHUTDOWNS:
        code, expected = SHUTDOWNS[kind]
        file = "app/handlers/shutdown.py"
        project.edit(file, '    return "Cleanup done"', code)
        project.write(file, project.read(file).replace('"""\n', '"""\n\nimport asyncio\n', 1))
    served = dev(project, server)
    page = look(browser, served)

    started = time.monotonic()
    served.send(signal.SIGINT, group=True)  # as a terminal does: to the reloader and the server
    if kind == "slow":
        shows(page, "#state", "Shutting down: Shutdown still runs.")
        assert "not yet" in row(page, 3)
    shows(page, "#rows tbody tr:nth-child(3)", expected)
    assert time.monotonic() - started < (1 if kind != "slow" else 3)
    served.wait(10)
    shows(page, "#state", "Stopped.")
    page.close()


def test_a_request_in_hand_ends_before_row_3(opened: Opened, served: Server) -> None:
    page = opened(reduced_motion="reduce")
    page.evaluate("void fetch('/slow')")
    shows(page, "#state", "Running: GET /slow")
    served.send(signal.SIGINT)
    shows(page, "#state", "Shutting down: GET /slow still runs.")
    assert "not yet" in row(page, 3)
    assert served.request("GET", "/")[0] == 503  # nothing new is begun

    shows(page, "#rows tbody tr:nth-child(3)", "Prints 'Cleanup done'")
    assert 'Returns 200 "slow"' in row(page, 2)
    served.wait(10)


def test_a_second_ctrl_c_ends_it_at_once(opened: Opened, served: Server) -> None:
    page = opened()
    page.evaluate("void fetch('/slow')")
    shows(page, "#state", "Running: GET /slow")
    served.send(signal.SIGINT)
    shows(page, "#state", "Shutting down")
    started = time.monotonic()
    served.send(signal.SIGINT)
    served.wait(10)
    assert time.monotonic() - started < 1.5


def test_row_2_is_no_habit_of_a_browser(opened: Opened, served: Server) -> None:
    page = opened(reduced_motion="reduce")
    served.request("GET", "/")
    shows(page, "#rows tbody tr:nth-child(2)", "Response sent")
    habits = (
        "/favicon.ico",
        "/apple-touch-icon-120x120-precomposed.png",
        "/.well-known/appspecific/com.chrome.devtools.json",
    )
    for path in (*habits, "/nowhere", "/docs", "/openapi.json"):
        served.request("GET", path)
    served.request("OPTIONS", "/")

    shows(page, "#log", "GET /nowhere")
    shows(page, "#log", "OPTIONS /")
    assert "GET /\n" in row(page, 2) or row(page, 2).count("GET /") == 1
    assert "Response sent" in row(page, 2)
    details = [step["detail"] for step in served.get("/lesson/steps")]
    assert not [path for path in habits if f"GET {path}" in details]


def test_the_learners_own_row_is_filled_by_its_event(
    browser: "Browser", bake: Bake, server: StartServer
) -> None:
    served = dev(bake(lesson="solution"), server)
    page = look(browser, served)
    shows(page, "#rows tbody tr:nth-child(5)", "not yet")
    served.post("/deliveries", {"item": "tea", "quantity": 3})
    shows(
        page, "#rows tbody tr:nth-child(5)", re.compile("5.*Delivery arrives.*Shelf filled", re.S)
    )
    page.close()


def test_links_and_captions(opened: Opened) -> None:
    page = opened()
    for link in page.locator("nav a:visible").all():
        target = link.get_attribute("href")
        assert target is not None
        assert page.locator(target).is_visible(), target
    assert page.locator("nav a:visible").count() == 8
    for _ in range(30):
        page.evaluate("fetch('/')")
    shows(page, "#log", "no. 31")
    page.evaluate("document.querySelector('#steps .scroll').scrollTop = 1e6")
    box = page.locator("#steps .scroll").bounding_box()
    caption = page.locator("#log caption").bounding_box()
    assert box is not None
    assert caption is not None
    assert box["y"] <= caption["y"] < box["y"] + 10
    shows(page, "#log caption", "This run: process")


def test_every_table_is_readable_at_every_width(opened: Opened, served: Server) -> None:
    page = opened(reduced_motion="reduce")
    order(served, "tea and a long item with many words" * 3, quantity=9)
    served.request("GET", "/")
    shows(page, "#log", "only five on the shelf")
    measure = """() => [...document.querySelectorAll("td > div")].filter((div) => div.textContent)
        .map((div) => [div.parentElement.dataset.label, div.clientWidth, div.clientHeight])"""
    for width in range(320, 1441, 40):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.querySelector('#steps .scroll').scrollWidth") <= width
        cells = page.evaluate(measure)
        assert len(cells) > 30
        assert [cell for cell in cells if cell[1] < 70 or cell[2] > 360] == [], width


def test_the_flow_lights_up_box_by_box(opened: Opened) -> None:
    page = opened()
    lit = "#boxes li.lit"
    page.evaluate(
        """() => {
            window.counts = new Set();
            const lit = () => document.querySelectorAll("#boxes .lit").length;
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
    tab_to("#steps .scroll")
    tab_to("#moment-2")
    page.keyboard.press("Enter")
    shows(page, "#moments", "One OrderPlaced made 2 rows: send_receipt, count_order.")
    tab_to("#quiz input")
    for key in ("Space", "ArrowDown", "ArrowDown", "Tab", "Tab", "Enter"):
        page.keyboard.press(key)
    shows(page, "#quiz form >> nth=0", "App is starting")
    shows(page, "#quiz .mark >> nth=0", "right")
    audit(page)


def test_what_an_order_holds_is_text(opened: Opened, served: Server) -> None:
    page = opened()
    item = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    order(served, item)
    shows(page, "#log", item)
    page.reload()
    shows(page, "#log", item)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main script, main img").count() == 0


def test_an_event_can_be_sent_again(opened: Opened, served: Server) -> None:
    page = opened(reduced_motion="reduce")
    made = {"item": "caf\u00e9", "left": 3, "urgent": True, "note": None, "places": ["a"]}
    assert served.post("/lesson/events", {"type": "ShelfEmptied", "fields": made})[0] == 200
    shows(page, "#log", "Refilled")
    shows(page, "#log", "No listener triggered")  # nobody hears Spoiled
    first = next(step for step in served.get("/lesson/steps") if step["type"] == "ShelfEmptied")
    assert first["fields"] == made

    page.get_by_label(f"Send no. {first['sequence']} again: ShelfEmptied").click()
    shows(page, "#who tr:has-text('refill')", "2 times")
    again = [step for step in served.get("/lesson/steps") if step["type"] == "ShelfEmptied"]
    assert [step["fields"] for step in again] == [made, made]


def test_listeners_and_their_counts(opened: Opened) -> None:
    page = opened(reduced_motion="reduce")
    shows(page, "#who", "waits, 0 times")
    shows(page, "#who tr:has-text('Spoiled')", "nobody listens")
    page.locator("#moment-1").click()
    shows(page, "#moments", "Before: called 0 times. The event occurred. Now: 1 time.")
    shows(page, "#who tr:has-text('read_root')", "1 time")
    page.locator("#moment-3").click()
    shows(page, "#moments", "Five seconds, no event, no row.")


def test_predictions_are_saved_and_compared_with_what_they_ask_about(
    browser: "Browser", bake: Bake, server: StartServer
) -> None:
    project = bake(lesson="student")
    served = dev(project, server)
    page = look(browser, served)
    guess = page.locator("#predict input").nth(1)
    guess.fill('a "page"')
    guess.press("Enter")
    shows(page, "#predict", "Saved in answers.toml.")
    shows(page, "#predict", "It hasn't happened yet.")
    order(served, "tea")  # another request than the one that is asked about
    shows(page, "#log", "POST /orders")
    assert "What happened" not in page.locator("#predict").inner_text()
    page.locator("#moment-1").click()
    shows(page, "#predict", 'You predicted: a "page". What happened: Returns 200')
    assert page.locator("#predict .mark").count() == 0  # no tick: it isn't right
    audit(page)
    page.reload()
    shows(page, "#predict", 'You predicted: a "page".')
    assert tomllib.loads(project.read("answers.toml"))["predict"]["step2"] == 'a "page"'

    project.write("answers.toml", "[predict]\nstep2 = oops\n")
    page.reload()
    shows(page, "#problem", "answers.toml, line 2")
    guess.fill("nothing")
    guess.press("Enter")
    shows(page, "#predict", "Not saved, so it's only for trying: answers.toml, line 2")
    audit(page)
    page.close()


def test_the_quiz(browser: "Browser", bake: Bake, server: StartServer) -> None:
    project = bake(lesson="student")
    served = dev(project, server)
    page = look(browser, served)
    first = page.locator("#quiz form").first
    asked = served.get("/lesson/about")["questions"]
    assert page.locator("#quiz form:visible").count() == len(
        [question for question in asked if not question["after"]]
    )
    first.get_by_role("button").click()
    shows(page, "#quiz form >> nth=0", "not yet")
    first.get_by_label("Cleanup done").check()
    first.get_by_role("button").click()
    shows(page, "#quiz form >> nth=0", "wrong That line belongs to step 3")
    assert tomllib.loads(project.read("answers.toml"))["quiz"]["q1"] == "A"
    first.get_by_label("App is starting").check()
    first.get_by_role("button").click()
    shows(page, "#quiz .mark >> nth=0", "right")
    shows(page, "#quiz form:visible >> nth=1", "Because")  # it comes with the right answer
    assert tomllib.loads(project.read("answers.toml"))["quiz"]["q1"] == "C"
    audit(page)
    page.reload()
    shows(page, "#quiz .mark >> nth=0", "right")
    page.close()


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
    served = dev(project, server)
    page = look(browser, served)
    shows(page, "#who", "read_root")
    time.sleep(1)  # the watcher of files takes a moment
    project.edit("app/handlers/requests.py", "read_root", "read_home")
    shows(page, "#who", "read_home")
    shows(page, "#state", "The app is back. Row 3 of the last run: Prints 'Cleanup done'.")
    page.close()
    served.send(signal.SIGINT)
    served.wait(10)
    assert "Traceback" not in str(served)
