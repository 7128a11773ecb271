"""The watched app as `fastapi dev` serves it: what the page may ask, and how it stops."""

import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic_core import to_jsonable_python
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

import lesson
from app.events import Event
from app.main import app as inner
from lesson import course
from lesson.api import LARGEST_BODY
from lesson.live import Watched
from support.cases import cases
from support.processes import Server

ROOT = Path(lesson.__file__).parent.parent
ORDER = {"order_id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "item": "tea", "quantity": 2}
PAGES = cases(__file__, "pages")
REQUESTS = cases(__file__, "requests")
LIVE = "ws://127.0.0.1:8000/lesson/live"

signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    """The app, watched, with a history of its own."""
    with TestClient(Watched(inner, tmp_path), base_url="http://127.0.0.1:8000") as client:
        yield client


def test_the_page_allows_no_script_but_its_own(client: TestClient) -> None:
    for path in ("", "/page.css", "/page.js", "/icon.svg", "/steps", "/about"):
        response = client.get(f"/lesson{path}")
        assert response.status_code == 200, path
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
    assert "content-security-policy" not in client.get("/").headers  # the app is as it was


def send(client: TestClient, fields: Any, name: str = "OrderPlaced", **headers: str) -> Any:
    """Send an event as the page does."""
    body = {"type": name, "fields": fields}
    return client.post("/lesson/events", json=body, headers=headers)


def test_an_event_is_sent_as_its_class_checks_it(client: TestClient, emitted: list[Event]) -> None:
    sent = send(client, ORDER)
    assert (sent.status_code, sent.json()) == (200, {"failures": []})
    made = [to_jsonable_python(event) for event in emitted]
    assert [{name: fields[name] for name in ORDER} for fields in made] == [ORDER]

    refused = send(client, {"order_id": "7", "item": "tea", "quantity": "two", "colour": "red"})
    assert refused.status_code == 422
    at = {error["loc"][0] for error in refused.json()["detail"]}
    assert at == {"order_id", "quantity", "colour"}
    assert client.post("/lesson/events", content=PAGES["nan"]).status_code == 422
    for name in ("Startup", "Shutdown", "Event", "Nothing"):
        assert send(client, {}, name).status_code == 404
    assert send(client, ORDER | {"item": "x" * LARGEST_BODY}).status_code == 413
    assert len(emitted) == 1


def test_the_quiz_is_graded_by_the_server_alone(client: TestClient) -> None:
    def say(id_: str, text: str) -> dict[str, str]:
        return dict(client.post("/lesson/answers", json={"id": id_, "text": text}).json())

    about = client.get("/lesson/about")
    questions = course.questions()
    assert [asked["id"] for asked in about.json()["questions"]] == [each.id for each in questions]
    assert '"right"' not in about.text
    for question in questions:
        for choice in question.choices:
            assert choice.why not in about.text
            state = "right" if choice.letter == question.right else "wrong"
            expected = {"state": state, "sentence": choice.why, "problem": ""}
            assert say(question.id, choice.letter) == expected
            assert course.read_answers()[question.id] == choice.letter
    assert say("q1", "")["state"] == "not yet"
    assert say("q99", "A")["problem"] == "There's no question q99."

    course.ANSWERS.write_text("[quiz]\nq1 = C\n", encoding="utf-8")
    said = say("q1", "C")
    assert said["state"] == "right"
    for problem in (said["problem"], client.get("/lesson/about").json()["problem"]):
        assert problem.startswith("answers.toml, line 2")


@pytest.mark.parametrize("headers", PAGES["foreign"])
def test_a_foreign_page_gets_nothing(
    client: TestClient, emitted: list[Event], headers: dict[str, str]
) -> None:
    assert send(client, ORDER, **headers).status_code == 403
    refused = client.get("/lesson/steps", headers=headers)
    assert refused.status_code == 403
    assert f"LESSON_HOSTS={headers['told']} in its environment" in refused.text
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(LIVE, headers=headers):
        pass
    assert emitted == []


@pytest.mark.parametrize("headers", PAGES["own"])
def test_the_own_page_gets_all(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setenv("LESSON_HOSTS", "other.example, learn.example")
    assert send(client, ORDER, **headers).status_code == 200
    with client.websocket_connect(LIVE, headers=headers) as live:
        assert live.receive_json()["running"] == []


def test_behind_a_proxy_that_takes_a_path_away(tmp_path: Path) -> None:
    watched_app = Watched(inner, tmp_path)
    with TestClient(watched_app, "http://127.0.0.1:8000", root_path="/api") as client:
        assert "Watch your events" in client.get("/api/lesson").text
        client.get("/api/")
        assert client.get("/api/lesson/steps").json()[-1]["detail"] == "GET /"
        with client.websocket_connect("ws://127.0.0.1:8000/api/lesson/live") as live:
            assert live.receive_json()["state"] == "running"


def test_live_tells_what_is_new(client: TestClient) -> None:
    with client.websocket_connect(LIVE) as live:
        assert [step["type"] for step in live.receive_json()["steps"]] == ["Startup"]
        client.get("/")
        while len((news := live.receive_json())["steps"]) == 1:
            pass
        assert [step["detail"] for step in news["steps"]] == ["", "GET /"]
        assert news["calls"]["app.handlers.requests.read_root"] == 1


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A uvicorn that serves the watched app."""
    shutil.copy(Path(__file__).with_name("served.py"), tmp_path)
    command = (sys.executable, "-m", "uvicorn", "served:app")
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    with closing(Server(*command, cwd=ROOT, PYTHONPATH=path, PATIENCE="1")) as server:
        yield server.up("/lesson/icon.svg")


def open_pages(server: Server, count: int, stack: ExitStack) -> list[ClientConnection]:
    """Open as many pages as they would be open in browsers."""
    url = f"ws://127.0.0.1:{server.port}/lesson/live"
    pages = [stack.enter_context(connect(url)) for _ in range(count)]
    for page in pages:
        page.recv(timeout=30)
    return pages


def closed(page: ClientConnection) -> tuple[int | None, dict[str, Any]]:
    """Return the code with which the server closes, and the last news that it sent before."""
    news: dict[str, Any] = {}
    try:
        while True:
            news = json.loads(page.recv(timeout=30))
    except ConnectionClosed as end:
        return end.rcvd.code if end.rcvd else None, news


@signals
@pytest.mark.parametrize("sent", ["INT", "TERM", "STOP INT TERM CONT"])  # stalled, and reloaded
def test_it_stops_at_once_with_20_pages_open(server: Server, sent: str) -> None:
    server.get("/")
    for request in [request for request, seen in REQUESTS.items() if not seen]:
        assert server.request(*request.split())[0] == 200  # browsers send these by themselves
    with ExitStack() as stack:
        pages = open_pages(server, 20, stack)
        for name in sent.split():
            server.send(signal.Signals[f"SIG{name}"])
        server.wait()  # an open page would hold it for ever
        for page in pages:
            code, news = closed(page)
            assert (code, news["state"]) == (1012, "stopped")
            assert news["steps"][-1]["handler_output"] == "Prints 'Cleanup done'"
    assert "Cleanup done" in server.printed()
    assert "Traceback" not in str(server)
    rows = server.up("/lesson/icon.svg").get("/lesson/steps")
    assert [row["step"] for row in rows] == [1, 2, 3, 1]


@signals
def test_a_long_request_is_left_to_the_server(server: Server, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads, ExitStack() as stack:
        stack.callback((tmp_path / "go").touch)
        [page] = open_pages(server, 1, stack)
        answer = threads.submit(server.request, "GET", "/slow")
        server.until(lambda: json.loads(page.recv(timeout=30))["running"])
        server.send(signal.SIGINT)
        assert closed(page)[0] == 1012
        assert server.runs  # it waits for the request, as it does without a lesson
        assert "Cleanup done" not in server.printed()
    assert answer.result()[0] == 200
    server.wait()
    assert "Cleanup done" in server.printed()
