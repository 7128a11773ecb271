"""The recorder: it wraps requests and calls of listeners, and keeps a step for each."""

import asyncio
import itertools
import json
import logging
import os
import re
import reprlib
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
# % if cookiecutter.broker != "none"
from functools import lru_cache
# % endif
from operator import itemgetter
from pathlib import Path
from time import perf_counter
from traceback import format_exception_only
from typing import Any, BinaryIO, TextIO

from pydantic_core import to_jsonable_python
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# % if cookiecutter.broker == "none"
from app import bus
from app.events import Event, Shutdown, Startup

# % else
from app import bus
from app.events import Event, Shutdown, Startup
from lesson.instances import attempt_of, published

# % endif

LONG = 200  # characters after which a text is cut
RECENT = 200  # steps of a run that are kept, beside the last one of each listener
LINES = 1000  # of a run's file, after which it's rewritten with the steps that are kept
RUNS = 10  # files that are kept
# Rows of the execution table, by the type of an event or of None: step, event, next action.
ROWS: dict[type, tuple[int, str, str]] = {
    Startup: (1, "App starts", "No further events"),
    type(None): (2, "User sends request", "Wait for next request"),
    Shutdown: (3, "App shuts down", "App stops"),
}
# What browsers request on their own: nobody's event.
ICONS = r"favicon\.ico|apple-touch-icon.*\.png|browserconfig\.xml"
BY_ITSELF = re.compile(rf"/({ICONS}|\.well-known/.*|robots\.txt|(site\.web)?manifest(\.json)?)")

Row = dict[str, Any]  # a step that has ended, as JSON
log = logging.getLogger(__name__)
shorten = reprlib.Repr()
shorten.maxstring = shorten.maxother = LONG


@dataclass(eq=False)
class Step:
    """A request, or one call of a listener, as a row of the execution table."""

    run: str  # which run of the app: when it began, and its process
    sequence: int  # 1, 2, 3 ... in the order in which the steps of a run began
    type: str  # the event's class, or "request"
    detail: str  # what the event holds, or the request's method and path
    event: str
    step: int | None = None  # the row of the execution table; None if no row describes it
    cause: int | None = None  # the sequence of the step in which it was emitted
    listener: str | None = None  # its dotted name
    listener_action: str = "No listener triggered"
    handler_output: str = "No action"
    next_action: str = "No further events"
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    duration: float = 0.0  # seconds
    value: str | None = None  # what the handler returned
    failed: bool = False
    fields: dict[str, Any] | None = None  # to emit the event again
    # % if cookiecutter.broker != "none"
    attempt: int | None = None  # 1, 2, 3 ... of an event that the broker delivers
    # % endif
    _started: float = field(default_factory=perf_counter)
    _scope: Scope | None = None  # of a request
    _status: int = 0
    _body: bytes = b""
    _printed: str = ""
    _returned: str | None = None
    _error: BaseException | None = None
    _emits: tuple[str, ...] = ()
    _ended: bool = False

    def end(self) -> None:
        """Note what the handler printed and returned (the same text once), or how it failed."""
        self._ended = True
        self.duration = round(perf_counter() - self._started, 6)
        printed, returned = self._printed.strip(), self._returned
        if self._error is not None:
            error, self.failed = format_exception_only(self._error)[0].strip(), True
            self.handler_output = f"Fails: {_cut(error)}"
        elif returned is not None:
            output = f"Prints {printed!r}" if printed else f"Returns {returned or 'nothing'}"
            more = printed and returned not in ("", repr(printed))
            self.handler_output = f"{output}, returns {returned}" if more else output
        if self._emits:
            self.next_action = f"Emits {', '.join(self._emits)}"

    def row(self) -> Row:
        return {name: value for name, value in vars(self).items() if name[0] != "_"}


_now: ContextVar[Step | None] = ContextVar("now", default=None)


