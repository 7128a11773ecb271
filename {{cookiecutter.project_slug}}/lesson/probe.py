"""The learner's app, run and watched: what a request prints, what it emits, and who listens."""

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from importlib import import_module
from io import TextIOBase
from typing import Any

from fastapi.testclient import TestClient

from lesson import feedback, sample

LIMIT = 8  # seconds that a request, or the start of the app, may compute; waiting counts half
GIVEN_EVENTS = ("IntegrationEvent", "Startup", "Shutdown", "OrderPlaced")
GIVEN_ROUTES = ("GET /", "POST /orders")


@dataclass
class Step:
    """An event, and a listener that was called with it."""

    event: Any
    place: str  # where it was emitted
    cause: "Step | None"  # in which it was
    listener: Any = None  # nobody
    printed: str = ""
    output: Any = None
    error: Any = None  # an exception


@dataclass
class Run:
    request: str
    endpoint: Any = None
    status: int = 500
    body: str = ""
    error: BaseException | None = None
    printed: str = ""
    steps: list[Step] = field(default_factory=list)
    made: list[tuple[Any, str]] = field(default_factory=list)  # events, each with its place

    def failures(self) -> list[Step]:
        return [step for step in self.steps if step.error]

    def prints_receipt(self, listener: Any) -> bool:
        """Return whether `listener` printed the id of an order that it was called for."""
        steps = [step for step in self.steps if step.listener == listener]
        return any(str(getattr(step.event, "order_id", "no id")) in step.printed for step in steps)


