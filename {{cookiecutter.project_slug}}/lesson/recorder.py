"""The recorder: sees requests and the bus's events, and keeps a step for each."""

import asyncio
import itertools
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import bus
from app.events import Event, Shutdown, Startup
from app.watch import Watcher, watch
from lesson.history import History
from lesson.steps import LONG, Call, Request, Step, UnderWay

MEMORY = 200  # steps of this run that are kept
AT_ONCE = 20  # steps that are written as they end ...
BURST = 1.0  # ... in so many seconds; what comes on top of them waits for their end

_now: ContextVar[UnderWay | None] = ContextVar("now", default=None)


class _Stdout:
    """Passes on what is printed, and notes it in the step that prints it."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def write(self, text: str) -> int:
        if (now := _now.get()) and not now.ended:
            now.printed = (now.printed + text)[:LONG]
        return self._stdout.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


class Recorder(Watcher):
    """Turns what happens into steps: the last of this run in memory, all runs in `history`."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.run = ""
        self.ended = 0  # steps of this run, also those that are no longer kept
        self.running: dict[int, Request | Call] = {}
        self._earlier: list[Step] = []
        self._latest: deque[Request | Call] = deque(maxlen=MEMORY)
        self._landmarks: deque[Call] = deque(maxlen=50)  # rows 1 and 3 outlive any load
        self._calls: Counter[bus.Listener] = Counter()
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
        self._earlier = self.history.earlier()
        self._sequence = itertools.count(1)
        self.ended = self._unwritten = self._burst = 0
        for kept in (self.running, self._latest, self._landmarks, self._calls):
            kept.clear()
        try:
            with watch(self), redirect_stdout(_Stdout(sys.stdout)):
                yield
        finally:
            self._write()

    def steps(self) -> list[Step]:
        """Return the steps of the last runs and of this one, oldest first."""
        return self._earlier + self._kept()

    def latest(self, count: int) -> list[Step]:
        """Return the last `count` steps of this run, in the order in which they ended."""
        first = max(0, len(self._latest) - count)
        return [step.as_step(self.run) for step in itertools.islice(self._latest, first, None)]

    def calls(self) -> dict[str, int]:
        """Return how often each listener was called in this run, by its dotted name."""
        return {bus.name_of(listener): count for listener, count in self._calls.items()}

    @contextmanager
    def telling(self, changed: Callable[[], None]) -> Iterator[None]:
        """Call `changed` in this event loop whenever a step begins or ends."""
        self._changed[changed] = asyncio.get_running_loop()
        try:
            yield
        finally:
            del self._changed[changed]

    # What is seen: requests, events that nobody hears, calls of listeners.

    async def request(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let `app` answer a request, as an ASGI middleware does, and record it."""
        now = Request(next(self._sequence), scope)

        async def watched_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                now.status = message["status"]
            elif message["type"] == "http.response.body":
                if not now.body:
                    now.body = message.get("body", b"")[:LONG]
                if not message.get("more_body") and now.status < 500:
                    now.endpoint = scope.get("endpoint")
                    self._end(now)  # the user has the response; background tasks may follow
            await send(message)

        self._begin(now)
        token = _now.set(now)
        try:
            await app(scope, receive, watched_send)
        except BaseException as error:
            now.error = error if not now.ended else now.error
            raise
        finally:
            _now.reset(token)
            if not now.ended:
                now.endpoint = scope.get("endpoint")
                self._end(now)

    def emitted(self, event: Event) -> None:
        """Note an event in the step that emits it; record it if nobody hears it."""
        parent = _now.get()
        name = type(event).__name__
        if parent and not parent.ended and name not in parent.emits:
            parent.emits += (name,)
        if not bus.calls[type(event)]:
            now = Call(next(self._sequence), event, None, parent)
            self._begin(now)
            self._end(now)

    async def call(self, listener: bus.Listener, proceed: bus.Listener, event: Event) -> Any:
        """Record one call of a listener."""
        now = Call(next(self._sequence), event, listener, _now.get())
        self._begin(now)
        token = _now.set(now)
        try:
            output = await proceed(event)
            now.returned(output)
            return output
        except BaseException as error:
            now.error = error
            raise
        finally:
            _now.reset(token)
            self._end(now)

    # How a step begins, ends and is kept.

    def _begin(self, now: Request | Call) -> None:
        self.running[now.sequence] = now
        if self._changed:
            self._tell()

    def _end(self, now: Request | Call) -> None:
        now.end()
        self.running.pop(now.sequence, None)
        if now.listener:
            self._calls[now.listener] += 1
        self._latest.append(now)
        if isinstance(now, Call) and now.event in (Startup, Shutdown):
            self._landmarks.append(now)
        self.ended += 1
        self._unwritten += 1
        if self._timer is None:
            self._write_soon()
        if self._changed:
            self._tell()

    def _kept(self) -> list[Step]:
        steps = {step.sequence: step for step in (*self._landmarks, *self._latest)}
        return [steps[sequence].as_step(self.run) for sequence in sorted(steps)]

    def _write_soon(self) -> None:
        """Write at once what a person makes happen, and what a load test does once a second.

        So kill -9 loses no step that ended, or the last second of a load test. Nothing waits for
        the disk itself: what was written outlives the process, and need not outlive the machine.
        """
        now = time.monotonic()
        if now - self._burst_began > BURST:
            self._burst_began, self._burst = now, 0
        self._burst += 1
        if self._burst <= AT_ONCE:
            self._write()
        else:
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
