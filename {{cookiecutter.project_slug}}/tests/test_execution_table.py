"""One test for each row of the execution table.

| Step | Event              | Output                     | Next                  |
|------|--------------------|----------------------------|-----------------------|
| 1    | App starts         | prints "App is starting"   | no further events     |
| 2    | User sends request | the response               | wait for next request |
| 3    | App shuts down     | prints "Cleanup done"      | app stops             |
| 4    | No event           | none                       | idle                  |
"""

import time

import pytest
from fastapi.testclient import TestClient

from app.events import Event, Shutdown, Startup
from app.main import app


def test_step_1_app_starts(emitted: list[Event], capsys: pytest.CaptureFixture[str]) -> None:
    with TestClient(app):
        assert emitted == [Startup()]
        assert capsys.readouterr().out == "App is starting\n"


def test_step_2_user_sends_request(client: TestClient, emitted: list[Event]) -> None:
    response = client.get("/")

    assert response.status_code == 200
    assert response.json() == {"message": "Response sent"}
    assert emitted == []  # a request isn't an event of the bus: the route itself listens


def test_step_3_app_shuts_down(emitted: list[Event], capsys: pytest.CaptureFixture[str]) -> None:
    with TestClient(app):
        capsys.readouterr()
        emitted.clear()

    assert emitted == [Shutdown()]
    assert capsys.readouterr().out == "Cleanup done\n"


def test_step_4_no_event(
    client: TestClient, emitted: list[Event], capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()

    time.sleep(0.2)  # the app is up, and nothing happens

    assert emitted == []
    assert capsys.readouterr().out == ""