class Probe(TextIOBase):
    """The learner's app, watched in a process of its own, which writes notes as JSON and no more."""

    def __init__(self) -> None:
        self.told = os.fdopen(os.dup(1), "w", encoding="utf-8")
        for descriptor in (1, 2):  # what passes by sys.stdout
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        logging.disable()
        self.run = Run("The start of the app")
        self.since = self.used = float("inf")  # when the request in hand began; CPU time by then
        self.loop: asyncio.AbstractEventLoop | None = None
        self.known: dict[str, Any] = {}  # what answers said, for requests that come later
        self.running = 0  # listeners
        self.now: ContextVar[Step | None] = ContextVar("now", default=None)
        threading.Thread(target=self.watch, daemon=True).start()

    def note(self, **facts: Any) -> None:
        print(json.dumps(facts), file=self.told, flush=True)

    def look(self, mark: Callable[["Probe"], None]) -> str:
        """Start the app and call `mark`; return why app/ doesn't start, if it doesn't."""
        self.begin("The start of the app")
        if problem := feedback.unreadable():
            return problem
        sys.stdout = self
        try:
            with TestClient(self.guarded, raise_server_exceptions=False) as self.client:
                if not hasattr(self.events, "OrderPlaced"):
                    return feedback.say("renamed", "app/events.py, line 1")
                mark(self)
                self.begin("The end of the app")
        except (Exception, SystemExit) as error:
            failed = next(iter(self.run.failures()), None)
            reason = (failed and failed.error) or self.run.error or error
            return feedback.explain(reason, feedback.where(failed.listener) if failed else "")
        return ""

    def load(self) -> None:
        """Import the app, and watch its bus."""
        self.bus, self.events, main = map(import_module, ("app.bus", "app.events", "app.main"))
        self.app = main.app
        self.routes = sample.routes_of(self.app)
        self.endpoints = [endpoint for endpoint, _ in self.routes.values()]
        self.note_what_is_made()
        self.bus.Middleware.__enter__(self)  # not its base class: app.bus is imported only now

    def begin(self, request: str, endpoint: Any = None, failing: Any = None) -> Run:
        self.run, self.failing = Run(request, endpoint), failing
        self.note(asking=request)
        self.since, self.used = time.monotonic(), time.process_time()
        return self.run

    def note_what_is_made(self) -> None:
        """Keep each event that's made from now on, to find those that are never emitted."""
        make = self.events.Event.__init__

        def __init__(event: Any, *args: Any, **data: Any) -> None:
            make(event, *args, **data)
            self.run.made.append((event, feedback.caller(sys._getframe(1))))

        __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]
        self.events.Event.__init__ = __init__

    def emitted(self, event: Any) -> None:
        made = [place for each, place in self.run.made if each is event]
        place = next(filter(None, (feedback.caller(sys._getframe()), *made)), "")
        self.run.steps.append(Step(event, place, self.now.get()))

    async def dispatch(self, call_next: Any, listener: Any, event: Any) -> Any:
        step = next(step for step in reversed(self.run.steps) if step.event is event)
        if step.listener:
            step = replace(step, printed="", output=None, error=None)
            self.run.steps.append(step)
        step.listener = listener
        token = self.now.set(step)
        self.running += 1
        try:
            if listener == self.failing:
                raise RuntimeError("The printer is out of paper")
            step.output = await call_next(event)
            return step.output
        except SystemExit as error:  # would end the loop, and the check with it
            step.error = error
            raise RuntimeError("sys.exit()") from None
        except Exception as error:
            step.error = error
            raise
        finally:
            self.running -= 1
            self.now.reset(token)

    def write(self, text: str) -> int:
        if len(self.run.printed) < 10_000:
            self.run.printed += text
            if now := self.now.get():
                now.printed += text
        return len(text)

    async def guarded(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer as the app does, note its error, and survive its sys.exit()."""
        self.loop = asyncio.get_running_loop()
        try:
            if scope["type"] == "lifespan":
                self.load()  # in the thread that runs it, as a server does
            await self.app(scope, receive, send)
        except (Exception, SystemExit) as error:
            self.run.error = error
            raise RuntimeError("The app failed") from error

    def ask(self, request: str, failing: Any = None, **body: Any) -> Run:
        """Send a request, wait for everything that it sets off, and return what it did."""
        endpoint, operation = self.routes.get(request, (None, {}))
        method, _, path = request.partition(" ")
        details = sample.request(path, operation, self.app.openapi(), self.known)
        if body:
            details["json"] = details.get("json", {}) | body
        run = self.begin(request, endpoint, failing)
        response = self.client.request(method, **details)
        run.status, run.body = response.status_code, response.text
        self.wait_for(self.settle)
        with suppress(ValueError):
            if isinstance(said := json.loads(run.body), dict):
                self.known |= {name: value for name, value in said.items() if name.endswith("id")}
        return run

    def order(self, quantity: int, failing: Any = None) -> Run:
        """Place an order for this many packets of tea; a listener may be made to fail."""
        return self.ask("POST /orders", failing, item="tea", quantity=quantity)

    def emit(self, event: Any) -> Run:
        """Emit an event as the page's "Again" does; return what that did."""
        run = self.begin(f"A second {type(event).__name__}")
        self.wait_for(self.bus.emit, event)
        return run

    def wait_for(self, call: Any, *args: Any) -> None:
        with suppress(Exception):  # it's in the run
            self.client.portal.call(call, *args)  # type: ignore[union-attr]
        self.since = self.used = float("inf")

    async def settle(self) -> None:
        for _ in range(200):
            await asyncio.sleep(0.005)
            if not self.running:
                break

    def new_runs(self) -> Iterator[Run]:
        """Call each of the learner's routes once: first those that create, last those that read."""
        for request in sorted(self.routes, key=lambda it: (it[0] in "DG", it.count("{"), it[0])):
            module = self.routes[request][0].__module__
            if request not in GIVEN_ROUTES and module.startswith(("app.handlers", "app.main")):
                yield self.ask(request)

    def watch(self) -> None:
        """Once a request takes too long, say where it hangs, and end this process."""
        while max(time.process_time() - self.used, (time.monotonic() - self.since) / 2) < LIMIT:
            at, used = time.monotonic(), time.process_time()
            time.sleep(0.1)
            if time.process_time() - used > 0.01:  # it computes, too: half of it counts
                self.since += (time.monotonic() - at) / 2
        frames: list[Any] = list(sys._current_frames().values())
        for task in asyncio.all_tasks(self.loop) if self.loop else ():
            coroutine: Any = task.get_coro()
            while coroutine is not None:
                frames.insert(0, getattr(coroutine, "cr_frame", None))
                coroutine = getattr(coroutine, "cr_await", None)
        places = [place for place in map(feedback.caller, frames) if place]
        place = next((place for place in places if "app/main.py" not in place), "")
        self.note(stuck=feedback.say("hangs", place, request=self.run.request))
        os._exit(1)

    def placed(self, run: Run) -> list[Step]:
        """Return the steps of the first order in a run."""
        orders = [step for step in run.steps if isinstance(step.event, self.events.OrderPlaced)]
        return [step for step in orders if step.event is orders[0].event]

    def own_events(self) -> list[Any]:
        given = [getattr(self.events, name, None) for name in GIVEN_EVENTS]
        found = [each for each in sample.below(self.events.Event) if each not in given]
        return [each for each in found if each.__module__.startswith("app.")]

    def own_steps(self, run: Run) -> list[Step]:
        return [step for step in run.steps if type(step.event) in self.own_events()]
