"""The lesson's page in a real browser, over a real server: what it shows, and to whom."""

import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from support.cases import cases
from support.pages import audit, row, shows
from support.processes import Server, StartServer
from support.projects import Bake, Project

pytestmark = pytest.mark.browser

Opened = Callable[..., Page]
THIRD = "#rows tbody tr:nth-child(3)"
SHUTDOWNS = cases(__file__, "shutdowns")


@pytest.fixture
def student(bake: Bake) -> Project:
    return bake(lesson="student")


@pytest.fixture
def served(student: Project, server: StartServer, tmp_path: Path) -> Server:
    """The watched app, with what served.py adds."""
    shutil.copy(Path(__file__).parent / "in_project" / "served.py", tmp_path)
    command = (student.python, "-m", "uvicorn", "served:app")
    path = f"{tmp_path}{os.pathsep}{student.path}"
    return server(*command, cwd=student.path, PYTHONPATH=path).up("/lesson/steps")


def dev(project: Project, server: StartServer) -> Server:
    """Start `fastapi dev`, with its reloader, as a learner does."""
    return server(project.python, "-m", "fastapi", "dev", cwd=project.path).up("/lesson/steps")


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """Opens the page of a server; after the test, no page may have had an error of script."""
    errors: list[str] = []
    with ExitStack() as stack:

        def open_page(server: Server, **options: Any) -> Page:
            page = browser.new_page(**{"reduced_motion": "reduce"} | options)
            stack.callback(page.close)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(f"{server.url}/lesson")
            page.locator("#quiz form").first.wait_for()
            return page

        yield open_page
    assert errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_every_state_tells_the_truth_and_passes_axe(
    opened: Opened, served: Server, tmp_path: Path, scheme: str, width: int
) -> None:
    page = opened(served, color_scheme=scheme, viewport={"width": width, "height": 900})

    def tells(state: str) -> None:
        shows(page, "#state", re.compile(state))
        audit(page)

    tells(r"Idle: nothing is running; quiet for ([3-9]|\d\d+) s\.")
    for number, expected in ((1, "Prints 'App is starting'"), (2, "not yet"), (4, "Idle state")):
        assert expected in row(page, number)

    # A request that runs, and nothing else is claimed meanwhile.
    page.evaluate("void fetch('/slow')")
    shows(page, "#state", "Running: GET /slow")
    assert "not now" in row(page, 4)
    audit(page)
    (tmp_path / "go").touch()
    shows(page, "#rows", 'Returns 200 "slow"')

    # An order: two listeners, one of which fails; a row each, indented under the request.
    served.post("/orders", {"item": "tea", "quantity": 9})
    shows(page, "#log", "failed ValueError: only five on the shelf")
    assert page.locator("#log .caused").count() == 2
    shows(page, "#boxes", "The other listeners still run")

    # Paused: nothing moves until it may.
    page.locator("#pause").click()
    before = page.locator("#log").inner_text()
    served.post("/orders", {"item": "coffee", "quantity": 1})
    tells(r"Paused\. 3 new steps to show\.")
    assert page.locator("#log").inner_text() == before
    page.locator("#pause").click()
    shows(page, "#log", "coffee")

    # Killed: there's no goodbye, and no row 3.
    served.kill()
    tells("It was killed")
    shows(page, THIRD, "there's no row 3")
    shows(page, "#table caption", "The run that has ended: process")
    served.up("/lesson/steps")
    tells(r"The app is back. The last run was killed, or it crashed")
    assert "not yet" in row(page, 3)
    shows(page, "#table caption", "This run: process")


@pytest.mark.skipif(sys.platform == "win32", reason="a terminal of Unix is made")
@pytest.mark.parametrize("kind", SHUTDOWNS)
def test_ctrl_c_in_a_terminal_shows_row_3(
    opened: Opened, student: Project, server: StartServer, kind: str
) -> None:
    code, expected, tracked = SHUTDOWNS[kind]
    student.edit("app/handlers/shutdown.py", '    return "Cleanup done"', code)
    student.edit("lesson/live.py", "PATIENCE = 10.0", "PATIENCE = 600.0")  # nothing waits for it
    served = dev(student, server)
    page = opened(served)

    served.send(signal.SIGINT, group=True)  # as a terminal does: to the reloader and the server
    if kind == "slow":
        shows(page, "#state", "Shutting down: Shutdown still running.")
        assert "not yet" in row(page, 3)
        (student.path / "go").touch()
    shows(page, THIRD, expected)
    assert "last run" not in row(page, 3)
    shows(page, "#variables", tracked)
    audit(page)
    assert served.wait() == 0
    assert "Traceback" not in str(served) or kind == "failing"


def test_a_request_in_hand_ends_first(opened: Opened, served: Server, tmp_path: Path) -> None:
    page = opened(served)
    page.evaluate("void fetch('/slow')")
    shows(page, "#state", "Running: GET /slow")
    served.send(signal.SIGINT)
    shows(page, "#state", "Shutting down: GET /slow still running.")
    assert "not yet" in row(page, 3)
    assert served.request("GET", "/")[0] == 503  # nothing new is begun
    (tmp_path / "go").touch()
    shows(page, THIRD, "Prints 'Cleanup done'")
    assert 'Returns 200 "slow"' in row(page, 2)


