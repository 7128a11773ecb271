"""The lesson's recorder: what happened, as rows of the execution table."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.from_thread
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient

from app.bus import emit, on
from app.events import Event
from app.main import app as inner
from lesson import recorder
from lesson.course import given_rows
from lesson.live import Watched
from support.cases import cases

COLUMNS = ["step", "event", "listener_action", "handler_output", "next_action"]
REQUESTS = cases(__file__, "requests")


class Ping(Event):
    text: str = ""


class Pong(Event):
    pass


def steps(client: TestClient) -> list[dict[str, Any]]:
    """Return all recorded steps."""
    return list(client.get("/lesson/steps").json())


def steps_of(app: FastAPI, folder: Path, status: int = 200) -> list[dict[str, Any]]:
    """Return the steps after a request to an app; and those that it found in `folder`."""
    with TestClient(Watched(app, folder), raise_server_exceptions=False) as client:
        assert client.get("/").status_code == status
        return steps(client)


def app_with(handler: Any) -> FastAPI:
    """Return an app that has just one route, `/`."""
    app = FastAPI()
    app.get("/")(handler)
    return app


def test_rows_are_those_of_the_table(tmp_path: Path) -> None:
    with TestClient(Watched(inner, tmp_path)) as client:
        client.get("/?q=1")
        one, two = steps(client)
    three = steps_of(FastAPI(), tmp_path, 404)[-2]

    expected = [list(row.cells.values()) for row in given_rows()]
    assert [str(one[column]) for column in COLUMNS] == expected[0]
    for step, row in ((two, expected[1]), (three, expected[2])):  # which say the output in general
        cells = [str(step[column]) for column in COLUMNS if column != "handler_output"]
        assert cells == row[:3] + row[4:]
    assert two["handler_output"] == 'Returns 200 {"message":"Response sent"}'
    assert three["handler_output"] == "Prints 'Cleanup done'"
    assert [one["sequence"], two["sequence"]] == [1, 2]
    assert one["run"] == two["run"]
    assert one["time"] <= two["time"]  # the same, by the clock of some systems
    assert 0 < two["duration"] < 5
    assert two["detail"] == "GET /?q=1"


@pytest.mark.usefixtures("empty_bus")
def test_every_listener_has_a_row(tmp_path: Path) -> None:
    @on(Ping)
    async def broken(event: Ping) -> None:
        raise ValueError("no tea")

    @on(Ping)
    def answer(event: Ping) -> None:
        print("answering")
        anyio.from_thread.run(emit, Pong())

    async def ping() -> None:
        await emit(Ping(text="x" * 500))

    request, first, second, third = steps_of(app_with(ping), tmp_path, 500)

    assert first["listener_action"] == "broken listener triggered"
    assert first["handler_output"] == "Fails: ValueError: no tea"
    assert (first["failed"], second["failed"]) == (True, False)
    assert second["listener_action"] == "answer listener triggered"
    assert second["handler_output"] == "Prints 'answering'"
    assert second["next_action"] == "Emits Pong"
    assert third["listener_action"] == "No listener triggered"
    assert [step["cause"] for step in (request, first, second, third)] == [None, 1, 1, 3]
    assert (request["failed"], request["next_action"]) == (True, "Emits Ping")
    assert request["handler_output"].startswith("Fails: ExceptionGroup: Ping: 1 of 2")
    assert len(first["detail"]) < 300
    assert first["fields"] == {"text": "x" * 500}


@pytest.mark.usefixtures("empty_bus")
def test_what_runs_after_the_response_has_its_request_as_cause(tmp_path: Path) -> None:
    @on(Ping)
    async def later(event: Ping) -> str:
        return "later"

    async def route(tasks: BackgroundTasks) -> None:
        tasks.add_task(emit, Ping())

    request, event = steps_of(app_with(route), tmp_path)

    assert request["next_action"] == "Wait for next request"
    assert (event["cause"], event["handler_output"]) == (request["sequence"], "Returns 'later'")


def test_row_2_is_what_a_route_of_the_app_answered(tmp_path: Path) -> None:
    with TestClient(Watched(inner, tmp_path)) as client:
        for request in REQUESTS:
            client.request(*request.split(), json={})
        rows = {step["detail"]: step for step in steps(client) if step["type"] != "Startup"}

    said = {detail: [row["step"] or 0, row["listener_action"]] for detail, row in rows.items()}
    assert said == {request: expected for request, expected in REQUESTS.items() if expected}


def test_memory_and_file_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LINES", 25)
    monkeypatch.setattr(recorder, "RECENT", 20)
    url = "http://127.0.0.1:8000"
    with TestClient(Watched(inner, tmp_path), base_url=url) as client:
        client.get("/")
        for _ in range(60):
            client.post("/orders", json={"item": "t\u00e9\u2028", "quantity": 1})
        kept = steps(client)
        with client.websocket_connect("ws://127.0.0.1:8000/lesson/live") as live:
            counted = live.receive_json()["calls"]

    assert 22 <= len(kept) < 25
    assert [kept[0]["type"], kept[1]["detail"]] == ["Startup", "GET /"]  # the last ones of each
    assert kept[-1]["sequence"] == 122
    names = "place_order", "send_receipt"
    assert [counted[f"app.handlers.orders.{name}"] for name in names] == [60, 60]
    [file] = tmp_path.glob("*.jsonl")
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 25


def test_a_torn_line_is_survived(tmp_path: Path) -> None:
    steps_of(inner, tmp_path)
    [file] = tmp_path.glob("*.jsonl")
    text = file.read_text(encoding="utf-8")
    file.write_text(text[:-40], encoding="utf-8")  # as kill -9 may leave it

    assert [step["type"] for step in steps_of(inner, tmp_path)][:2] == ["Startup", "request"]
    nonsense = b'\xff\xfe nonsense\n5\n{"sequence": "?"}\n'
    (tmp_path / "30000101T000000.000000-1.jsonl").write_bytes(nonsense)
    assert len({step["run"] for step in steps_of(inner, tmp_path)}) == 1


def test_only_the_last_run_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "RUNS", 3)
    for _ in range(6):
        runs = {step["run"] for step in steps_of(inner, tmp_path)}

    assert len(runs) == 2  # the last one and this one
    assert len(list(tmp_path.glob("*.jsonl"))) == 4  # other processes may have theirs here


@pytest.mark.usefixtures("empty_bus")
def test_what_json_cannot_hold_stops_nothing(tmp_path: Path) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    @on(Ping)
    async def fails(event: Ping) -> None:
        print("a\ud800b", file=SimpleNamespace(write=len))
        raise Broken

    @on(Ping)
    async def returns(event: Ping) -> str:
        return "\ud800" * 300

    async def ping() -> None:
        with pytest.raises(ExceptionGroup):
            await emit(Ping.model_construct(text="\ud800"))

    found = steps_of(app_with(ping), tmp_path)
    assert [step["type"] for step in found] == ["request", "Ping", "Ping"]


def test_a_full_disk_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    assert len(steps_of(inner, blocked)) == 2
    assert caplog.text.count("Cannot keep the steps of this run") == 1
