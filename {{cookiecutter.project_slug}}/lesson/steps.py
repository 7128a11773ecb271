"""A step: one call of a listener, as a row of the execution table."""

import reprlib
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypedDict

from starlette.types import Scope

from app import bus
from app.events import Event, Shutdown, Startup

LONG = 200  # characters after which a text is cut

# The rows that TUTORIAL.md has for these: step, event, next action.
ROWS = {
    Startup: (1, "App starts", "No further events"),
    Shutdown: (3, "App shuts down", "App stops"),
}
REQUEST = (2, "User sends request", "Wait for next request")

shorten = reprlib.Repr()
shorten.maxstring = shorten.maxother = LONG


class Step(TypedDict):
    """A step that has ended; it is JSON as it stands."""

    run: str  # which life of the app: when it began, and the process
    sequence: int  # 1, 2, 3 ... in the order in which the steps of a run began
    step: int | None  # the row of the execution table; None for what that does not have
    event: str
    listener_action: str
    handler_output: str
    next_action: str
    time: str  # when it began, ISO 8601, UTC
    duration: float  # seconds
    cause: int | None  # the sequence of the step in which it was emitted
    type: str  # the event's class, or "request"
    detail: str  # what the event holds, or the request's method and path
    value: str | None  # what the handler returned
    failed: bool
    listener: str | None  # its dotted name
    fields: dict[str, Any] | None  # with which the event can be sent again


class UnderWay:
    """What every step notes from its begin to its end; kept small, as requests are many."""

    __slots__ = ("began", "duration", "emits", "ended", "error", "printed", "sequence", "started")

    step: int | None
    cause: int | None
    label: str

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.emits: tuple[str, ...] = ()
        self.printed = ""
        self.error: BaseException | None = None
        self.ended = False
        self.duration = 0.0
        self.began = time.time()
        self.started = time.perf_counter()

    def end(self) -> None:
        """Stop the clock; what it emits or prints from now on does not count."""
        self.duration = time.perf_counter() - self.started
        self.ended = True

    def did(self, returned: str) -> str:
        """Say what the handler printed and returned (the same text once), or how it failed."""
        if self.error is not None:
            return f"Fails: {type(self.error).__name__}: {self.error}"[:LONG]
        printed = self.printed.strip()
        if printed and returned in ("", repr(printed)):
            return f"Prints {printed!r}"
        if printed:
            return f"Prints {printed!r}, returns {returned}"
        return f"Returns {returned}" if returned else "Returns nothing"

    def then(self, otherwise: str) -> str:
        """Say what comes next: the events that it emitted, or `otherwise`."""
        return f"Emits {', '.join(self.emits)}" if self.emits else otherwise

    def time(self) -> str:
        """Return when it began, as ISO 8601."""
        return datetime.fromtimestamp(self.began, UTC).isoformat(timespec="milliseconds")


class Request(UnderWay):
    """A request; put into words only when somebody reads it, which a load test does not."""

    __slots__ = ("body", "endpoint", "method", "path", "query", "status")

    step, cause = REQUEST[0], None

    def __init__(self, sequence: int, scope: Scope) -> None:
        super().__init__(sequence)
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope["query_string"]
        self.endpoint: bus.Listener | None = None
        self.status = 0
        self.body = b""

    @property
    def label(self) -> str:  # type: ignore[override]
        """Return what the page calls it while it runs."""
        return f"{self.method} {self.path}"[:LONG]

    @property
    def listener(self) -> bus.Listener | None:
        """Return the route handler; None if there is no such route, or if the input is refused."""
        return None if self.status == HTTPStatus.UNPROCESSABLE_ENTITY else self.endpoint

    def as_step(self, run: str) -> Step:
        """Return it as a row."""
        text = self.body[:LONG].decode(errors="replace")
        query = self.query.decode(errors="replace")
        if self.listener:
            action = "Route handler triggered"
        elif self.endpoint:
            action = "Input refused, route handler not triggered"
        else:
            action = "No route handler triggered"
        return {
            "run": run,
            "sequence": self.sequence,
            "step": self.step,
            "event": REQUEST[1],
            "listener_action": action,
            "handler_output": self.did(f"{self.status} {text}"),
            "next_action": self.then(REQUEST[2]),
            "time": self.time(),
            "duration": round(self.duration, 6),
            "cause": None,
            "type": "request",
            "detail": f"{self.label}{'?' if query else ''}{query}"[:LONG],
            "value": text,
            "failed": self.error is not None or self.status >= 500,
            "listener": bus.name_of(self.listener) if self.listener else None,
            "fields": None,
        }


class Call(UnderWay):
    """One call of a listener, or (with no listener) an event that nobody hears."""

    __slots__ = ("cause", "detail", "event", "fields", "listener", "output", "step", "value")

    def __init__(
        self,
        sequence: int,
        event: Event,
        listener: bus.Listener | None,
        parent: UnderWay | None,
    ) -> None:
        super().__init__(sequence)
        self.event = type(event)
        self.listener = listener
        self.step, self.cause = (parent.step, parent.sequence) if parent else (None, None)
        self.fields, self.detail = _fields(event)
        self.output = ""
        self.value: str | None = None

    @property
    def label(self) -> str:  # type: ignore[override]
        """Return what the page calls it while it runs."""
        return self.event.__name__

    def returned(self, output: Any) -> None:
        """Note what the listener returned, as it is now."""
        self.output = "" if output is None else shorten.repr(output)
        self.value = output[:LONG] if isinstance(output, str) else self.output or None

    def as_step(self, run: str) -> Step:
        """Return it as a row."""
        step, label, otherwise = ROWS.get(self.event, (self.step, self.label, "No further events"))
        action = "No listener triggered"
        if self.listener:
            name = getattr(self.listener, "__name__", type(self.listener).__name__)
            action = f"{name} listener triggered"
        if self.error is not None:
            otherwise = "The other listeners still run, then emit raises"
        return {
            "run": run,
            "sequence": self.sequence,
            "step": step,
            "event": label,
            "listener_action": action,
            "handler_output": self.did(self.output) if self.listener else "No action",
            "next_action": self.then(otherwise),
            "time": self.time(),
            "duration": round(self.duration, 6),
            "cause": self.cause,
            "type": self.event.__name__,
            "detail": self.detail,
            "value": self.value,
            "failed": self.error is not None,
            "listener": bus.name_of(self.listener) if self.listener else None,
            "fields": self.fields,
        }


def _fields(event: Event) -> tuple[dict[str, Any] | None, str]:
    """Return an event's fields as JSON has them, None if it has no such; and as one line."""
    try:
        fields = event.model_dump(mode="json")
        length = len(event.model_dump_json())
    except ValueError:
        return None, shorten.repr(event)
    line = ", ".join(f"{name}={shorten.repr(value)}" for name, value in fields.items())
    return (fields if length <= 10 * LONG else None), line[: 2 * LONG]
