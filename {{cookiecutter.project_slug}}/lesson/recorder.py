"""The recorder: one step for each thing that really happens, as a row of the execution table."""

import asyncio
import itertools
import os
import reprlib
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TextIO, TypedDict

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import bus
from app.events import Event, Shutdown, Startup
from app.watch import Watcher, watch
from lesson.history import History

MEMORY = 500  # steps of this run that are kept
AT_ONCE = 20  # steps that are written as they happen ...
BURST = 0.25  # ... in so many seconds; the others of that time are written together after it
LONG = 200  # characters after which a text is cut

# The rows of the execution table in TUTORIAL.md: step, event, next action.
ROWS = {
    Startup: (1, "App starts", "No further events"),
    Shutdown: (3, "App shuts down", "App stops"),
}
REQUEST = (2, "User sends request", "Wait for next request")

shorten = reprlib.Repr()
shorten.maxstring = shorten.maxother = LONG


class Step(TypedDict):
    """One call of a listener, or one event that nobody heard. It is JSON as it stands."""

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


class _Now:
    """A step that is under way."""

    __slots__ = ("began", "cause", "emits", "label", "printed", "sequence", "started", "step")

    def __init__(self, sequence: int, step: int | None, cause: int | None, label: str) -> None:
        self.sequence = sequence
        self.step = step
        self.cause = cause
        self.label = label
        self.emits: dict[str, None] = {}
        self.printed: list[str] = []
        self.began = time.time()
        self.started = time.perf_counter()


_now: ContextVar[_Now | None] = ContextVar("now", default=None)


