"""How far each exercise is, judged by what the app does: lesson.exercises runs this."""

import inspect
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, FastAPI

from lesson import course
from lesson.course import Verdict, file_of, said_first
from lesson.feedback import FEEDBACK, explain, is_circle, say, where
from lesson.probe import Probe, Run, Step

Mark = str | Verdict | None  # a sentence that says what's wrong, a verdict, or not begun
SHOP = ("app.handlers.orders", "app.handlers.stock")
GIVEN = ("app.handlers.orders", "app.handlers.requests")


def marks(app: Probe) -> Iterator[tuple[str, Mark]]:
    """Yield the id of each exercise and its mark; those about orders first, as a route may hang."""
    broken = unsent(app.run, app.events.Event)  # when it started
    two = app.order(2)
    receipt = find_receipt(app, two)
    used: set[type] = set()
    broken = broken or why_no_order(app, two)
    yield "exercise1", broken or second_listener(app, two, receipt)
    if not broken:
        nine, ten, more = map(app.order, (9, 10, 25))
        used = {type(step.event) for step in ten.steps}
        yield "exercise2", chain(app, two, nine, ten, more, receipt)
        if receipt:
            yield "exercise4", failing_receipt(app, receipt)
            yield "exercise5", duplicate(app, two, receipt)
    try:
        yield "exercise3", own_feature(app, used)
    except course.LessonError as error:
        yield "exercise3", str(error)


def find_receipt(app: Probe, run: Run) -> Any:
    """Return the listener that sends the receipt: send_receipt, or who prints the order's id."""
    calls = [step.listener for step in app.placed(run) if step.listener]
    named = [each for each in calls if name(each) == "send_receipt"]
    return next(iter(named + list(filter(run.prints_receipt, calls))), None)


def why_no_order(app: Probe, run: Run) -> str:
    if not run.endpoint:
        return say("no_route", "app/handlers/orders.py, line 1")
    place = where(run.endpoint)
    if run.endpoint.__module__ != SHOP[0] and (taken := left_out(app)):
        return taken
    if run.error and (is_circle(run.error) or not run.failures()):
        return explain(run.error, run.steps[-1].place if run.steps else place)
    if run.status != 201 and not run.failures():
        placed = app.placed(run) and run.status < 300
        return say("not_201", place, status=run.status) if placed else refusal(run, place)
    if app.placed(run):
        return ""
    return unsent(run, app.events.OrderPlaced) or say("no_order", place, who=name(run.endpoint))


def second_listener(app: Probe, run: Run, receipt: Any) -> Mark:
    """Exercise 1: more than the receipt listens to an order."""
    if receipt is None:
        gone = getattr(sys.modules.get(SHOP[0]), "send_receipt", None)
        place = where(gone) if gone else "app/handlers/orders.py, line 1"
        return say("no_receipt" if gone else "deleted_receipt", place)
    calls = [step for step in app.placed(run) if step.listener]
    for step in run.failures():
        if step in calls and step.listener != receipt:
            return explain(step.error, where(step.listener))
    if len(calls) > 1:
        names = " and ".join(name(step.listener) for step in calls)
        return Verdict("right", say("two", names=names))
    return misplaced(app) or odd(shop=True)


def chain(app: Probe, two: Run, nine: Run, ten: Run, more: Run, receipt: Any) -> Mark:
    """Exercise 2: a big order is followed by an event that somebody listens to."""
    if ten.error and is_circle(ten.error):
        return explain(ten.error, ten.steps[-1].place)
    early, followers, late = (
        [step for step in app.own_steps(run) if step.cause] for run in (nine, ten, more)
    )
    handled = [step for step in followers if step.listener]
    known = [receipt, *(step.listener for step in two.failures())]
    if new := [step for step in ten.failures() if step.listener not in known]:
        return explain(new[0].error, where(new[0].listener))
    if followers and not handled:
        return unhandled(app, type(followers[0].event), followers[0].place)
    quantity = 9 if early else 25 if followers else 10
    if early or bool(followers) != bool(late):
        first = (early + followers + late)[0]
        does = f"emits {name(first.event)} too" if early else f"doesn't emit {name(first.event)}"
        return say("wrong_number", first.place, quantity=quantity, does=does)
    if handled:
        who = name(handled[0].listener)
        return Verdict("right", say("chained", event=name(handled[0].event), who=who))
    for step in ten.steps:
        if step.cause or type(step.event) in app.own_events():
            key = "old_event" if step.cause else "route_emits"
            return say(key, step.place, event=name(step.event))
    if problem := odd(shop=True) or unsent(ten, *app.own_events()):
        return problem
    listened = [event for event, _ in app.bus.registered]
    for event in app.own_events():
        if event not in listened:
            return Verdict("not yet", say("class_only", where(event), event=event.__name__))
    return None


