"""The recorder: sees requests and the bus's events, and keeps a step for each.

A load test makes thousands of them a second, and must not be slowed down: the first of each second
become steps, the others are only counted.
"""

import asyncio
import itertools
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Coroutine, Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import bus, events
from app.events import Event
from lesson.history import History
from lesson.steps import LANDMARKS, LONG, ROWS, Call, Request, Step, UnderWay, called

MEMORY = 200  # steps of this run that are kept
A_SECOND = 100  # steps that are kept of a second, after those that were written at once
AT_ONCE = 20  # steps that are written as they end; after those, all that is new is written ...
SECOND = 1.0  # ... once in so many seconds, until there was a pause of as many

_now: ContextVar[UnderWay | None] = ContextVar("now", default=None)


class _Stdout:
    """Passes on what is printed, and notes it in the step that prints it."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout
        self.flush = stdout.flush

    def write(self, text: str) -> int:
        now = _now.get()
        if now and not now.ended:
            now.printed = (now.printed + text)[:LONG]
        return self._stdout.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


class Recorder(bus.Middleware):
    """Turns what happens into steps: the last of this run in memory, all runs in `history`."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.run = ""
        self.began = datetime.now(UTC)
        self.ended = 0  # steps of this run, also those that are no longer in memory
        self.running: dict[int, Request | Call] = {}
        self.running_too = 0  # requests that are only counted
        self._earlier: list[Step] = []
        self._fresh: list[Request | Call] = []  # not yet put into words
        self._unwritten: list[Step] = []
        self._only_count = False  # until all that is new is written
        self._latest: deque[Step] = deque(maxlen=MEMORY)
        self._landmarks: deque[Step] = deque(maxlen=50)
        self._calls: Counter[bus.Listener] = Counter()
        self._sequence = itertools.count(1)
        self._pages: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._last_write = 0.0
        self._at_once = 0
        self._timer: asyncio.TimerHandle | None = None

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record a run of the app: from before it starts until after it has stopped."""
        self.began = datetime.now(UTC)
        self.run = f"{self.began:%Y%m%dT%H%M%S.%f}-{os.getpid()}"
        self._earlier = self.history.earlier()
        self._sequence = itertools.count(1)
        self.ended = 0
        self._last_write = 0.0
        for kept in (self.running, self._latest, self._landmarks, self._calls):
            kept.clear()
        try:
            with self, redirect_stdout(_Stdout(sys.stdout)):
                yield
        finally:
            self._write()

    def steps(self) -> list[Step]:
        """Return the steps of the last runs and of this one, oldest first."""
        return self._earlier + self._kept()

    def latest(self, count: int) -> list[Step]:
        """Return the last `count` steps of this run, in the order in which they ended."""
        self._put_into_words()
        first = max(0, len(self._latest) - count)
        return list(itertools.islice(self._latest, first, None))

    def calls(self) -> dict[str, int]:
        """Return how often each listener was called in this run, by its dotted name."""
        return {bus.name_of(listener): count for listener, count in self._calls.items()}

    @contextmanager
    def telling(self, changed: asyncio.Event) -> Iterator[None]:
        """Set `changed`, which belongs to this event loop, whenever a step begins or ends."""
        self._pages[changed] = asyncio.get_running_loop()
        try:
            yield
        finally:
            del self._pages[changed]

    # What is seen: requests, events that nobody hears, calls of listeners.

    def request(
        self, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> Coroutine[Any, Any, None]:
        """Let `app` answer a request, as an ASGI middleware does, and record or count it."""
        see = self._count if self._only_count else self._record
        return see(app, scope, receive, send)

    async def _record(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        now = Request(next(self._sequence), scope)

        def watched_send(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                now.status = message["status"]
            elif message["type"] == "http.response.body":
                now.body = now.body or message.get("body", b"")[:LONG]
                if not message.get("more_body") and now.status < 500:
                    self._end(now)  # the user has the response; background tasks may follow
            return send(message)

        self._begin(now)
        token = _now.set(now)
        try:
            await app(scope, receive, watched_send)
        except BaseException as error:
            if not now.ended:
                now.error = error
            raise
        finally:
            _now.reset(token)
            if not now.ended:
                self._end(now)

    async def _count(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        def watched_send(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            return send(message)

        self.running_too += 1
        try:
            await app(scope, receive, watched_send)
        finally:
            self.running_too -= 1
            if listener := called(scope, status):
                self._calls[listener] += 1
            if self._pages:
                self._tell()

    def emitted(self, event: Event) -> None:
        """Note an event in the step that emits it; record it if nobody is called for it here."""
        if self._only_count and type(event) not in ROWS:
            return
        parent = _now.get()
        name = type(event).__name__
        if parent and not parent.ended and name not in parent.emits:
            parent.emits += (name,)
        away = published(event)
        if away or not bus.listeners(type(event)):
            now = Call(next(self._sequence), event, None, parent)
            now.engine = away
            self._begin(now)
            self._end(now)

    async def dispatch(self, call_next: bus.CallNext, listener: bus.Listener, event: Event) -> Any:
        """Record one call of a listener."""
        if self._only_count and type(event) not in ROWS:  # rows 1 and 3 outlive any load
            self._calls[listener] += 1
            return await call_next(event)
        now = Call(next(self._sequence), event, listener, _now.get())
        self._begin(now)
        token = _now.set(now)
        try:
            output = await call_next(event)
            now.returned(output)
            return output
        except BaseException as error:
            now.error, now.engine = error, published(event)
            raise
        finally:
            _now.reset(token)
            self._end(now)

    # How a step begins, ends and is kept.

    def _begin(self, now: Request | Call) -> None:
        self.running[now.sequence] = now
        if self._pages:
            self._tell()

    def _end(self, now: Request | Call) -> None:
        now.ended = time.perf_counter()
        del self.running[now.sequence]
        if listener := now.listener:
            self._calls[listener] += 1
        self._fresh.append(now)
        self.ended += 1
        if self._timer is None:
            self._write_soon()
        elif len(self._fresh) + len(self._unwritten) >= A_SECOND:
            self._only_count = True
        if self._pages:
            self._tell()

    def _put_into_words(self) -> None:
        steps = [now.as_step(self.run) for now in self._fresh]
        self._fresh.clear()
        self._unwritten += steps
        self._latest += steps
        self._landmarks += [step for step in steps if step["type"] in LANDMARKS]

    def _kept(self) -> list[Step]:
        self._put_into_words()
        steps = {step["sequence"]: step for step in (*self._landmarks, *self._latest)}
        return [steps[sequence] for sequence in sorted(steps)]

    def _write_soon(self) -> None:
        """Write at once what a person makes happen, and what a load test does once a second.

        So kill -9 loses no step that ended, or the last second of a load test. Nothing waits for
        the disk itself: what was written outlives the process, and need not outlive the machine.
        """
        if time.monotonic() - self._last_write > SECOND:
            self._at_once = AT_ONCE
        if self._at_once:
            self._at_once -= 1
            self._write()
        else:
            self._timer = asyncio.get_running_loop().call_later(SECOND, self._write)

    def _write(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._last_write = time.monotonic()
        self._put_into_words()
        if self._unwritten:
            self.history.add(self.run, self._unwritten, self._kept)
            self._unwritten.clear()
        self._only_count = False

    def _tell(self) -> None:
        for changed, loop in self._pages.items():
            if not changed.is_set():
                loop.call_soon_threadsafe(changed.set)


def published(event: Event) -> bool:
    """Return whether `event` goes to a broker, and its listeners are called from there."""
    leaves = getattr(events, "IntegrationEvent", None)
    return bool(leaves and getattr(bus, "publish", None) and isinstance(event, leaves))
