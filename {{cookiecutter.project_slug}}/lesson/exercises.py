"""The exercises: what the app does, seen from outside, tells how far a learner is.

Names do not count. An order is placed, and each new route is asked, while a watcher of the bus
notes what was emitted, what caused it and who heard it.
"""

import contextlib
import inspect
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient

from app import bus
from app.events import Event, OrderPlaced, Shutdown, Startup
from app.main import app
from lesson import sample
from lesson.quiz import Verdict
from lesson.tutorial import execution_table

GIVEN_EVENTS = {Event, Startup, Shutdown, OrderPlaced}
GIVEN_ROUTES = {"GET /", "POST /orders"}
GIVEN_ROWS = {"App starts", "User sends request", "App shuts down", "No event"}


@dataclass(frozen=True)
class Exercise:
    """An exercise: its id, what is to be done, a hint, and the probe that marks it."""

    id: str
    text: str
    hint: str
    probe: Callable[[], Verdict | None]

    def mark(self) -> Verdict:
        """Run the app and return how far it is; a crash of the app is raised as it is."""
        return self.probe() or Verdict("not yet", self.hint)


@dataclass
class Step:
    """An event that was emitted, the step in which that was done, and who heard it."""

    event: Event
    cause: "Step | None"
    heard: list[bus.Listener] = field(default_factory=list)

    @property
    def new(self) -> bool:
        return type(self.event) not in GIVEN_EVENTS


@dataclass
class Run:
    """What one request did."""

    request: str
    status: int
    answer: str
    steps: list[Step]
    printed: str


class _Recorder(bus.Middleware):
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.current: ContextVar[Step | None] = ContextVar("current", default=None)

    def emitted(self, event: Event) -> None:
        self.steps.append(Step(event, self.current.get()))

    async def dispatch(self, call_next: bus.CallNext, listener: bus.Listener, event: Event) -> Any:
        step = next(step for step in reversed(self.steps) if step.event is event)
        step.heard.append(listener)
        token = self.current.set(step)
        try:
            return await call_next(event)
        finally:
            self.current.reset(token)


def second_listener() -> Verdict | None:
    """Mark exercise 1: an order is heard by more than the receipt."""
    run = _order(quantity=2)
    order = next((step for step in run.steps if isinstance(step.event, OrderPlaced)), None)
    if run.status != 201 or order is None:
        return Verdict("wrong", "An order is no longer taken. Expected: it is, and is an event.")
    if json.loads(run.answer)["order_id"] not in run.printed:
        return Verdict("wrong", "An order gets no receipt. Expected: the receipt, and one more.")
    if len(order.heard) > 1:
        return Verdict("right", f"An order is heard by {len(order.heard)} handlers.")
    if _misplaced():
        return Verdict(
            "wrong",
            "You wrote a function that no order runs. Expected: an order is heard by two,"
            " the receipt and yours.",
        )
    return None


def chain() -> Verdict | None:
    """Mark exercise 2: a big order is followed by an event that somebody hears."""
    many, few = _order(quantity=10), _order(quantity=9)
    followers = [step for step in many.steps if step.cause]
    expected = "Expected: a handler that hears an order for 10 emits an event of its own"
    if not any(step.new for step in followers):
        if any(step.new for step in many.steps):
            return Verdict(
                "wrong", f"The route of the order itself emits a second event. {expected}."
            )
        if followers:
            return Verdict(
                "wrong", f"An order for 10 is followed by an event of the old ones. {expected}."
            )
        if _unused_events() and not _third_is_begun():
            return Verdict(
                "wrong",
                "There is an event of yours that an order for 10 does not make happen."
                f" {expected}, and waits until it was heard.",
            )
        return None
    if not any(step.new and step.heard for step in followers):
        return Verdict(
            "wrong",
            "An order for 10 is followed by a second event, and nobody hears it."
            " Expected: another handler does.",
        )
    if any(step.new for step in few.steps):
        return Verdict(
            "wrong",
            "An order for 9 is followed by a second event too. Expected: only from 10 on.",
        )
    return Verdict("right", "An order for 10 is followed by an event, and somebody hears it.")


def made() -> Verdict | None:
    """Mark exercise 3: a new request makes a new event happen, that is heard and has its row."""
    used = {type(step.event) for step in _order(quantity=10, raises=False).steps}
    rows = [row for row in execution_table() if row["Event"] not in GIVEN_ROWS]
    wrong = ""
    for run in _new_routes(raises=True):
        for step in run.steps:
            if step.cause is None and type(step.event) not in used | GIVEN_EVENTS and step.heard:
                if not rows:
                    return Verdict(
                        "wrong",
                        f"{run.request} makes an event happen, and somebody hears it."
                        " Expected: also a row of its own in the execution table of TUTORIAL.md.",
                    )
                complaint = _complaint(rows, step, run)
                if not complaint:
                    return Verdict("right", f"{run.request} makes an event happen, with its row.")
                return Verdict("wrong", complaint)
        if run.request.startswith("GET ") and not any(step.new for step in run.steps):
            continue  # to ask for something is no event
        if run.status >= 400:
            wrong = (
                f"{run.request} was answered with {run.status}, {run.answer[:200]}. Expected: the"
                " request succeeds. The check makes up a value for each field; if yours must be"
                " special, say examples=[...] in its Field."
            )
        elif any(step.new and step.cause is None and not step.heard for step in run.steps):
            wrong = f"{run.request} makes an event happen, and nobody hears it. Expected: one does."
        elif any(step.cause is None for step in run.steps):
            wrong = (
                f"{run.request} makes an event happen that the app had before."
                " Expected: a new kind of event, its own."
            )
        else:
            wrong = f"{run.request} is answered, and no event happens. Expected: it makes one."
    if wrong:
        return Verdict("wrong", wrong)
    if rows:
        return Verdict(
            "wrong",
            f"The execution table has a row for '{rows[0]['Event']}', and no new request makes"
            " it happen. Expected: a request does.",
        )
    if _unused_events() and used - GIVEN_EVENTS:
        return Verdict(
            "wrong", "There is an event of yours that no request makes happen. Expected: one does."
        )
    return None


