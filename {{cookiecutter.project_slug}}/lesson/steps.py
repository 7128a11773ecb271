"""A step: one call of a listener, as a row of the execution table."""

import reprlib
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypedDict

from pydantic_core import to_json, to_jsonable_python
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
LANDMARKS = [event_type.__name__ for event_type in ROWS]

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
    """What every step notes while it runs: next to nothing, as a load test makes thousands a second.

    `as_step` puts it into words, once, when somebody reads it or when it is written.
    """

    step: int | None = None
    cause: int | None = None
    emits: tuple[str, ...] = ()
    printed = ""
    error: BaseException | None = None
    ended = 0.0  # on the clock of `started`; 0 while it runs

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.began = time.time()
        self.started = time.perf_counter()

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

    def duration(self) -> float:
        """Return how long it ran, in seconds."""
        return round(self.ended - self.started, 6)


class Request(UnderWay):
    """A request."""

    step = REQUEST[0]
    status = 0
    body = b""

    def __init__(self, sequence: int, scope: Scope) -> None:
        super().__init__(sequence)
        self.scope = scope

    @property
    def label(self) -> str:
        """Return what the page calls it while it runs."""
        return f"{self.scope['method']} {self.scope['path']}"[:LONG]

    @property
    def listener(self) -> bus.Listener | None:
        """Return the route handler, if it was called."""
        return called(self.scope, self.status)

    def as_step(self, run: str) -> Step:
        """Return it as a row."""
        text = self.body.decode(errors="replace")
        query = self.scope["query_string"].decode(errors="replace")
        if self.listener:
            action = "Route handler triggered"
        elif self.scope.get("endpoint"):
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
            "duration": self.duration(),
            "cause": None,
            "type": "request",
            "detail": f"{self.label}{'?' if query else ''}{query}"[:LONG],
            "value": text,
            "failed": self.error is not None or self.status >= 500,
            "listener": bus.name_of(self.listener) if self.listener else None,
            "fields": None,
        }


class Call(UnderWay):
    """One call of a listener, or (with no listener) an event that nobody here is called for."""

    engine = False  # takes care of what comes next, here or in another process
    output = ""  # what the listener returned, as Python writes it, unless it is a text
    value: str | None = None

    def __init__(
        self,
        sequence: int,
        event: Event,
        listener: bus.Listener | None,
        parent: UnderWay | None,
    ) -> None:
        super().__init__(sequence)
        self.event = event
        self.listener = listener
        if parent:
            self.step, self.cause = parent.step, parent.sequence

    @property
    def label(self) -> str:
        """Return what the page calls it while it runs."""
        return type(self.event).__name__

    def returned(self, output: Any) -> None:
        """Note what the listener returned, as it is now."""
        if isinstance(output, str):
            self.value = output
        elif output is not None:
            self.value = self.output = shorten.repr(output)

    def as_step(self, run: str) -> Step:
        """Return it as a row."""
        row = (self.step, self.label, "No further events")
        step, name, otherwise = ROWS.get(type(self.event), row)
        action = "Handed to the engine" if self.engine else "No listener triggered"
        if self.listener:
            called = getattr(self.listener, "__name__", type(self.listener).__name__)
            action = f"{called} listener triggered"
            if self.error is not None and self.engine:
                otherwise = "The engine tries it again, or keeps it as a dead letter"
            elif self.error is not None:
                otherwise = "The other listeners still run, then emit raises"
        elif self.engine:
            otherwise = "Each listener is called, in one of the instances"
        fields, detail = _fields(self.event)
        output = self.output or ("" if self.value is None else shorten.repr(self.value))
        return {
            "run": run,
            "sequence": self.sequence,
            "step": step,
            "event": name,
            "listener_action": action,
            "handler_output": self.did(output) if self.listener else "No action",
            "next_action": self.then(otherwise),
            "time": self.time(),
            "duration": self.duration(),
            "cause": self.cause,
            "type": self.label,
            "detail": detail,
            "value": None if self.value is None else self.value[:LONG],
            "failed": self.error is not None,
            "listener": bus.name_of(self.listener) if self.listener else None,
            "fields": fields,
        }


def called(scope: Scope, status: int) -> bus.Listener | None:
    """Return the route handler; None if there is no such route, or if the input is refused."""
    return None if status == HTTPStatus.UNPROCESSABLE_ENTITY else scope.get("endpoint")


def _fields(event: Event) -> tuple[dict[str, Any] | None, str]:
    """Return an event's fields as JSON has them, None if it has no such; and as one line."""
    try:
        fields = to_jsonable_python(event)
        length = len(to_json(event))
    except ValueError:
        return None, shorten.repr(event)
    line = ", ".join(f"{name}={shorten.repr(value)}" for name, value in fields.items())
    return (fields if length <= 10 * LONG else None), line[: 2 * LONG]
