"""The second day on the page: the dead letters, which steps of BEYOND.md were seen, what's next.

All of it is read from what the instances on this machine recorded.
"""

import itertools
import json
import os
import re
import time
from collections import defaultdict
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any

from app.messaging.settings import settings
from lesson.course import ROOT, read
from lesson.recorder import Recorder, Row


def look(recorder: Recorder) -> dict[str, Any]:
    """Return each step of BEYOND.md, whether it was seen, and the dead letters that are left."""
    return _look(recorder, int(time.monotonic()))


@lru_cache(maxsize=1)  # once a second is enough
def _look(recorder: Recorder, second: int) -> dict[str, Any]:
    known: dict[str, Any] = {"seen": [], "letters": []}  # the files of old runs are removed
    file = recorder.folder / "beyond.json"
    with suppress(OSError, ValueError):
        known |= json.loads(file.read_text(encoding="utf-8"))
    deliveries: dict[tuple[str, str], list[Row]] = defaultdict(list)
    rows = [*known["letters"], *recorder.others(all_runs=True), *recorder.kept()]
    rows.sort(key=itemgetter("time"))
    for row in rows:
        if row.get("attempt"):
            deliveries[row["listener"], (row["fields"] or {}).get("id", "")].append(row)
    last = settings.max_attempts
    given_up = [each for each in deliveries.values() if any(_is_dead(row, last) for row in each)]
    letters = [each[-1] for each in given_up if each[-1]["failed"]]
    requests = [row for row in rows if row["type"] == "request"]
    now = {
        "1": len({row["run"] for each in deliveries.values() for row in each}) > 1,
        "2": any(_came_again(each) for each in deliveries.values()),
        "3": _one_receipt(deliveries),
        "4": len(letters) < len(given_up),  # replayed
        "5": any(row["handler_output"].startswith("Returns 503") for row in requests),
        "6": _overtakes([row for row in rows if str(row["listener"]).endswith(".print_label")]),
        "7": any(row["failed"] and "/two-steps" in row["detail"] for row in requests),
    }
    seen = sorted({*known["seen"], *(step for step, is_seen in now.items() if is_seen)})
    if (new := {"seen": seen, "letters": letters}) != known:
        with suppress(OSError):
            part = file.with_suffix(f".{os.getpid()}")  # the other instance may be reading
            part.write_text(json.dumps(new), encoding="utf-8")
            part.replace(file)
    titles = re.findall(r"^## (\d)\. (.+)$", read(ROOT / "BEYOND.md"), re.MULTILINE)
    steps = [{"number": n, "text": text, "seen": n in seen} for n, text in titles if n in now]
    return {"steps": steps, "dead_letters": letters, "max_attempts": last}


def _is_dead(row: Row, last: int) -> bool:
    return bool(row["failed"] and row["attempt"] >= last)


def _came_again(deliveries: list[Row]) -> bool:
    """Say whether an attempt ended with its process: it isn't recorded, and a later one is."""
    numbers = {row["attempt"] for row in deliveries}
    return bool(numbers - {1}) and 1 not in numbers


def _one_receipt(deliveries: dict[tuple[str, str], list[Row]]) -> bool:
    """Say whether an order came to send_receipt in two processes and one receipt was printed."""
    came: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for (listener, _), rows in deliveries.items():
        for row in rows:
            if listener.endswith(".send_receipt") and not row["failed"]:
                order = str((row["fields"] or {}).get("order_id"))
                came[order].append((row["run"], order in row["handler_output"]))
    return any(
        len({run for run, _ in each}) > 1 and sum(printed for _, printed in each) == 1
        for each in came.values()
    )


def _overtakes(rows: list[Row]) -> bool:
    """Say whether an instance finished an event while another still handled an earlier one."""
    times = [(datetime.fromisoformat(row["time"]).timestamp(), row) for row in rows]
    spans = [(begin, begin + row["duration"], row["run"]) for begin, row in times]
    pairs = itertools.permutations(spans, 2)
    return any(a[0] < b[0] and b[1] < a[1] and a[2] != b[2] for a, b in pairs)
