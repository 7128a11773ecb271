"""What the tests share: the running app, a bus of their own, and what was emitted."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app import bus
from app.events import Event
from app.main import app


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
