"""Grades a class: a folder for each learner, a row of CSV for each folder.

This runs the code in the folders, as you, on this machine. A folder brings only app/, TUTORIAL.md
and answers.toml; the tests and the grader are those beside this file, so a changed test does not
count, and the quiz is marked without running anything. It is no defence against code that means
harm: grade strangers in a container or a virtual machine.
"""

import contextlib
import csv
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from xml.etree import ElementTree

from lesson import answers, quiz
from lesson.quiz import Because, Question
from lesson.tutorial import LessonError

ROOT = Path(__file__).parent.parent
BROUGHT = ("app", "TUTORIAL.md")  # of a folder; the rest is ours
NO_GRADE = ("grade.py", "test_quiz.py")
EXERCISES = ("exercise1", "exercise2", "exercise3")
KEPT = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")  # of the environment; the rest is private
WARNING = "This runs the code in these folders, as you, on this machine."


@dataclass
class Grades:
    """What one folder is worth; `notes` say what could not be looked at, and why."""

    letters: dict[str, str] = field(default_factory=dict)
    right: int = 0
    exercises: dict[str, str] = field(default_factory=dict)
    passed: int = 0
    failed: int = 0
    notes: list[str] = field(default_factory=list)


def grade(folders: Sequence[Path], seconds: float) -> int:
    """Write a row for each folder to stdout, and the count of each choice to stderr.

    `seconds` is the time that the tests of one folder may take.
    """
    print(WARNING, file=sys.stderr)
    asked = _asked()
    out = csv.writer(sys.stdout, lineterminator="\n")
    points = ["quiz", "tests_passed", "tests_failed"]
    out.writerow(["folder", *points, *EXERCISES, *(question.id for question in asked), "note"])
    chosen: Counter[tuple[str, str]] = Counter()
    for number, folder in enumerate(folders, 1):
        print(f"{number} of {len(folders)}: {folder}", file=sys.stderr)
        grades = grade_folder(folder, seconds)
        chosen.update(grades.letters.items())
        letters = [grades.letters.get(question.id, "") for question in asked]
        exercises = [grades.exercises.get(exercise, "not run") for exercise in EXERCISES]
        points = [str(grades.right), str(grades.passed), str(grades.failed)]
        row = [str(folder), *points, *exercises, *letters, "; ".join(grades.notes)]
        out.writerow([_inert(cell) for cell in row])
        sys.stdout.flush()
    for question in asked:
        print(f"\n{question.id}  {question.text}", file=sys.stderr)
        for choice in question.choices:
            mark = "right" if choice.letter == question.right else ""
            count = chosen[question.id, choice.letter]
            print(f"  {count:4}  {choice.letter} {mark:5}  {choice.text}", file=sys.stderr)
        if count := chosen[question.id, ""]:
            print(f"  {count:4}  no answer", file=sys.stderr)
    return 0


def grade_folder(folder: Path, seconds: float) -> Grades:
    """Return the grades of one folder; whatever is wrong with it is a note, and never raised."""
    grades = Grades()
    if not folder.is_dir():
        grades.notes.append("there is no such folder")
        return grades
    try:
        _mark_quiz(folder, grades)
    except LessonError as error:
        grades.notes.append(str(error))
    except Exception as error:  # whatever it is, the others still get their rows
        grades.notes.append(f"answers.toml cannot be read: {_shown(error)}")
    try:
        with TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as place:
            _prepare(folder, Path(place))
            _run_tests(Path(place), seconds, grades)
    except Exception as error:
        grades.notes.append(f"could not be tested: {_shown(error)}")
    return grades


def _asked() -> list[Question | Because]:
    asked: list[Question | Because] = []
    for question in quiz.load():
        asked += [question, question.because] if question.because else [question]
    return asked


def _mark_quiz(folder: Path, grades: Grades) -> None:
    asked = _asked()
    known = {question.id for question in asked} | {wanted.id for wanted in quiz.predictions()}
    given = answers.read(known, folder / "answers.toml").quiz
    states = {question.id: quiz.mark(question, given.get(question.id)).state for question in asked}
    for question in asked:
        letter = given.get(question.id, "").upper()
        known_letters = [choice.letter for choice in question.choices]
        grades.letters[question.id] = letter if letter in ["", *known_letters] else "?"
        first = states[question.id.removesuffix("_because")]  # a reason counts after its answer
        grades.right += states[question.id] == first == "right"


def _prepare(folder: Path, place: Path) -> None:
    ours = shutil.ignore_patterns(".*", "__pycache__", *NO_GRADE, *BROUGHT)
    shutil.copytree(ROOT, place, ignore=ours, dirs_exist_ok=True)
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(folder / "app", place / "app", ignore=caches, symlinks=True)
    shutil.copy(folder / "TUTORIAL.md", place)


def _run_tests(place: Path, seconds: float, grades: Grades) -> None:
    report = place / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line"]
    process = subprocess.Popen(
        [*command, f"--junitxml={report}", "tests"],
        cwd=place,
        env={name: os.environ[name] for name in KEPT if name in os.environ},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    tail = bytearray()
    reader = threading.Thread(target=_keep_tail, args=(process.stdout, tail), daemon=True)
    reader.start()
    timed_out = False
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        timed_out = True
        grades.notes.append(f"stopped after {seconds:g} seconds")
    finally:
        _kill(process)
    reader.join(5)
    if report.is_file():
        _count(report, grades)
    if not (grades.passed or grades.failed or timed_out):
        grades.notes.append(f"does not start: {_reason(tail.decode(errors='replace'))}")


def _keep_tail(stream: IO[bytes], tail: bytearray) -> None:
    with stream:
        while chunk := stream.read(4096):
            tail += chunk
            del tail[:-8192]


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process, and what it may have left behind."""
    if sys.platform == "win32":
        kill = ["taskkill", "/F", "/T", "/PID", str(process.pid)]
        subprocess.run(kill, capture_output=True, check=False)
    else:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _count(report: Path, grades: Grades) -> None:
    for case in ElementTree.parse(report).iter("testcase"):
        bad = case.find("failure") is not None or case.find("error") is not None
        skipped = case.find("skipped") is not None
        name = re.search(r"\[(exercise\d)\]$", case.get("name", ""))
        if name and case.get("classname", "").endswith("test_exercises"):
            state = "wrong" if bad else "not yet" if skipped else "right"
            grades.exercises[name[1]] = state
        elif bad:
            grades.failed += 1
        elif not skipped:
            grades.passed += 1


def _reason(output: str) -> str:
    """Return the last error that pytest showed, in one line."""
    errors = re.findall(r"^E +(.+)$", output, re.MULTILINE)
    lines = errors or output.strip().splitlines() or ["it ended without a word"]
    return str(lines[-1])[:200]


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error)[:200]}"


def _inert(cell: str) -> str:
    """Return `cell` so that no spreadsheet takes it for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
