"""TUTORIAL.md tells the truth: its tables and its code are compared with the app and the files."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.bus import emit, listeners, on
from app.events import Event, OrderPlaced, Shutdown, Startup
from app.handlers import orders
from app.main import app, lifespan
from lesson.course import (
    GIVEN_ROWS,
    ROOT,
    TUTORIAL,
    LessonError,
    given_rows,
    own_rows,
    read,
    table,
)

VARIABLE_TRACKER = ("Variable", "Start", "After Step 1", "After Step 2", "After Step 3", "Final")
EXERCISES_CHANGE = ("app/handlers/orders.py",)  # so its excerpts may differ, once you've begun


@dataclass(frozen=True)
class Excerpt:
    """A block of Python in the tutorial: its line there, and the file it was taken from, if any."""

    line: int
    code: str
    file: str | None


def excerpts() -> Iterator[Excerpt]:
    """Yield each block of Python; it has a file if the paragraph above ends "In [file](...):"."""
    text = read()
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        paragraph = text[: block.start()].rstrip().rpartition("\n\n")[2]
        named = re.search(r"In\s\[(.+?)\]\(\1\):$", paragraph)
        line = text.count("\n", 0, block.start()) + 1
        yield Excerpt(line, block[1], named[1] if named else None)


def cells(step: int) -> dict[str, str]:
    """Return the row of the execution table that is numbered `step`."""
    return given_rows()[step - 1].cells


def quoted(cell: str) -> str:
    """Return what stands between quotes in `cell`."""
    [text] = re.findall(r"""['"](.+?)['"]""", cell)
    return str(text)


def first_word(cell: str) -> str:
    return cell.split()[0]


def block(text: str) -> str:
    """Return the one block of Python in the tutorial that has `text` in it."""
    [code] = [excerpt.code for excerpt in excerpts() if text in excerpt.code]
    return code


def test_the_table_has_its_four_rows() -> None:
    rows = [row.cells for row in given_rows()]

    assert [(row["Step"], row["Event"], row["Next Action"]) for row in rows] == [
        ("1", "App starts", "No further events"),
        ("2", "User sends request", "Wait for next request"),
        ("3", "App shuts down", "App stops"),
        ("4", "No event", "Idle state"),
    ]


def test_row_1(emitted: list[Event], capsys: pytest.CaptureFixture[str]) -> None:
    row = cells(1)
    with TestClient(app):
        printed = capsys.readouterr().out.splitlines()
        assert emitted == [Startup()]  # and "No further events"

    assert row["Listener Action"].endswith(" listener triggered")
    assert first_word(row["Listener Action"]) in names(Startup)
    assert row["Handler Output"] == f"Prints '{quoted(row['Handler Output'])}'"
    assert quoted(row["Handler Output"]) in printed


def test_row_2(client: TestClient, emitted: list[Event]) -> None:
    row = cells(2)
    assert row["Listener Action"] == "Route handler triggered"
    assert row["Handler Output"] == "Processes request and returns response"

    for _ in range(2):  # "Wait for next request"
        assert client.get("/").status_code == 200
    assert emitted == []


def test_row_3(emitted: list[Event], capsys: pytest.CaptureFixture[str]) -> None:
    row = cells(3)
    with TestClient(app) as client:
        capsys.readouterr()
        emitted.clear()

    assert emitted == [Shutdown()]
    assert row["Listener Action"].endswith(" listener triggered")
    assert first_word(row["Listener Action"]) in names(Shutdown)
    assert row["Handler Output"] == "Cleanup tasks run"
    assert tracked("handler_output", 3) in capsys.readouterr().out.splitlines()
    assert client.portal is None  # "App stops"


def test_row_4(client: TestClient, emitted: list[Event]) -> None:
    row = cells(4)
    assert row["Listener Action"] == "No listener triggered"
    assert row["Handler Output"] == "No action"

    assert client.portal is not None
    client.portal.call(asyncio.sleep, 0.1)  # the loop waits, and does not stop
    assert emitted == []
    assert client.get("/").status_code == 200


def names(event_type: type[Event]) -> list[str]:
    return [getattr(listener, "__name__", "") for listener in listeners(event_type)]


def variable_tracker() -> list[dict[str, str]]:
    return [row.cells for row in table(VARIABLE_TRACKER)]


def tracked(variable: str, step: int) -> str | None:
    """Return what the tracker says of `variable` after `step`; 0 is Start, 4 is Final."""
    [row] = [row for row in variable_tracker() if row["Variable"] == variable]
    cell = list(row.values())[1 + step]
    return None if cell == "None" else quoted(cell)


@pytest.mark.parametrize("step", [0, 4], ids=["start", "final"])
def test_the_tracker_begins_and_ends_with_nothing(step: int) -> None:
    assert tracked("event", step) is None
    assert tracked("handler_output", step) is None


def test_the_tracker_holds_what_the_handlers_return(client: TestClient) -> None:
    assert [row["Variable"] for row in variable_tracker()] == ["event", "handler_output"]
    for step, event in ((1, Startup()), (3, Shutdown())):
        assert tracked("event", step) == type(event).__name__.lower()
        assert tracked("handler_output", step) in asyncio.run(emit(event))
    assert tracked("event", 2) == "request"
    assert client.get("/").json() == {"message": tracked("handler_output", 2)}