def failing_receipt(app: Probe, receipt: Any) -> Mark:
    """Exercise 4: an order is taken, whatever happens to its receipt."""
    run = app.order(3, failing=receipt)
    if isinstance(run.error, NameError | AttributeError | TypeError):  # of the try itself
        return explain(run.error, where(run.endpoint))
    if run.status == 201 and (placed := app.placed(run)):
        safe = f'"order_id":"{placed[0].event.order_id}"' in run.body
        return Verdict("right", say("safe")) if safe else say("no_id", where(run.endpoint))
    if place := catches("place_order"):
        return say("still_fails", place, status=run.status)
    place = catches("send_receipt")
    return say("caught_inside", place) if place else None


def duplicate(app: Probe, run: Run, receipt: Any) -> Mark:
    """Exercise 5: an event that comes twice makes one receipt."""
    place, who = where(receipt), name(receipt)
    own = [step.error for step in run.failures() if step.listener == receipt]
    if not run.prints_receipt(receipt):
        if own and type(own[0]) is RuntimeError:
            return None  # the tutorial has them raise it, for exercise 4
        return explain(own[0], place) if own else say("no_print", place, who=who)
    again, other = app.emit(app.placed(run)[0].event.model_copy()), app.order(2)
    if receipt in [step.listener for step in again.failures()]:
        return explain(own[0], place) if own else say("fails_twice", place, who=who)
    if not other.prints_receipt(receipt):
        return say("too_few", place, who=who)
    if not again.prints_receipt(receipt):
        return Verdict("right", say("once"))
    source = inspect.getsource(sys.modules[receipt.__module__])
    kept = re.search(r"^\w+(: .+)? = (set|dict|\[|\{)", source, re.M)
    begun = kept or re.search(r"\bif .*\b(in|order_id)\b", inspect.getsource(receipt))
    return say("twice", place, who=who) if begun else None


def own_feature(app: Probe, used: set[type]) -> Mark:
    """Exercise 3: a new request makes a new event happen, that is handled and has its row."""
    rows, problems = course.own_rows(), []
    for run in app.new_runs():
        place, who = where(run.endpoint), name(run.endpoint)
        new = [step for step in app.own_steps(run) if type(step.event) not in used]
        handled = [step for step in new if step.listener and step.cause is None]
        failed = [step for step in new if step.error]
        if failed:
            problems.append(explain(failed[0].error, where(failed[0].listener)))
        elif run.error:
            problems.append(explain(run.error, place))
        elif handled and run.status < 400:
            right = Verdict("right", say("own", request=run.request, event=name(handled[0].event)))
            return row_problem(rows, handled, run) or right
        elif new and not handled:
            problems.append(unhandled(app, type(new[0].event), new[0].place))
        elif missed := odd(shop=False) or unsent(run, app.events.Event):
            problems.append(missed)
        elif run.request.startswith("GET ") and not run.steps:
            continue  # a question that changes nothing isn't an event
        elif run.status >= 400:
            problems.append(refusal(run, place))
        elif run.steps:
            problems.append(say("old_event", run.steps[0].place, event=name(run.steps[0].event)))
        else:
            problems.append(say("no_event", place, who=who))
    if problem := next(iter(problems), left_out(app) or odd(shop=False)):
        return problem
    if rows:
        place = f"TUTORIAL.md, line {rows[0].line}"
        return f"{place}: {rows[0].problem}" if rows[0].problem else say("row_only", place)
    return None


def row_problem(rows: list[course.Row], handled: list[Step], run: Run) -> str:
    """Return what's wrong with the row of a new event."""
    names = [name(step.listener) for step in handled if step.event is handled[0].event]
    who, named = names[0], re.compile(rf"\b({'|'.join(map(re.escape, names))})\b")
    said = " ".join([run.printed, run.body, *(str(step.output) for step in run.steps)])
    for row in [row for row in rows if named.search(row.cells.get("Listener Action", ""))]:
        place = f"TUTORIAL.md, line {row.line}"
        if row.problem:
            return f"{place}: {row.problem}"
        quoted = re.findall(r"'([^']+)'", row.cells["Handler Output"])
        lies = [text for text in quoted if text not in said]
        return say("row_lies", place, text=lies[0], who=who) if lies else ""
    if rows:
        return say("row_without_name", f"TUTORIAL.md, line {rows[-1].line}", who=who)
    for number, line in enumerate(course.read().splitlines(), 1):
        if line.startswith("|") and named.search(line):
            return say("row_outside", f"TUTORIAL.md, line {number}")
    last = course.given_rows()[-1].line
    return say("row_missing", f"TUTORIAL.md, line {last}", event=name(handled[0].event), who=who)


def unhandled(app: Probe, event_type: type, emitted: str = "") -> str:
    """Return what to do about an event, `emitted` at a place, that nobody listens to."""
    for other, listener in app.bus.registered:
        words = {"who": name(listener), "event": other.__name__}
        if other is not event_type and other.__name__ == event_type.__name__:
            return say("another_class", where(other), **words)
        takes = getattr(listener, "__annotations__", {}).values()
        if other is not event_type and event_type in takes:
            return say("hears_another", where(listener), **words, wanted=event_type.__name__)
    return say("unhandled", emitted, event=event_type.__name__) if emitted else ""


