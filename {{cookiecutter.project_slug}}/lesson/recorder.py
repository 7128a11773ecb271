"""The recorder: it stands around requests and calls of listeners, and keeps a step of each."""

import asyncio
import itertools
import json
import logging
import os
import re
import reprlib
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from traceback import format_exception_only
from typing import Any, BinaryIO, TextIO

from pydantic_core import to_jsonable_python
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import bus, events
from app.events import Event, Shutdown, Startup

LONG = 200  # characters after which a text is cut
RECENT = 200  # steps of a run that are kept, beside the last one of each listener
LINES = 1000  # of a run's file, after which it's written anew with the steps that are kept
RUNS = 10  # files that are kept
# Rows of the execution table, by the type of an event or of None: step, event, next action.
ROWS: dict[type, tuple[int, str, str]] = {
    Startup: (1, "App starts", "No further events"),
    type(None): (2, "User sends request", "Wait for next request"),
    Shutdown: (3, "App shuts down", "App stops"),
}
# What browsers ask for by themselves: nobody's event.
BY_ITSELF = re.compile(
    r"/(favicon\.ico|apple-touch-icon.*\.png|\.well-known/.*|robots\.txt|browserconfig\.xml"
    r"|(site\.web)?manifest(\.json)?)"
)

Row = dict[str, Any]  # a step that has ended, as JSON
shorten = reprlib.Repr()
shorten.maxstring = shorten.maxother = LONG


@dataclass(eq=False)
class Step:
    """A request, or one call of a listener, as a row of the execution table."""

    run: str  # which life of the app: when it began, and its process
    sequence: int  # 1, 2, 3 ... in the order in which the steps of a run began
    type: str  # the event's class, or "request"
    detail: str  # what the event holds, or the request's method and path
    event: str
    step: int | None = None  # the row of the execution table; None for what no row is about
    cause: int | None = None  # the sequence of the step in which it was emitted
    listener: str | None = None  # its dotted name
    listener_action: str = "No listener triggered"
    handler_output: str = "No action"
    next_action: str = "No further events"
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    duration: float = 0.0  # seconds
    value: str | None = None  # what the handler returned
    failed: bool = False
    fields: dict[str, Any] | None = None  # with which the event can be emitted again
    attempt: int | None = None  # 1, 2, 3 ... of an event that the broker delivers
    _started: float = field(default_factory=perf_counter)
    _printed: str = ""
    _emits: tuple[str, ...] = ()
    _ended: bool = False

    def did(self, returned: str, error: BaseException | None) -> None:
        """Note what the handler printed and returned (the same text once), or how it failed."""
        printed = self._printed.strip()
        output = f"Prints {printed!r}" if printed else f"Returns {returned or 'nothing'}"
        if printed and returned not in ("", repr(printed)):
            output += f", returns {returned}"
        if error is not None:
            output, self.failed = f"Fails: {_cut(format_exception_only(error)[0].strip())}", True
        self.handler_output = output

    def row(self) -> Row:
        """Return it as JSON."""
        return {name: value for name, value in vars(self).items() if name[0] != "_"}


_now: ContextVar[Step | None] = ContextVar("now", default=None)