@pytest.mark.parametrize(
    "excerpt",
    [excerpt for excerpt in excerpts() if excerpt.file and excerpt.file not in EXERCISES_CHANGE],
    ids=lambda excerpt: f"line {excerpt.line}",
)
def test_an_excerpt_is_in_its_file(excerpt: Excerpt) -> None:
    source = (ROOT / str(excerpt.file)).read_text(encoding="utf-8")

    assert excerpt.code in source, f"TUTORIAL.md, line {excerpt.line}: {excerpt.file} differs"


def test_the_code_of_every_row_is_shown() -> None:
    shown = {excerpt.file for excerpt in excerpts()}

    assert shown >= {
        "app/events.py",
        "app/main.py",
        "app/handlers/startup.py",
        "app/handlers/requests.py",
        "app/handlers/shutdown.py",
        "app/handlers/orders.py",
    }


def test_links_lead_somewhere() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in headings}
    for target in re.findall(r"\]\((.+?)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        else:
            assert (ROOT / target).is_file(), target


def test_the_concept_flow_has_six_boxes() -> None:
    [diagram] = re.findall(r"```mermaid\n(.*?)```", read(), re.DOTALL)

    assert re.findall(r'"(.+?)"', diagram) == [
        "Event Occurs",
        "Event Captured by Listener",
        "Listener Triggers Handler Function",
        "Handler Processes Event",
        "Optional: Emit New Event",
        "Cycle Continues or Ends",
    ]


def test_there_are_three_key_moments() -> None:
    moments = re.findall(r"^#### (.+\?)\n\n((?:.+\n)+)", read(), re.MULTILINE)

    assert [question for question, answer in moments if answer] == [
        "Why doesn't the handler run until the event occurs?",
        "Can one event trigger multiple handlers?",
        "What happens if no event occurs?",
    ]


def test_try_it_a_handler_waits_for_its_event() -> None:
    """What the first key moment has us type: an import prints nothing, the event does."""
    waiting, emitting = block("assert listeners(Startup)"), block("asyncio.run(emit(Startup()))")

    assert typed(waiting) == ""
    assert typed(waiting + emitting) == f"{tracked('handler_output', 1)}\n"


def typed(code: str) -> str:
    """Return what a Python of its own prints when `code` is typed into it."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.usefixtures("empty_bus")
def test_try_it_one_event_triggers_two_handlers() -> None:
    """What the second key moment has us add to app/handlers/orders.py."""
    on(OrderPlaced)(orders.send_receipt)
    exec(block("def count_order"), vars(orders).copy())

    with TestClient(app) as client:
        order = client.post("/orders", json={"item": "tea", "quantity": 2}).json()
    event = OrderPlaced(order_id=order["order_id"], item="tea", quantity=2)

    assert len(asyncio.run(emit(event))) == 2


def test_the_order_that_is_sent_from_a_terminal(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [line] = re.findall(r'^uv run python -c "(.+)"$', TUTORIAL.read_text(encoding="utf-8"), re.M)

    def post(url: str, *, trust_env: bool, **sent: Any) -> Any:
        assert not trust_env  # or a proxy would be asked
        return client.post(url, **sent)

    monkeypatch.setattr(httpx2, "post", post)

    exec(line)

    assert '{"order_id":"' in capsys.readouterr().out


def test_older_code_still_works_and_is_deprecated(capsys: pytest.CaptureFixture[str]) -> None:
    older: dict[str, FastAPI] = {}
    with pytest.warns(DeprecationWarning, match="on_event is deprecated"):
        exec(block("on_event"), older)

    with TestClient(older["app"]):
        assert capsys.readouterr().out == f"{tracked('handler_output', 1)}\n"


def test_older_code_is_never_called_beside_a_lifespan(capsys: pytest.CaptureFixture[str]) -> None:
    app = FastAPI(lifespan=lifespan)
    called = []
    with pytest.warns(DeprecationWarning, match="on_event is deprecated"):
        app.on_event("startup")(lambda: called.append("startup"))

    with TestClient(app):
        assert "App is starting" in capsys.readouterr().out  # the lifespan is
    assert called == []


TABLE = """\
| Step | Event | Listener Action | Handler Output | Next Action |
|---|---|---|---|---|
| 1 | App starts | a | b | c |
| 2 | User sends request | a | b | c |
| 3 | App shuts down | a | b | c |
| 4 | No event | a | b | c |
"""


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("| 5 | Paid | a | b | c |", ""),
        ("| 5 | Paid | a | b |", "the row has 4 cells"),
        ("| 4 | Paid | a | b | c |", "row 4 is 'No event' already; number this one 5"),
        ("| x | Paid | a | b | c |", "number the row 5"),
        ("| 5 | Paid | | b | c |", "nothing under Listener Action"),
    ],
)
def test_a_row_of_your_own_says_what_is_wrong_with_it(
    tmp_path: Path, row: str, problem: str
) -> None:
    file = tmp_path / "TUTORIAL.md"
    file.write_text(f"{TABLE}{row}\n", encoding="utf-8")

    [found] = own_rows(file)

    assert found.line == 7
    assert problem in found.problem
    assert bool(problem) == bool(found.problem)


def test_a_broken_table_says_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "TUTORIAL.md"
    file.write_text(TABLE.replace("App starts", "It starts"), encoding="utf-8")

    with pytest.raises(LessonError, match=r"^TUTORIAL\.md, line 3: .*no row.*'App starts'"):
        given_rows(file)
    with pytest.raises(LessonError, match="the table with the columns C is missing"):
        table(("C",), file)
    assert [row.cells["Event"] for row in given_rows()] == list(GIVEN_ROWS)