def test_what_the_learner_adds_is_on_the_page(
    opened: Opened, bake: Bake, server: StartServer
) -> None:
    solution = bake(lesson="solution")
    served = dev(solution, server)
    page = opened(served)
    own = "#rows tbody tr:nth-child(5)"
    shows(page, own, "not yet")
    served.post("/deliveries", {"item": "tea", "quantity": 3})
    shows(page, own, re.compile("5.*Delivery arrives.*Shelf filled", re.S))

    time.sleep(1)  # the watcher of files takes a moment
    solution.edit("app/handlers/requests.py", "read_root", "read_home")
    shows(page, "#who", "read_home")
    shows(page, "#state", "The app is back. Row 3 of the last run: Prints 'Cleanup done'.")


def test_everything_is_readable_at_every_width(opened: Opened, served: Server) -> None:
    page = opened(served)
    links = page.locator("nav a:visible")
    assert links.count() == 8
    for target in links.evaluate_all("links => links.map((link) => link.getAttribute('href'))"):
        assert page.locator(target).is_visible(), target
    served.post("/orders", {"item": "tea and a long item with many words" * 3, "quantity": 9})
    for _ in range(30):
        served.request("GET", "/")
    shows(page, "#log", "no. 34")
    measure = """() => [...document.querySelectorAll("td > div")].filter((div) => div.textContent)
        .map((div) => [div.parentElement.dataset.label, div.clientWidth, div.clientHeight])"""
    top = "selector => document.querySelector(selector).getBoundingClientRect().top"
    for width in range(320, 1441, 40):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("document.querySelector('#steps .scroll').scrollWidth") <= width
        cells = page.evaluate(measure)
        assert len(cells) > 30
        assert [cell for cell in cells if cell[1] < 70 or cell[2] > 360] == [], width
        page.evaluate("document.querySelector('#steps .scroll').scrollTop = 1e6")
        assert 0 <= page.evaluate(top, "#log caption") - page.evaluate(top, "#steps .scroll") < 10


def test_one_request_is_counted_and_lights_up_its_boxes(opened: Opened, served: Server) -> None:
    page = opened(served, reduced_motion="no-preference")
    shows(page, "#who tr:has-text('read_root')", "waits, 0 times")
    shows(page, "#who tr:has-text('Spoiled')", "nobody listens")
    page.locator("#moment-1").click()
    shows(page, "#moments", "Before: called 0 times. The event occurred. Now: 1 time.")
    shows(page, "#who tr:has-text('read_root')", "1 time")
    shows(page, "#boxes li:last-child", "Ends: Wait for next request")
    assert page.locator("#boxes .lit").count() == 5
    assert "not this time" in page.locator("#boxes li").nth(4).inner_text()  # nothing was emitted
    page.locator("#moment-3").click()
    shows(page, "#moments", "Five seconds, no event, no row.")


def test_with_the_keyboard_alone(opened: Opened, served: Server) -> None:
    page = opened(served)

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
    for mark, keys in (("wrong", "Space Enter"), ("right", "ArrowDown ArrowDown Tab Tab Enter")):
        for key in keys.split():
            page.keyboard.press(key)
        shows(page, "#quiz .mark >> nth=0", mark)
    shows(page, "#quiz form >> nth=0", "Saved in answers.toml.")
    shows(page, "#quiz form:visible >> nth=1", "Because")  # it comes with the right answer
    audit(page)
    page.reload()
    shows(page, "#quiz .mark >> nth=0", "right")


def test_what_an_event_holds_is_text_and_can_be_sent_again(opened: Opened, served: Server) -> None:
    page = opened(served)
    item = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
    made = {"item": item, "left": 3, "note": None}
    assert served.post("/lesson/events", {"type": "ShelfEmptied", "fields": made})[0] == 200
    shows(page, "#log", item)
    shows(page, "#log", "No listener triggered")  # nobody listens to Spoiled
    page.reload()
    shows(page, "#log", item)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main script, main img").count() == 0

    page.get_by_label(re.compile("again: ShelfEmptied")).click()
    shows(page, "#who tr:has-text('refill')", "2 times")
    sent = [step for step in served.get("/lesson/steps") if step["type"] == "ShelfEmptied"]
    assert [step["fields"] for step in sent] == [made, made]


def test_predictions_are_saved_and_compared_with_what_they_ask_about(
    opened: Opened, student: Project, served: Server
) -> None:
    page = opened(served)
    guess = page.locator("#predict input").nth(1)
    guess.fill('a "page"')
    guess.press("Enter")
    shows(page, "#predict", "Saved in answers.toml.")
    served.post("/orders", {"item": "tea", "quantity": 1})  # another request than it asks about
    shows(page, "#log", "POST /orders")
    shows(page, "#predict", "It hasn't happened yet.")
    page.reload()
    page.locator("#moment-1").click()
    shows(page, "#predict", 'You predicted: a "page". What happened: Returns 200')
    assert page.locator("#predict .mark").count() == 0  # no tick: it isn't right

    student.write("answers.toml", "[predict]\nstep2 = oops\n")
    guess.fill("nothing")
    guess.press("Enter")
    shows(page, "#predict", "Not saved, but you can go on trying: answers.toml, line 2")
    audit(page)
