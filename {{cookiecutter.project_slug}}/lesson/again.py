"""Exercises 6 and 7, by what two processes do: python -m lesson.again [ORDER JAMMED-ORDER].

The first one handles two orders, of which the printer jams on the second, and is killed. The other
one gets both again, as a broker would deliver them; then the broker is away, which exercise 4 may
not hide. lesson.exercises runs this, and compares.
"""

import ast
import inspect
import json
import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.messaging.delivery import EventNotStored
from lesson.course import Verdict
from lesson.exercises import SILENCE, run
from lesson.feedback import explain, say, where
from lesson.marks import find_receipt, name, uses
from lesson.probe import Probe, Recorder, Run

KEEPS = r"sqlite3|\bopen\(|\bPath\(|\.write|\.touch|shelve|dbm|pickle|transaction\("  # on disk
NEEDED = ("app", "lesson", "TUTORIAL.md", "answers.toml")


def verdicts(root: Path, environment: Mapping[str, str]) -> dict[str, Verdict]:
    """Return a verdict on each of them that's begun, with an empty sentence where the hint does."""
    with TemporaryDirectory(prefix="again-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)  # a copy, so that the learner's own memory stays as it is
        for part in NEEDED:
            if (root / part).is_dir():
                shutil.copytree(root / part, place / part)
            else:
                shutil.copy(root / part, place)
        facts: dict[str, Any] = {}
        for _ in range(2):  # processes
            orders = facts.get("orders", ())
            command = ["-W", "ignore", "-m", "lesson.again", *orders]
            output, _ended = run(command, place, environment, SILENCE)
            for line in output.splitlines():
                facts |= json.loads(line) if line.startswith('{"') else {}
            if problem := facts.get("stuck") or facts.get("broken"):
                return {"exercise6": Verdict("wrong", f"After the process was killed: {problem}")}
    found = {"exercise6": (sixth := mark(facts))}
    if at := facts.get("swallows"):
        found["exercise4"] = Verdict("wrong", say("swallows", at))
    if sixth.state != "right":
        return found
    if wrong := "hidden" if facts["hidden"] else "" if facts["mended"] else "forgets":
        return found | {"exercise7": Verdict("wrong", say(wrong, facts["place"], who=facts["who"]))}
    return found | {"exercise7": Verdict("right", say("retried", ""))}


def mark(facts: dict[str, Any]) -> Verdict:
    """Return the verdict on exercise 6."""
    place, words = facts.get("place", ""), {"who": facts.get("who", "")}
    if "again" not in facts:
        return Verdict("not yet", "")
    if facts["failed"]:
        return Verdict("wrong", facts["failed"])
    if facts["again"]:
        wrong = say("twice_after_kill", place, **words) if facts["keeps"] else ""
        return Verdict("wrong" if wrong else "not yet", wrong)
    if not facts["next"]:
        return Verdict("wrong", say("too_few", place, **words))
    return Verdict("right", say("outlives", ""))


class Printer(Recorder):
    """Stands in for sys.stdout, as the recorder does, and may jam under one listener."""

    jams: Any = None

    def write(self, text: str) -> int:
        now = self.now.get()
        if now and self.jams and now[1].listener == self.jams:
            raise OSError("The printer is out of paper")
        return super().write(text)


def printed(run: Run, receipt: Any) -> bool:
    calls = [call for step in run.steps for call in step.calls if call.listener == receipt]
    return any(call.prints_id() for call in calls)


def first(app: Probe, tell: Any) -> None:
    """Handle two orders, the second with a jammed printer; end as `kill -9` ends."""
    printer: Any = app.recorder
    order = app.order_of(app.order(2))
    printer.jams = find_receipt(order)
    jammed = app.order_of(app.order(3))
    if order and jammed:
        tell(orders=[order.event.model_dump_json(), jammed.event.model_dump_json()])
        calls = [call for call in jammed.calls if call.listener == printer.jams]
        tell(hidden=not any(call.error for call in calls))
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def second(app: Probe, tell: Any, orders: list[str]) -> None:
    """Handle both orders again, and a new one; tell what was printed."""
    receipt = find_receipt(app.order_of(new := app.order(2)))
    if receipt is None:
        return
    events = [app.events.OrderPlaced.model_validate_json(order) for order in orders]
    again, mended = map(app.emit, events)
    errors = [call.error for call in again.failures() if call.listener == receipt]
    source = inspect.getsource(sys.modules[receipt.__module__])
    tell(place=where(receipt), who=name(receipt), keeps=bool(re.search(KEEPS, source)))
    failed = explain(errors[0], where(receipt)) if errors and errors[0] else ""
    tell(again=printed(again, receipt), mended=printed(mended, receipt), failed=failed)
    tell(next=printed(new, receipt))

    async def away(event: Any) -> None:
        raise EventNotStored("the broker is away")

    bus: Any = app.bus
    bus.publish = away
    if app.order(2).status == 201:
        tell(swallows=uses("place_order", ast.Try, ast.TryStar, ast.With) or where(receipt))
    bus.publish = None


def main(orders: list[str]) -> None:
    """Be one of the two processes."""
    logging.disable()

    def tell(**facts: Any) -> None:
        print(json.dumps(facts), file=sys.__stdout__, flush=True)

    probe = Probe(tell)
    probe.recorder = Printer()
    if problem := probe.look(lambda app: second(app, tell, orders) if orders else first(app, tell)):
        tell(broken=problem)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