class _Stdout:
    """Passes on what is printed, and notes it in the step that prints it."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def write(self, text: str) -> int:
        now = _now.get()
        if now and not now._ended:
            now._printed = _cut(now._printed + text)
        return self._stdout.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


@dataclass(eq=False)
class Page:
    """An open page, which is told that something changed."""

    seen: int = 0  # steps that it has
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)


class Recorder(bus.Middleware):
    """Keeps the last steps of this run in memory and in a file, and reads those of others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages: set[Page] = set()
        self.began = datetime.now(UTC)
        self.run = f"{self.began:%Y%m%dT%H%M%S.%f}-{os.getpid()}"
        self.state = "running"  # then: stopping, stopped
        self.ended = 0  # steps, also those that aren't kept
        self.calls: Counter[str] = Counter()  # of each listener, by its dotted name
        self.running: dict[int, Step] = {}
        self._sequence = itertools.count(1)
        self._recent: deque[Row] = deque(maxlen=RECENT)
        self._last: dict[tuple[str, str | None], Row] = {}  # by event and listener
        self._earlier: list[Row] = []
        self._file: BinaryIO | None = None
        self._lines = 0

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record a run of the app: from before it starts until after it has stopped."""
        files = sorted(self.folder.glob("*.jsonl"))
        with suppress(OSError):  # on Windows another process may have one open: the next time then
            self._earlier = _read(files[-1], files[-1].stat().st_mtime) if files else []
            for file in files[:-RUNS]:
                file.unlink()
        with ExitStack() as stack:
            try:
                self.folder.mkdir(exist_ok=True)
                file = self.folder / f"{self.run}.jsonl"
                self._file = stack.enter_context(file.open("wb", buffering=0))
            except OSError as error:
                self._give_up(error)
            stack.enter_context(self)
            stack.enter_context(redirect_stdout(_Stdout(sys.stdout)))
            yield

    def kept(self) -> list[Row]:
        """Return the steps of this run that are kept, oldest first."""
        kept = {row["sequence"]: row for row in (*self._last.values(), *self._recent)}
        return [row for _, row in sorted(kept.items())]

    def steps(self) -> list[Row]:
        """Return the steps of the last run and of this one, oldest first."""
        return self._earlier + self.kept()

    def since(self, seen: int) -> list[Row]:
        """Return the steps that ended after the first `seen` ones, as far as they are kept."""
        return list(self._recent)[-count:] if (count := self.ended - seen) else []

    def others(self, all_runs: bool = False) -> list[Row]:
        """Return the last steps of other processes since this run began, or of all kept runs."""
        rows = []
        for file in self.folder.glob("*.jsonl"):
            with suppress(OSError):  # it's gone: another process has started and tidied up
                written = file.stat().st_mtime
                if file.stem != self.run and (all_runs or written >= self.began.timestamp()):
                    rows += _read(file, written)
        return rows

    async def request(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `app` answer a request, as an ASGI middleware does, and record it."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if BY_ITSELF.fullmatch(path):
            return await app(scope, receive, send)
        query = scope["query_string"].decode(errors="replace")
        now = self._begin(None, _cut(f"{scope['method']} {path}{'?' * bool(query)}{query}"))
        status, body = 0, b""

        async def watched_send(message: Message) -> None:
            nonlocal status, body
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                body = body or message.get("body", b"")[:LONG]
                if not message.get("more_body") and status < 500:
                    end()  # the user has the response; background tasks may follow
            await send(message)

        def end(error: BaseException | None = None) -> None:
            if not now._ended:
                _note_route(now, scope, status, body)
                now.value, now.failed = _cut(body.decode(errors="replace")), status >= 500
                now.did(f"{status} {now.value}", error)
                self._end(now)

        token = _now.set(now)
        try:
            await app(scope, receive, watched_send)
        except BaseException as error:
            end(error)
            raise
        finally:
            _now.reset(token)
            end()

    def emitted(self, event: Event) -> None:
        """Note an event in the step that emits it; record it if no listener is called here."""
        parent, name = _now.get(), type(event).__name__
        if parent and not parent._ended and name not in parent._emits:
            parent._emits += (name,)
        if published(event) or not bus.listeners(type(event)):
            now = self._begin(event)
            if published(event):
                now.listener_action = "Published to the broker"
                now.next_action = "Once it's stored, the broker delivers it to each listener"
            self._end(now)

    async def dispatch(self, call_next: bus.CallNext, listener: bus.Listener, event: Event) -> Any:
        """Record one call of a listener."""
        now = self._begin(event)
        now.listener = bus.name_of(listener)
        called = getattr(listener, "__name__", type(listener).__name__)
        now.listener_action = f"{called} listener triggered"
        now.attempt = attempt_of(event)
        token = _now.set(now)
        try:
            output = await call_next(event)
            text = "" if output is None else shorten.repr(output)
            now.value = _cut(output) if isinstance(output, str) else text or None
            now.did(text, None)
            return output
        except BaseException as error:
            now.did("", error)
            now.next_action = "The other listeners still run, then emit raises"
            if published(event):
                now.next_action = "The broker delivers it again, or it becomes a dead letter"
            raise
        finally:
            _now.reset(token)
            self._end(now)

    def _begin(self, event: Event | None, detail: str = "") -> Step:
        name, fields = "request", None
        if event is not None:
            name, (detail, fields) = type(event).__name__, _fields(event)
        now = Step(self.run, next(self._sequence), name, detail, name, fields=fields)
        if event is not None and (parent := _now.get()):
            now.step, now.cause = parent.step, parent.sequence
        if row := ROWS.get(type(event)):
            now.step, now.event, now.next_action = row
        self.running[now.sequence] = now
        self.tell()
        return now

    def _end(self, now: Step) -> None:
        now._ended = True
        now.duration = round(perf_counter() - now._started, 6)
        if now._emits:
            now.next_action = f"Emits {', '.join(now._emits)}"
        del self.running[now.sequence]
        if now.listener:
            self.calls[now.listener] += 1
        row = self._last[now.type, now.listener] = now.row()
        self._recent.append(row)
        self.ended += 1
        self._write(row)
        self.tell()

    def _write(self, row: Row) -> None:
        """Write a step at once, so that kill -9 loses none that ended; keep the file short."""
        if not self._file:
            return
        rows = [row]
        try:
            if self._lines == LINES:
                self._file.truncate(self._file.seek(0))
                self._lines, rows = 0, self.kept()
            self._file.write("".join(f"{json.dumps(each)}\n" for each in rows).encode())
            self._lines += len(rows)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:  # the disk is full, or not ours
        logging.getLogger(__name__).warning("Cannot keep the steps of this run: %s", error)
        self._file = None

    def tell(self, state: str = "") -> None:
        """Tell all open pages that something changed, such as the `state` of the app."""
        self.state = state or self.state
        for page in tuple(self.pages):
            if not page.changed.is_set():
                page.loop.call_soon_threadsafe(page.changed.set)

    async def told(self) -> None:
        """Wait until all open pages have what there is, half a second at most."""
        for _ in range(50):
            if any(page.seen != self.ended for page in self.pages):
                await asyncio.sleep(0.01)


def connected() -> bool:
    """Return whether a broker carries events from process to process."""
    return getattr(bus, "publish", None) is not None


def published(event: Event) -> bool:
    """Return whether `event` goes to a broker, and its listeners are called from there."""
    return connected() and isinstance(event, getattr(events, "IntegrationEvent", ()))


def attempt_of(event: Event) -> int | None:
    """Return how often a broker has delivered `event` to the listener that has it in hand."""
    # % if cookiecutter.broker != "none"
    if published(event):
        from app.messaging.delivery import attempt_number  # which isn't there without a broker

        return attempt_number.get(None)
    # % endif
    return None


def _note_route(now: Step, scope: Scope, status: int, body: bytes) -> None:
    """Note what a route did with a request, and in which row of the table that is, if in any."""
    endpoint = scope.get("endpoint")
    if endpoint is None or status == 405:
        now.step, now.listener_action = None, "No route handler triggered"
    elif status == 422 and re.match(rb'{"detail": ?\[{"type":', body):  # not the handler's own 422
        now.listener_action = "Input refused, route handler not triggered"
    else:
        now.listener, now.listener_action = bus.name_of(endpoint), "Route handler triggered"
        if now.listener.startswith(("fastapi.", "starlette.", "app.messaging.")):  # /docs, /health
            now.step = None


def _fields(event: Event) -> tuple[str, dict[str, Any] | None]:
    """Return an event's fields as one line; and as JSON has them, None if it has no such."""
    try:
        fields = to_jsonable_python(event)
        length = len(json.dumps(fields, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        return _cut(shorten.repr(event)), None
    line = ", ".join(f"{name}={shorten.repr(value)}" for name, value in fields.items())
    return _cut(line, 2 * LONG), fields if length <= 10 * LONG else None


@lru_cache(maxsize=RUNS)
def _read(file: Path, written: float) -> list[Row]:
    """Return the steps in a run's file, oldest first; `written` says when it changed last."""
    rows = []
    for line in file.read_text("utf-8", errors="replace").splitlines():
        with suppress(ValueError):  # torn, as the last line is after kill -9 or on a full disk
            rows.append(json.loads(line))
    whole = [row for row in rows if isinstance(row, dict) and type(row.get("sequence")) is int]
    return sorted(whole, key=lambda row: int(row["sequence"]))[-RECENT:]


def _cut(text: str, length: int = LONG) -> str:
    """Return the start of `text`, as it can be encoded."""
    return text[:length].encode("utf-8", "replace").decode()
