"""What outlives a run: its steps, in a small file of its own that git ignores.

A file for each run, since several processes may write at the same time: the old and the new
one of a reload, or the workers of a server. Nobody writes what another reads and trims.
"""

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

RUNS = 10  # files that are kept
STEPS = 100  # of each earlier run that are shown
LINES = 1000  # after which a file is written anew, with what is in memory


class History:
    """The files in `folder`; a line of JSON for each step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._run = ""
        self._lines = 0
        self._others: dict[Path, tuple[int, list[Any]]] = {}  # when it was written, its steps

    def earlier(self) -> list[Any]:
        """Return the steps of the last runs, oldest first; files older than those go."""
        files = sorted(self.folder.glob("*.jsonl"))
        for file in files[:-RUNS]:
            with suppress(OSError):  # another process has it open, on Windows: the next time then
                file.unlink()
        return [step for file in files[-RUNS:] for step in _read(file)]

    def others(self, run: str, since: datetime) -> list[Any]:
        """Return the last steps of the runs beside `run` that have written something `since`."""
        before, self._others = self._others, {}
        for file in sorted(self.folder.glob("*.jsonl")):
            with suppress(OSError):  # it is gone: another instance has started and tidied up
                written = file.stat().st_mtime_ns
                if file.stem != run and written / 1e9 >= since.timestamp():
                    known = before.get(file, (0, []))
                    self._others[file] = known if known[0] == written else (written, _read(file))
        return [step for _, steps in self._others.values() for step in steps]

    def add(self, run: str, new: Sequence[Any], kept: Callable[[], Sequence[Any]]) -> None:
        """Write the `new` steps of `run`; `kept()` gives all that are worth keeping."""
        if run != self._run:
            self._run, self._lines = run, 0
        self._lines += len(new)
        file = self.folder / f"{run}.jsonl"
        try:
            self.folder.mkdir(exist_ok=True)
            if self._lines <= LINES:
                with file.open("a", encoding="utf-8", newline="\n") as stream:
                    stream.writelines(f"{json.dumps(step)}\n" for step in new)
            else:
                lines = [f"{json.dumps(step)}\n" for step in kept()]
                fresh = file.with_suffix(".new")
                fresh.write_text("".join(lines), encoding="utf-8", newline="\n")
                fresh.replace(file)
                self._lines = len(lines)
        except OSError as error:  # the disk is full, or not ours: the lesson goes on without
            logging.getLogger(__name__).warning("Cannot keep the steps of this run: %s", error)


def _read(file: Path) -> list[Any]:
    steps = []
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            step = json.loads(line)
        except ValueError:
            continue  # torn, as the last line is after kill -9 or on a full disk
        if isinstance(step, dict) and isinstance(step.get("sequence"), int):
            steps.append(step)
    return sorted(steps, key=lambda step: step["sequence"])[-STEPS:]
