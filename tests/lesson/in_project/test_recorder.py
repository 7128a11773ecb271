"""The lesson's recorder: what happened, as rows of the execution table."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio.from_thread
import pytest
from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient

from app.bus import emit, on
from app.events import Event
from app.main import app as inner
from lesson import recorder
from lesson.course import execution_table
from lesson.live import Watched

COLUMNS = ["step", "event", "listener_action", "handler_output", "next_action"]


class Ping(Event):
    text: str = ""


class Pong(Event):
    pass


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """The app, watched, with a history of its own."""
    with TestClient(Watched(inner, tmp_path)) as client:
        yield client


def steps(client: TestClient) -> list[dict[str, Any]]:
    """Return all recorded steps."""
    return list(client.get("/lesson/steps").json())


def after_start(client: TestClient) -> list[dict[str, Any]]:
    """Return the steps of this run without the first one, Startup."""
    return [step for step in steps(client) if step["type"] != "Startup"]


def restart(folder: Path) -> list[dict[str, Any]]:
    """Return the steps that a new run finds in `folder`, without its own."""
    with TestClient(Watched(FastAPI(), folder)) as client:
        return steps(client)


def app_with(path: str, handler: Any) -> FastAPI:
    """Return an app that has just one route."""
    app = FastAPI()
    app.get(path)(handler)
    return app


def test_rows_are_those_of_the_table(tmp_path: Path) -> None:
    with TestClient(Watched(inner, tmp_path)) as client:
        client.get("/")
        one, two = steps(client)
    three = restart(tmp_path)[-1]

    expected = [list(row.values()) for row in execution_table()]
    assert [str(one[column]) for column in COLUMNS] == expected[0]
    # What is said in general of a request, and of a cleanup, is here what just this one did.
    two["handler_output"] = expected[1][3]
    assert [str(two[column]) for column in COLUMNS] == expected[1]
    assert three["handler_output"] == "Prints 'Cleanup done'"
    three["handler_output"] = expected[2][3]
    assert [str(three[column]) for column in COLUMNS] == expected[2]


def test_a_step_says_when_and_how_long(client: TestClient) -> None:
    client.get("/?q=1")
    one, two = steps(client)

    assert [one["sequence"], two["sequence"]] == [1, 2]
    assert one["run"] == two["run"]
    assert one["time"] < two["time"]
    assert 0 < two["duration"] < 5
    assert two["detail"] == "GET /?q=1"
    assert two["handler_output"] == 'Returns 200 {"message":"Response sent"}'


def test_an_event_stands_under_its_request(client: TestClient) -> None:
    client.post("/orders", json={"item": "tea", "quantity": 2})
    request, event = after_start(client)[:2]

    assert request["next_action"] == "Emits OrderPlaced"
    assert (event["event"], event["cause"]) == ("OrderPlaced", request["sequence"])
    assert event["fields"]["item"] == "tea"


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

    watched_app = Watched(app_with("/", ping), tmp_path)
    with TestClient(watched_app, raise_server_exceptions=False) as client:
        assert client.get("/").status_code == 500
        request, first, second, third = steps(client)

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


@pytest.mark.usefixtures("empty_bus")
def test_what_runs_after_the_response_has_its_request_as_cause(tmp_path: Path) -> None:
    @on(Ping)
    async def later(event: Ping) -> str:
        return "later"

    async def route(tasks: BackgroundTasks) -> None:
        tasks.add_task(emit, Ping())

    with TestClient(Watched(app_with("/", route), tmp_path)) as client:
        client.get("/")
        request, event = steps(client)

    assert request["next_action"] == "Wait for next request"
    assert (event["cause"], event["handler_output"]) == (request["sequence"], "Returns 'later'")


def test_a_request_that_no_handler_takes_says_so(client: TestClient) -> None:
    client.get("/nowhere")
    client.post("/orders", json={})
    nowhere, refused = after_start(client)

    assert nowhere["listener_action"] == "No route handler triggered"
    assert refused["listener_action"] == "Input refused, route handler not triggered"
    assert client.get("/lesson/about").status_code == 200
    assert len(after_start(client)) == 2  # the lesson's own traffic is not recorded


def test_memory_and_file_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LINES", 25)
    monkeypatch.setattr(recorder, "RECENT", 20)
    url = "http://127.0.0.1:8000"
    with TestClient(Watched(inner, tmp_path), base_url=url) as client:
        client.get("/")
        for _ in range(60):
            client.post("/orders", json={"item": "tea", "quantity": 1})
        kept = steps(client)
        with client.websocket_connect("ws://127.0.0.1:8000/lesson/live") as live:
            counted = live.receive_json()["calls"]

    assert len(kept) == 22
    assert [kept[0]["type"], kept[1]["detail"]] == ["Startup", "GET /"]  # the last ones of each
    assert kept[-1]["sequence"] == 122
    names = "place_order", "send_receipt"
    assert [counted[f"app.handlers.orders.{name}"] for name in names] == [60, 60]
    [file] = tmp_path.glob("*.jsonl")
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 25


def test_what_a_person_does_is_written_at_once(client: TestClient, tmp_path: Path) -> None:
    client.get("/first")
    client.get("/second")

    [file] = tmp_path.glob("*.jsonl")
    assert file.read_text(encoding="utf-8").count("\n") == 3


def test_a_torn_line_is_survived(tmp_path: Path) -> None:
    with TestClient(Watched(inner, tmp_path)) as client:
        client.get("/")
    [file] = tmp_path.glob("*.jsonl")
    text = file.read_text(encoding="utf-8")
    file.write_text(text[:-40], encoding="utf-8")  # as kill -9 may leave it

    assert [step["type"] for step in restart(tmp_path)] == ["Startup", "request"]
    nonsense = b'\xff\xfe nonsense\n5\n{"sequence": "?"}\n'
    (tmp_path / "30000101T000000.000000-1.jsonl").write_bytes(nonsense)
    assert restart(tmp_path) == []


def test_only_the_last_run_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "RUNS", 3)
    for _ in range(6):
        with TestClient(Watched(inner, tmp_path)) as client:
            runs = {step["run"] for step in steps(client)}

    assert len(runs) == 2  # the last one and this one
    assert len(list(tmp_path.glob("*.jsonl"))) == 4  # other processes may have theirs here


def test_what_browsers_ask_for_by_themselves_is_no_step(tmp_path: Path) -> None:
    app = app_with("/{path:path}", lambda path: path)  # a route of the app that answers all
    with TestClient(Watched(app, tmp_path)) as client:
        for path in (
            "/favicon.ico",
            "/apple-touch-icon.png",
            "/.well-known/appspecific/com.chrome.devtools.json",
            "/site.webmanifest",
        ):
            assert client.get(path).status_code == 200
        client.get("/favicon.html")
        assert [step["detail"] for step in steps(client)] == ["GET /favicon.html"]


def test_row_2_is_what_a_route_of_the_app_answered(client: TestClient) -> None:
    client.get("/")
    client.post("/orders", json={})
    for path in ("/nowhere", "/docs", "/openapi.json"):
        client.get(path)
    client.options("/")

    rows = {step["detail"]: step["step"] for step in after_start(client)}
    assert rows == {
        "GET /": 2,
        "POST /orders": 2,
        "GET /nowhere": None,
        "GET /docs": None,
        "GET /openapi.json": None,
        "OPTIONS /": None,
    }


@pytest.mark.usefixtures("empty_bus")
def test_what_json_cannot_hold_stops_nothing(tmp_path: Path) -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    @on(Ping)
    async def fails(event: Ping) -> None:
        print("a\ud800b", file=Sink())
        raise Broken

    @on(Ping)
    async def returns(event: Ping) -> str:
        return "\ud800" * 300

    async def ping() -> None:
        with pytest.raises(ExceptionGroup):
            await emit(Ping.model_construct(text="\ud800"))

    with TestClient(Watched(app_with("/", ping), tmp_path)) as client:
        assert client.get("/").status_code == 200
        assert [step["type"] for step in steps(client)] == ["request", "Ping", "Ping"]


class Sink:
    def write(self, text: str) -> int:
        return len(text)


def test_a_full_disk_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with TestClient(Watched(inner, blocked)) as client:
        assert client.get("/").status_code == 200
        assert len(steps(client)) == 2

    assert "Cannot keep the steps of this run" in caplog.text


def test_the_file_holds_what_the_page_shows(client: TestClient, tmp_path: Path) -> None:
    client.post("/orders", json={"item": "t\u00e9\u2028<script>", "quantity": 1})

    [file] = tmp_path.glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert sorted(lines, key=lambda step: step["sequence"]) == steps(client)
