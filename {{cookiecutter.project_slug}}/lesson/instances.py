"""Which instance handled what, where a broker carries the events from process to process.

The instances on one machine share the folder in which each keeps its steps, so each reads what
the others wrote. What happens on other machines is on their own pages only.
"""

import os
import time
from importlib.util import find_spec
from typing import TypedDict

from lesson.recorder import Recorder
from lesson.steps import LANDMARKS, Step

LOOK = 1.0  # seconds between two looks at what the others wrote
ROWS = 50  # the last ones


class Handled(TypedDict):
    """One call of a listener, wherever it was."""

    run: str  # of the instance that handled it
    process: str  # the number that its terminal shows
    sent_by: str | None  # the process that emitted it
    sequence: int
    event: str
    detail: str
    listener: str | None
    handler_output: str
    failed: bool
    time: str


class Instances:
    """Follows this process and those that keep their steps beside its own."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._others: list[Step] = []
        self._looked = 0.0

    def handled(self) -> list[Handled] | None:
        """Return the last calls of listeners since this run began, oldest first.

        None if no broker carries events.
        """
        if not (os.environ.get("BROKER_URL") and find_spec("app.messaging")):
            return None
        if time.monotonic() - self._looked >= LOOK:
            run, began = self._recorder.run, self._recorder.began
            self._others = self._recorder.history.others(run, began)
            self._looked = time.monotonic()
        calls = [
            step
            for step in (*self._others, *self._recorder.latest(4 * ROWS))
            if step["type"] not in ("request", *LANDMARKS)
        ]
        senders = {_id(step): _process(step) for step in calls if step["listener"] is None}
        since = self._recorder.began.isoformat(timespec="milliseconds")
        handled = [step for step in calls if step["listener"] and step["time"] >= since]
        handled.sort(key=lambda step: step["time"])
        return [_row(step, senders.get(_id(step))) for step in handled[-ROWS:]]


def _row(step: Step, sent_by: str | None) -> Handled:
    return {
        "run": step["run"],
        "process": _process(step),
        "sent_by": sent_by,
        "sequence": step["sequence"],
        "event": step["type"],
        "detail": step["detail"],
        "listener": step["listener"],
        "handler_output": step["handler_output"],
        "failed": step["failed"],
        "time": step["time"],
    }


def _process(step: Step) -> str:
    return step["run"].rpartition("-")[2]


def _id(step: Step) -> object:
    """Return by what an event is known in all processes."""
    return step["type"], (step["fields"] or {}).get("id", (step["run"], step["sequence"]))