class _Stdout:
    """Passes on what is printed, and notes it in the step that prints it."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def write(self, text: str) -> int:
        if (now := _now.get()) and len(now.printed) < LONG:
            now.printed.append(text[:LONG])
        return self._stdout.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


class Recorder(Watcher):
    """Turns requests and the bus's events into steps, and keeps them."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.run = ""
        self.earlier: list[Step] = []  # of the runs before this one
        self.running: dict[int, _Now] = {}
        self.calls: Counter[str] = Counter()  # of each listener, by its dotted name, in this run
        self.recorded = 0  # steps in this run, also those that are no longer kept
        self._latest: deque[Step] = deque(maxlen=MEMORY)
        self._landmarks: deque[Step] = deque(maxlen=50)  # rows 1 and 3 outlive any load
        self._sequence = itertools.count(1)
        self._changed: dict[Callable[[], None], asyncio.AbstractEventLoop] = {}
        self._unwritten = 0
        self._burst_began = 0.0
        self._burst = 0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record a run of the app: from before it starts until after it has stopped."""
        self.run = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}-{os.getpid()}"
        self.earlier = self.history.earlier()
        self._sequence = itertools.count(1)
        self.recorded = self._unwritten = 0
        for kept in (self.calls, self.running, self._latest, self._landmarks):
            kept.clear()
        try:
            with watch(self), redirect_stdout(_Stdout(sys.stdout)):
                yield
        finally:
            self._write()

    def steps(self) -> list[Step]:
        """Return the steps of the last runs and of this one, oldest first."""
        return self.earlier + self._kept()

    def latest(self, count: int) -> list[Step]:
        """Return the last `count` steps of this run, in the order in which they ended."""
        return list(self._latest)[-count:] if count else []

    @contextmanager
    def telling(self, changed: Callable[[], None]) -> Iterator[None]:
        """Call `changed` in this event loop whenever a step begins or ends."""
        self._changed[changed] = asyncio.get_running_loop()
        try:
            yield
        finally:
            del self._changed[changed]

    # What is watched: requests, events that nobody hears, calls of listeners.

    async def request(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `app` answer a request, as an ASGI middleware does, and record it."""
        now = self._begin(REQUEST[0], None, f"{scope['method']} {scope['path']}")
        status, body, ended = 0, b"", False

        async def watched_send(message: Message) -> None:
            nonlocal status, body, ended
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                body = body or message.get("body", b"")
                if not message.get("more_body") and status < 500:
                    ended = True  # background tasks may follow; the user has the response
                    self._end_request(now, scope, status, body, None)
            await send(message)

        token = _now.set(now)
        error: BaseException | None = None
        try:
            await app(scope, receive, watched_send)
        except BaseException as raised:
            error = raised
            raise
        finally:
            _now.reset(token)
            if not ended:
                self._end_request(now, scope, status, body, error)

    def emitted(self, event: Event) -> None:
        """Record an event that nobody hears; note it in the step that emits it."""
        if parent := _now.get():
            parent.emits[type(event).__name__] = None
        if not bus.calls[type(event)]:
            now = self._begin_call(event)
            self._end_call(now, event, None, "No action", None)

    async def call(self, listener: bus.Listener, proceed: bus.Listener, event: Event) -> Any:
        """Record one call of a listener."""
        now = self._begin_call(event)
        token = _now.set(now)
        try:
            output = await proceed(event)
        except BaseException as error:
            self._end_call(now, event, listener, f"Fails: {_text_of(error)}", None, failed=True)
            raise
        else:
            did = _did(now, "" if output is None else shorten.repr(output))
            value = output if isinstance(output, str) else shorten.repr(output)
            self._end_call(now, event, listener, did, value[:LONG])
            return output
        finally:
            _now.reset(token)

    # How a step begins, ends and is kept.

    def _begin(self, step: int | None, cause: int | None, label: str) -> _Now:
        now = _Now(next(self._sequence), step, cause, label)
        self.running[now.sequence] = now
        self._tell()
        return now

    def _begin_call(self, event: Event) -> _Now:
        parent = _now.get()
        inherited, cause = (parent.step, parent.sequence) if parent else (None, None)
        step, label, _ = ROWS.get(type(event), (inherited, type(event).__name__, ""))
        return self._begin(step, cause, label)

    def _end_call(
        self,
        now: _Now,
        event: Event,
        listener: bus.Listener | None,
        output: str,
        value: str | None,
        failed: bool = False,
    ) -> None:
        _, label, follows = ROWS.get(type(event), (0, type(event).__name__, "No further events"))
        if listener is None:
            action, name = "No listener triggered", None
        else:
            action = f"{getattr(listener, '__name__', type(listener).__name__)} listener triggered"
            name = bus.name_of(listener)
        if failed:
            follows = "The other listeners still run, then emit raises"
        elif now.emits:
            follows = f"Emits {', '.join(now.emits)}"
        fields, detail = _fields(event)
        self._end(
            now,
            event=label,
            listener_action=action,
            handler_output=output,
            next_action=follows,
            type=type(event).__name__,
            detail=detail,
            value=value,
            failed=failed,
            listener=name,
            fields=fields,
        )

    def _end_request(
        self, now: _Now, scope: Scope, status: int, body: bytes, error: BaseException | None
    ) -> None:
        endpoint = scope.get("endpoint")
        name = f"{endpoint.__module__}.{endpoint.__qualname__}" if endpoint else None
        text = body[:LONG].decode(errors="replace")
        failed = error is not None or status >= 500
        if endpoint is None:
            action = "No route handler triggered"
        elif status == HTTPStatus.UNPROCESSABLE_ENTITY:
            action, name = "Input refused, route handler not triggered", None
        else:
            action = "Route handler triggered"
        output = f"Fails: {_text_of(error)}" if error else _did(now, f"{status} {text}")
        path = f"{scope['path']}?{scope['query_string'].decode(errors='replace')}"
        detail = f"{scope['method']} {path.removesuffix('?')}"[:LONG]
        follows = f"Emits {', '.join(now.emits)}" if now.emits else REQUEST[2]
        self._end(
            now,
            event=REQUEST[1],
            listener_action=action,
            handler_output=output,
            next_action=follows,
            type="request",
            detail=detail,
            value=text,
            failed=failed,
            listener=name,
        )

    def _end(
        self,
        now: _Now,
        *,
        event: str,
        listener_action: str,
        handler_output: str,
        next_action: str,
        type: str,
        detail: str,
        value: str | None,
        failed: bool,
        listener: str | None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        step: Step = {
            "run": self.run,
            "sequence": now.sequence,
            "step": now.step,
            "event": event,
            "listener_action": listener_action,
            "handler_output": handler_output,
            "next_action": next_action,
            "time": datetime.fromtimestamp(now.began, UTC).isoformat(timespec="milliseconds"),
            "duration": round(time.perf_counter() - now.started, 6),
            "cause": now.cause,
            "type": type,
            "detail": detail,
            "value": value,
            "failed": failed,
            "listener": listener,
            "fields": fields,
        }
        self.running.pop(now.sequence, None)
        if listener:
            self.calls[listener] += 1
        self.recorded += 1
        self._unwritten += 1
        self._latest.append(step)
        if type in ("Startup", "Shutdown"):
            self._landmarks.append(step)
        self._keep()
        self._tell()

    def _kept(self) -> list[Step]:
        steps = {step["sequence"]: step for step in (*self._landmarks, *self._latest)}
        return [steps[sequence] for sequence in sorted(steps)]

    def _keep(self) -> None:
        """Write soon: at once for what a person does, together for what a load test does.

        So `kill -9` loses no step that ended, or a quarter of a second of a load test.
        """
        now = time.monotonic()
        if now - self._burst_began > BURST:
            self._burst_began, self._burst = now, 0
        self._burst += 1
        if self._burst <= AT_ONCE:
            self._write()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(BURST, self._write)

    def _write(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        new, self._unwritten = self._unwritten, 0
        if new:
            self.history.add(self.run, self.latest(new), self._kept)

    def _tell(self) -> None:
        for changed, loop in self._changed.items():
            loop.call_soon_threadsafe(changed)


def _did(now: _Now, returned: str) -> str:
    """Say what a handler printed and returned; the same text only once."""
    printed = "".join(now.printed).strip()[:LONG]
    if printed and returned in ("", repr(printed)):
        return f"Prints {printed!r}"
    if printed:
        return f"Prints {printed!r}, returns {returned}"
    return f"Returns {returned}" if returned else "Returns nothing"


def _text_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:LONG]


def _fields(event: Event) -> tuple[dict[str, Any] | None, str]:
    """Return an event's fields as JSON has them, or None if it has no such, and as one line."""
    try:
        fields = event.model_dump(mode="json")
        length = len(event.model_dump_json())
    except ValueError:
        return None, shorten.repr(event)
    line = ", ".join(f"{name}={shorten.repr(value)}" for name, value in fields.items())
    return (fields if length <= 10 * LONG else None), line[: 2 * LONG]