def unsent(run: Run, *kinds: type) -> str:
    """Return the place of an event of these kinds that was made and never emitted."""
    sent = [id(step.event) for step in run.steps]
    for event, place in run.made:
        if place and id(event) not in sent and isinstance(event, kinds):
            return say("unsent", place, event=type(event).__name__)
    return ""


def refusal(run: Run, place: str) -> str:
    """Return what a refused request was told, and what to do."""
    told = say("body", body=run.body[:150] or "nothing")
    with suppress(ValueError, LookupError, TypeError):
        told = say("invalid", error=said_first(json.loads(run.body)["detail"]))
    return say("refused", place, request=run.request, status=run.status, refusal=told)


def left_out(app: Probe) -> str:
    """Return the place of a route that isn't part of the app."""
    for module, value, variable in members(app, APIRouter, FastAPI):
        for route in value.routes:
            endpoint = getattr(route, "endpoint", None)
            if getattr(endpoint, "__module__", "") != module or endpoint in app.endpoints:
                continue
            requests = [f"{method} {route.path}" for method in getattr(route, "methods", ())]
            for request in filter(app.routes.get, requests):
                pair = [endpoint, app.routes[request][0]]
                mine, other = pair[::-1] if module in GIVEN else pair
                return say("taken", where(mine), request=request, who=name(other))
            return say("left_out", where(endpoint), who=name(endpoint), variable=variable)
    return ""


def misplaced(app: Probe) -> str:
    """Return the place of a function that's meant to listen to an order, and doesn't."""
    placed = app.events.OrderPlaced
    place_order = getattr(sys.modules.get(SHOP[0]), "place_order", None)
    called = getattr(getattr(place_order, "__code__", None), "co_names", ())
    registered = {listener: event for event, listener in app.bus.registered}
    for module, function, who in members(app, type(name)):
        if function.__module__ != module or function in app.endpoints:
            continue
        place, takes = where(function), function.__annotations__.values()
        if event := registered.get(function):
            if module in SHOP and event in (app.events.Startup, app.events.Shutdown):
                words = {"event": event.__name__, "wanted": "OrderPlaced"}
                return say("hears_another", place, who=who, **words)
            continue
        source = re.sub("#.*", "", inspect.getsource(sys.modules[module]))
        unused = len(re.findall(rf"\b{who}\b", source)) == 1
        alone = function.__code__.co_argcount < 2 and (unused or who in called)
        if placed in takes or (module in SHOP and alone):
            return say("direct_call" if who in called else "no_order_runs", place, who=who)
    return unhandled(app, placed)


def odd(shop: bool) -> str:
    """Return what can't do what's meant: a line in the files of the shop, or in others; a file."""
    for path in sorted((course.ROOT / "app").rglob("[!_.]*.py")):
        module = ".".join(path.relative_to(course.ROOT).with_suffix("").parts)
        if (path.stem in ("orders", "stock")) is not shop or path.parent.name == "messaging":
            continue
        if module not in sys.modules:
            return say("not_imported", f"{file_of(path)}, line 1")
        text = course.read(path) if module.startswith("app.handlers.") else ""
        for rule in FEEDBACK["lines"]:
            if found := re.search(rule["when"], text, re.M):
                line = text.count("\n", 0, found.start()) + 1
                return f"{file_of(path)}, line {line}: {found.expand(rule['say'])}"
    return ""


def members(app: Probe, *kinds: type) -> Iterator[tuple[str, Any, str]]:
    """Yield what of these kinds the modules of app/handlers/ hold: module, value, name."""
    for module in sorted(module for module in sys.modules if module.startswith("app.handlers.")):
        for variable, value in list(vars(sys.modules[module]).items()):
            if isinstance(value, kinds):
                yield module, value, variable


def catches(function: str) -> str:
    """Return the place where a function of orders.py begins to catch errors; "" if it doesn't."""
    code: Any = getattr(sys.modules.get(SHOP[0]), function, None)
    lines, first = inspect.getsourcelines(code) if hasattr(code, "__code__") else ([], 0)
    found = [n for n, line in enumerate(lines, first) if re.match(r"\s*(try:|with )", line)]
    return f"app/handlers/orders.py, line {found[0]}" if found else ""


def name(listener: Any) -> str:
    return str(getattr(listener, "__name__", type(listener).__name__))


def report(app: Probe) -> None:
    said: set[Mark] = set()
    for id_, found in marks(app):
        found = None if found in said else found  # once is enough
        said.add(found)
        wrong = Verdict("wrong" if found else "not yet", str(found or ""))
        app.note(id=id_, **(found if isinstance(found, Verdict) else wrong)._asdict())


if __name__ == "__main__":
    app = Probe()
    if problem := app.look(report):
        app.note(id="exercises", state="wrong", sentence=problem)
    app.note(done=True)
    os._exit(0)  # whatever a thread of the learner's still does