class _Stdout:
    """Passes on what's printed, and notes it in the step that prints it."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def write(self, text: str) -> int:
        now = _now.get()
        if now and not now._ended:
            now._printed = _cut(now._printed + text)
        return self._stdout.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


class Recorder(bus.Middleware):
    """Keeps the last steps of this run in memory and in a file, and reads those of others."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pages: dict[asyncio.Event, int] = {}  # what wakes a page, and the changes it has
        self.loop: Any = None  # of the server
        self.began = datetime.now(UTC)
        self.run = f"{self.began:%Y%m%dT%H%M%S.%f}-{os.getpid()}"
        self.state = "running"  # then: stopping, stopped
        self.changes = 0  # that pages are told of
        self.calls: Counter[str] = Counter()  # of each listener, by its dotted name
        self.running: dict[int, Step] = {}
        self._sequence = itertools.count(1)
        self._rows: list[Row] = []  # what the run's file has
        self._earlier: list[Row] = []  # the last run's
        self._file: BinaryIO | None = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record a run of the app: from before it starts until after it has stopped."""
        self.loop = asyncio.get_running_loop()
        files = sorted(self.folder.glob("*.jsonl"))
        with suppress(OSError):  # on Windows another process may have one open; next time, then
            self._earlier = _read(files[-1]) if files else []
            for file in files[:-RUNS]:
                file.unlink()
        with self, redirect_stdout(_Stdout(sys.stdout)), ExitStack() as stack:
            with self._warned():
                self.folder.mkdir(exist_ok=True)
                file = self.folder / f"{self.run}.jsonl"
                self._file = stack.enter_context(file.open("wb", buffering=0))
            yield

    @contextmanager
    def _warned(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # the disk is full, or not ours
            log.warning("Cannot keep the steps of this run: %s", error)
            self._file = None

    def kept(self) -> list[Row]:
        """Return the steps of this run that are kept, oldest first."""
        last = {(row["type"], row["listener"]): row for row in self._rows[:-RECENT]}
        return sorted([*last.values(), *self._rows[-RECENT:]], key=itemgetter("sequence"))

    def steps(self) -> list[Row]:
        return self._earlier + self.kept()

    # % if cookiecutter.broker != "none"
    def others(self, all_runs: bool = False) -> list[Row]:
        """Return the last steps of other processes since this run began, or of all kept runs."""
        rows = []
        for file in self.folder.glob("*.jsonl"):
            with suppress(OSError):  # it's gone: another process has started and tidied up
                now = file.stat()
                if file.stem != self.run and (all_runs or now.st_mtime >= self.began.timestamp()):
                    rows += _read_once(file, now.st_mtime_ns, now.st_size)
        return rows

    # % endif
    async def request(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `app` answer a request, as an ASGI middleware does, and record it."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if BY_ITSELF.fullmatch(path):
            return await app(scope, receive, send)
        query = scope["query_string"].decode(errors="replace")
        now = self._begin(None, _cut(f"{scope['method']} {path}{'?' * bool(query)}{query}"))
        now._scope = scope

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                now._status = message["status"]
            elif message["type"] == "http.response.body":
                now._body = now._body or message.get("body", b"")[:LONG]
                if not message.get("more_body") and now._status < 500:
                    self._end(now)  # the user has the response; background tasks may follow
            await send(message)

        with self._inside(now):
            await app(scope, receive, watched_send)

    def emitted(self, event: Event) -> None:
        """Note an event in the step that emits it; record it if no listener is called here."""
        parent, name = _now.get(), type(event).__name__
        if parent and not parent._ended and name not in parent._emits:
            parent._emits += (name,)
        # % if cookiecutter.broker != "none"
        if published(event):
            now = self._begin(event)
            now.listener_action = "Published to the broker"
            now.next_action = "Once it's stored, the broker delivers it to each listener"
            self._end(now)
            return
        # % endif
        if not bus.listeners(type(event)):
            self._end(self._begin(event))

    async def dispatch(self, call_next: bus.CallNext, listener: bus.Listener, event: Event) -> Any:
        now = self._begin(event)
        now.listener = bus.name_of(listener)
        now.listener_action = f"{now.listener.rpartition('.')[2]} listener triggered"
        # % if cookiecutter.broker != "none"
        now.attempt = attempt_of(event)
        # % endif
        if_it_fails = "The other listeners still run, then emit raises"
        # % if cookiecutter.broker != "none"
        if published(event):
            if_it_fails = "The broker delivers it again, or it becomes a dead letter"
        # % endif
        with self._inside(now, if_it_fails):
            output = await call_next(event)
            now._returned = "" if output is None else shorten.repr(output)
            now.value = _cut(output) if isinstance(output, str) else now._returned or None
            return output

    @contextmanager
    def _inside(self, now: Step, if_it_fails: str = "") -> Iterator[None]:
        token = _now.set(now)
        self.running[now.sequence] = now
        self.tell()
        try:
            yield
        except BaseException as error:
            now._error, now.next_action = error, if_it_fails or now.next_action
            raise
        finally:
            _now.reset(token)
            del self.running[now.sequence]
            self._end(now)
            self.tell()  # also if it has ended before: what ran in the background is over

    def _begin(self, event: Event | None, detail: str = "") -> Step:
        name, fields = "request", None
        if event is not None:
            name, (detail, fields) = type(event).__name__, _fields(event)
        now = Step(self.run, next(self._sequence), name, detail, name, fields=fields)
        if event is not None and (parent := _now.get()):
            now.step, now.cause = parent.step, parent.sequence
        if row := ROWS.get(type(event)):
            now.step, now.event, now.next_action = row
        return now

    def _end(self, now: Step) -> None:
        if now._ended:
            return
        if now._scope is not None:
            _note_answer(now, now._scope)
        now.end()
        if now.listener:
            self.calls[now.listener] += 1
        rows = [now.row()]
        self._rows += rows
        with self._warned():
            if len(self._rows) > LINES:
                rows = self._rows = self.kept()
                if self._file:
                    self._file.truncate(self._file.seek(0))
            if self._file:  # at once, so that kill -9 loses none that ended
                self._file.write("".join(f"{json.dumps(row)}\n" for row in rows).encode())
        self.tell()

    def tell(self, state: str = "") -> None:
        """Tell all open pages that something changed, such as the `state` of the app."""
        self.state = state or self.state
        self.changes += 1
        for changed in tuple(self.pages):
            self.loop.call_soon_threadsafe(changed.set)

    async def told(self) -> None:
        """Wait until all open pages are up to date, for half a second at most."""
        for _ in range(50):
            if any(seen != self.changes for seen in self.pages.values()):
                await asyncio.sleep(0.01)


def _note_answer(now: Step, scope: Scope) -> None:
    """Note what a route did with a request, and which row of the table that is, if any."""
    now.value, now.failed = _cut(now._body.decode(errors="replace")), now._status >= 500
    now._returned = f"{now._status} {now.value}"
    endpoint = scope.get("endpoint")
    if endpoint is None or now._status == 405:
        now.step, now.listener_action = None, "No route handler triggered"
    elif now._status == 422 and re.match(rb'{"detail": ?\[{"type":', now._body):  # FastAPI's own
        now.listener_action = "Input refused, route handler not triggered"
    else:
        now.listener, now.listener_action = bus.name_of(endpoint), "Route handler triggered"
        if now.listener.startswith(("fastapi.", "starlette.", "app.messaging.")):  # /docs, /health
            now.step = None


def _fields(event: Event) -> tuple[str, dict[str, Any] | None]:
    """Return an event's fields as one line, and as JSON, or None if JSON can't hold them."""
    try:
        fields = to_jsonable_python(event)
        length = len(json.dumps(fields, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        return _cut(shorten.repr(event)), None
    line = ", ".join(f"{name}={shorten.repr(value)}" for name, value in fields.items())
    return _cut(line, 2 * LONG), fields if length <= 10 * LONG else None


def _read(file: Path) -> list[Row]:
    """Return the last steps in a run's file, oldest first."""
    rows = []
    for line in file.read_text("utf-8", errors="replace").splitlines():
        with suppress(ValueError):  # torn, as the last line is after kill -9 or on a full disk
            rows.append(json.loads(line))
    whole = [row for row in rows if isinstance(row, dict) and type(row.get("sequence")) is int]
    return sorted(whole, key=itemgetter("sequence"))[-RECENT:]


# % if cookiecutter.broker != "none"
@lru_cache(maxsize=RUNS)
def _read_once(file: Path, written: int, size: int) -> list[Row]:
    """Read a file again only if it was `written` since; `size` tells two writes in a tick apart."""
    return _read(file)


# % endif
def _cut(text: str, length: int = LONG) -> str:
    """Return the start of `text`, in a form that can be encoded."""
    return text[:length].encode("utf-8", "replace").decode()
