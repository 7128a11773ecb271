"""Exercises 6 and 7, by what two processes do: python -m lesson.again [ORDER JAMMED-ORDER].

The first one handles two orders, of which the printer jams on the second, and is killed. The other
one gets both again, as a broker would deliver them; then the broker is away, which exercise 4 may
not hide. lesson.exercises runs this, and compares.
"""

import inspect
import json
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
from lesson.marks import catches, find_receipt, name
from lesson.probe import Probe

KEEPS = r"sqlite3|\bopen\(|\bPath\(|\.write|\.touch|shelve|dbm|pickle|transaction\("  # on disk
NEEDED = ("app", "lesson", "TUTORIAL.md", "answers.toml")


def verdicts(root: Path, environment: Mapping[str, str]) -> dict[str, Verdict]:
    """Return a verdict on each one that's been started, with no sentence where the hint will do."""
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


class JammingProbe(Probe):
    """Its printer may jam under one listener."""

    jams: Any = None

    def write(self, text: str) -> int:
        now = self.now.get()
        if now and self.jams and now.listener == self.jams:
            raise OSError("The printer is out of paper")
        return super().write(text)


def first(app: JammingProbe) -> None:
    """Handle two orders, the second with a jammed printer; end as `kill -9` ends."""
    order = app.order(2)
    app.jams = find_receipt(app, order)
    jammed = app.order(3)
    orders = [app.placed(each)[:1] for each in (order, jammed)]
    if all(orders):
        failed = [step.listener for step in jammed.failures()]
        app.note(orders=[step.event.model_dump_json() for [step] in orders])
        app.note(hidden=app.jams not in failed)
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def second(app: Probe, orders: list[str]) -> None:
    """Handle both orders again, and a new one; tell what was printed."""
    new = app.order(2)
    receipt = find_receipt(app, new)
    if receipt is None:
        return
    events = [app.events.OrderPlaced.model_validate_json(order) for order in orders]
    again, mended = map(app.emit, events)
    errors = [step.error for step in again.failures() if step.listener == receipt]
    source = inspect.getsource(sys.modules[receipt.__module__])
    app.note(place=where(receipt), who=name(receipt), keeps=bool(re.search(KEEPS, source)))
    failed = explain(errors[0], where(receipt)) if errors and errors[0] else ""
    printed = [run.prints_receipt(receipt) for run in (again, mended, new)]
    app.note(again=printed[0], mended=printed[1], failed=failed)
    app.note(next=printed[2])

    async def away(event: Any) -> None:
        raise EventNotStored("the broker is away")

    bus: Any = app.bus
    bus.publish = away
    if app.order(2).status == 201:
        app.note(swallows=catches("place_order") or where(receipt))
    bus.publish = None


def main(orders: list[str]) -> None:
    """Be one of the two processes."""
    app = JammingProbe()
    if problem := app.look(lambda _: second(app, orders) if orders else first(app)):
        app.note(broken=problem)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