EXERCISES = (
    Exercise(
        "exercise1",
        "Modify: let a second handler hear an order",
        "in app/handlers/stock.py, write a function with @on(OrderPlaced) above it.",
        second_listener,
    ),
    Exercise(
        "exercise2",
        "Modify: let an order for 10 or more emit an event of your own",
        "write its class in app/events.py, `await emit(...)` it in app/handlers/stock.py,"
        " and let another function hear it.",
        chain,
    ),
    Exercise(
        "exercise3",
        "Make: an event, its handler, its route and its row",
        "write the class in app/events.py, handler and route in a new file in app/handlers/,"
        " and the row in TUTORIAL.md.",
        made,
    ),
)


def _order(quantity: int, raises: bool = True) -> Run:
    order = {"item": "tea", "quantity": quantity}
    return _run("POST /orders", raises, url="/orders", json=order)


def _run(request: str, raises: bool, **details: Any) -> Run:
    """Send a request to the started app; if `raises`, a crash in it is raised as it is."""
    recorder = _Recorder()
    with (
        contextlib.redirect_stdout(io.StringIO()),  # of start and shutdown
        TestClient(app, raise_server_exceptions=raises) as client,
        contextlib.redirect_stdout(io.StringIO()) as printed,
        recorder,
    ):
        response = client.request(request.partition(" ")[0], **details)
    return Run(request, response.status_code, response.text, recorder.steps, printed.getvalue())


def _new_routes(raises: bool) -> Iterator[Run]:
    """Ask each route that the app did not have before; yield what that did."""
    document = app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            request = f"{method.upper()} {path}"
            if request not in GIVEN_ROUTES:
                yield _run(request, raises, **sample.request(path, operation, document))


def _complaint(rows: list[dict[str, str]], step: Step, run: Run) -> str:
    """Return what is wrong with the row of a new event, or nothing."""
    names = {getattr(listener, "__name__", "") for listener in step.heard}
    for row in rows:
        if not names & set(re.findall(r"\w+", row["Listener Action"])):
            continue
        if not all(row.values()):
            return f"Row {row['Step']} of the execution table has an empty cell. Expected: none."
        quoted = re.findall(r"'([^']+)'", row["Handler Output"])
        if missing := [text for text in quoted if text not in run.printed]:
            return (
                f"Row {row['Step']} of the execution table says that '{missing[0]}' is put out,"
                f" and {run.request} does not print it. Expected: the table says what happens."
            )
        return ""
    return (
        f"{run.request} runs a handler that no row of the execution table names."
        " Expected: the listener action of its row does, as in rows 1 and 3."
    )


def _unused_events() -> list[type[Event]]:
    """Return the learner's events that neither an order nor a new request makes happen."""
    runs = [_order(quantity=10, raises=False), *_new_routes(raises=False)]
    used = {type(step.event) for run in runs for step in run.steps}
    return [
        event
        for event in _subclasses(Event)
        if event.__module__.startswith(("app.events", "app.handlers."))
        and event not in used | GIVEN_EVENTS
        and not event.__subclasses__()
    ]


def _third_is_begun() -> bool:
    """Tell whether the one event that nothing makes happen belongs to exercise 3, not to 2."""
    runs = [run for run in _new_routes(raises=False) if not run.request.startswith("GET ")]
    if len(_unused_events()) != 1 or any(step.new for run in runs for step in run.steps):
        return False
    return bool(runs) or any(row["Event"] not in GIVEN_ROWS for row in execution_table())


def _subclasses(event: type[Event]) -> Iterator[type[Event]]:
    for subclass in event.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _misplaced() -> bool:
    """Tell whether a function of app/handlers/ waits for nothing, or for the wrong event."""
    if len(bus.listeners(Startup)) > 1 or len(bus.listeners(Shutdown)) > 1:
        return True
    events: list[type[Event]] = [Event, *_subclasses(Event)]
    waiting = {route.endpoint for route in iter_route_contexts(app.routes)}
    waiting |= {listener for event in events for listener in bus.listeners(event)}
    for name, module in sorted(sys.modules.items()):
        if not name.startswith("app.handlers.") or not module.__file__:
            continue
        source = re.sub("#.*", "", Path(module.__file__).read_text(encoding="utf-8"))
        for value in vars(module).values():
            if (
                inspect.isfunction(value)
                and value.__module__ == name
                and value not in waiting
                and len(re.findall(rf"\b{value.__name__}\b", source)) == 1
            ):
                return True
    return False
