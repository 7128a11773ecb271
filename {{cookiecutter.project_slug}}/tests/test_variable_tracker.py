"""The variable tracker: what two variables hold before and after each step."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.bus import CallNext, Listener, Middleware
from app.events import Event
from app.main import app


class Tracker(Middleware):
    """Keeps the name of the event in hand and the last output of a handler."""

    def __init__(self) -> None:
        self.event: str | None = None
        self.handler_output: str | None = None

    async def dispatch(self, call_next: CallNext, listener: Listener, event: Event) -> Any:
        self.event = type(event).__name__.lower()
        self.handler_output = await call_next(event)
        return self.handler_output


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("event", [None, "startup", "request", "shutdown", None]),
        (
            "handler_output",
            [None, "App is starting", "Response sent", "Cleanup done", None],
        ),
    ],
)
def test_variable(variable: str, expected: list[str | None]) -> None:
    tracker = Tracker()
    values = [getattr(tracker, variable)]  # Start

    with tracker:
        with TestClient(app) as client:
            values.append(getattr(tracker, variable))  # After Step 1
            tracker.event = "request"
            tracker.handler_output = client.get("/").json()["message"]
            values.append(getattr(tracker, variable))  # After Step 2
        values.append(getattr(tracker, variable))  # After Step 3
    tracker = Tracker()
    values.append(getattr(tracker, variable))  # Final: the process and its variables are gone

    assert values == expected
