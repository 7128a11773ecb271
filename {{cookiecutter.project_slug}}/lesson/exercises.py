"""The exercises. The learner's code runs in a process of its own, which can be ended."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lesson.course import ROOT, Exercise, LessonError, Verdict, blocks

SILENCE = 40  # seconds; before that, the process itself says where it hangs
MARKED = ("exercise1", "exercise2", "exercise4", "exercise5", "exercise3")  # in this order
EXERCISES = list(blocks("exercise", Exercise))


def verdicts(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> dict[str, Verdict]:
    """Run the app of the project in `root`; return a verdict on each exercise.

    "exercises" comes first if app/ doesn't start. Raises LessonError if the check itself can't.
    """
    # % if cookiecutter.broker != "none"
    environment = {key: value for key, value in environment.items() if key != "BROKER_URL"}
    # % endif
    output, ended = run(["-W", "ignore", "-m", "lesson.marks"], root, environment, SILENCE)
    said = [json.loads(line) for line in output.splitlines() if line.startswith('{"')]
    if not said:
        reason = (output.strip().splitlines() or ["it says nothing"])[-1]
        raise LessonError(f"The check needs the project's packages (`uv sync`): {reason}")
    facts = {key: value for line in said for key, value in line.items()}
    marks = {line["id"]: Verdict(line["state"], line["sentence"]) for line in said if "id" in line}
    if "done" not in facts:
        how = "ended the whole process" if ended else "never finishes"
        wrong = facts.get("stuck") or f"{facts['asking']} {how}. Look at what it runs."
        app = facts["asking"].startswith("The ")  # its start or its end
        id_ = "exercises" if app else next((id_ for id_ in MARKED if id_ not in marks), MARKED[-1])
        marks[id_] = Verdict("wrong", wrong)
    # % if cookiecutter.broker != "none"
    if marks.get("exercise5", Verdict("not yet", "")).state == "right":
        from lesson import again  # which needs `run`

        marks |= again.verdicts(root, environment)
    # % endif
    hints = {each.id: Verdict("not yet", each.hint) for each in EXERCISES}
    judged = {id_: verdict for id_, verdict in marks.items() if verdict.sentence}
    return {id_: judged[id_] for id_ in judged if id_ not in hints} | hints | judged


def run(
    command: list[str], root: Path, environment: Mapping[str, str], silence: float
) -> tuple[str, bool]:
    """Return what Python wrote, and whether it ended by itself; after so much silence it's ended."""
    with tempfile.TemporaryFile() as out:  # a pipe would wait for whoever else holds it
        group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
        where: Any = {"cwd": root, "env": environment, "start_new_session": True}
        where |= {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": subprocess.STDOUT}
        process = subprocess.Popen([sys.executable, *command], creationflags=group, **where)
        size, since = 0, time.monotonic()
        try:
            while process.poll() is None and time.monotonic() - since < silence:
                time.sleep(0.02)
                if size != (size := os.fstat(out.fileno()).st_size):
                    since = time.monotonic()
            ended = process.returncode is not None
        finally:
            end(process)
        out.seek(0)
        return out.read().decode(errors="replace"), ended


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and what it may have left behind; a kill that fails doesn't stop us."""
    with suppress(OSError):
        if sys.platform == "win32":
            kill = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
            subprocess.run(kill, capture_output=True, check=False)
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(OSError, subprocess.TimeoutExpired):
        process.kill()
        process.wait(5)
