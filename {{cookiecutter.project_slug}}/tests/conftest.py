"""What the tests share: the running app, a bus of their own, and what was emitted."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app import bus
from app.events import Event
from app.main import app
from app.watch import Watcher, watch


@pytest.fixture
def client() -> Iterator[TestClient]:
    """The started app: Startup is over, Shutdown comes when the test ends."""
    with TestClient(app) as client:
        yield client


@pytest.fixture
def emitted() -> Iterator[list[Event]]:
    """Collects every event that the test causes, in order."""
    events: list[Event] = []

    class Collector(Watcher):
        def emitted(self, event: Event) -> None:
            events.append(event)

    with watch(Collector()):
        yield events


@pytest.fixture
def empty_bus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus on which nobody listens yet; the app's own listeners are back after the test."""
    monkeypatch.setattr(bus, "registered", {})
    monkeypatch.setattr(bus, "calls", type(bus.calls)())
