"""Grades a class: a folder for each learner, a row of a CSV file for each folder.

This runs the code in the folders, as you, on this machine. A folder brings only app/, TUTORIAL.md
and answers.toml; the tests and the grader are those beside this file, so a changed test doesn't
count. It's no defence against malicious code: grade strangers in a container.
"""

import csv
import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from lesson import course
from lesson.course import ROOT, LessonError, Verdict
from lesson.exercises import EXERCISES, run, verdicts

BROUGHT = ("app", "TUTORIAL.md")  # of a folder; the rest is ours
NO_GRADE = ("grade.py", "test_quiz.py", "test_exercises.py")
KEPT = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")  # of the environment; the rest is private
WARNING = "This runs the code in these folders, as you, on this machine."


def grade(folders: Sequence[Path], output: Path, seconds: float) -> int:
    """Write a row for each folder to `output`, and print how often each choice was picked.

    `seconds` is how long the tests of one folder may be silent. Raises LessonError if `output`
    can't be written.
    """
    print(WARNING)
    asked = course.questions()
    ids = [exercise.id for exercise in EXERCISES]
    points = ["points", "maximum", "quiz", "tests_passed", "tests_failed"]
    columns = ["folder", *points, *ids, "why", *(question.id for question in asked), "note"]
    chosen: Counter[tuple[str, str]] = Counter()
    try:
        file = output.open("w", encoding="utf-8-sig", newline="")  # as Excel wants it
    except OSError as error:
        raise LessonError(f"{output} can't be written ({error.strerror}). Is it open?") from None
    with file:
        rows = csv.DictWriter(file, columns, restval="")
        rows.writeheader()
        for number, folder in enumerate(folders, 1):
            print(f"{number} of {len(folders)}: {folder}", flush=True)
            row = {"folder": folder.resolve().name, **grade_folder(folder, seconds)}
            chosen.update((question.id, row.get(question.id, "")) for question in asked)
            rows.writerow({column: inert(str(cell)) for column, cell in row.items()})
            file.flush()
    for question in asked:
        print(f"\n{question.id}  {question.text}")
        for choice in question.choices:
            mark = "right" if choice.letter == question.right else ""
            count = chosen[question.id, choice.letter]
            print(f"  {count:4}  {choice.letter} {mark:5}  {choice.text}")
        if count := chosen[question.id, ""]:
            print(f"  {count:4}  no answer")
    print(f"\n{output} is written.")
    return 0


def grade_folder(folder: Path, seconds: float) -> dict[str, str]:
    """Return the cells of one folder; whatever is wrong with it becomes a note, not an error."""
    notes: list[str] = []
    cells: dict[str, str] = {}
    marks: dict[str, Verdict] = {}
    environment = {name: os.environ[name] for name in KEPT if name in os.environ}
    try:
        if not folder.is_dir():
            raise LessonError("there's no such folder")
        cells |= quiz(folder)
    except Exception as error:  # whatever it is, the others still get their rows
        notes.append(str(error) if isinstance(error, LessonError) else f"answers.toml: {error!r}")
    try:
        with TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True) as name:
            place = prepared(folder, Path(name))
            marks = verdicts(place, environment)
            if "exercises" in marks:
                notes.append(f"app/ doesn't start. {marks.pop('exercises').sentence}")
            else:
                tests, ended = tested(place, environment, seconds)
                cells |= tests
                if not ended:
                    notes.append(f"the tests were stopped after {seconds:g} seconds")
    except Exception as error:
        notes.append(f"could not be tested: {str(error)[:200]}")
    states = {each.id: marks[each.id].state if marks else "not run" for each in EXERCISES}
    wrong = [f"{id_}: {each.sentence}" for id_, each in marks.items() if each.state == "wrong"]
    cells |= {
        "points": str(int(cells.get("quiz", 0)) + list(states.values()).count("right")),
        "maximum": str(len(course.questions()) + len(EXERCISES)),
        "why": " ".join(wrong),
        "note": "; ".join(notes),
    }
    return states | cells


def quiz(folder: Path) -> dict[str, str]:
    """Return the letter given to each question, and how many are right."""
    given = course.read_answers(folder / "answers.toml")
    letters: dict[str, str] = {}
    right: set[str | None] = {None}
    for question in course.questions():
        letter = given.get(question.id, "").upper()
        known = ["", *(choice.letter for choice in question.choices)]
        letters[question.id] = letter if letter in known else "?"
        if letter == question.right and question.after in right:  # a reason needs its answer
            right.add(question.id)
    return letters | {"quiz": str(len(right) - 1)}


def prepared(folder: Path, place: Path) -> Path:
    """Make a project in `place` of what `folder` brings and what is ours; return `place`."""
    for name in BROUGHT:
        if not (folder / name).exists():
            raise LessonError(f"{name} is missing")
    ours = shutil.ignore_patterns(".*", "__pycache__", *NO_GRADE, *BROUGHT)
    shutil.copytree(ROOT, place, ignore=ours, dirs_exist_ok=True)
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(folder / "app", place / "app", ignore=caches, symlinks=True)
    shutil.copy(folder / "TUTORIAL.md", place)
    return place


def tested(place: Path, environment: dict[str, str], seconds: float) -> tuple[dict[str, str], bool]:
    """Run the tests in `place`; return how many passed and failed, and whether they ended."""
    report = place / "report.xml"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", f"--junitxml={report}"]
    _, ended = run([*command, "tests"], place, environment, seconds)
    passed = failed = 0
    for case in ElementTree.parse(report).iter("testcase") if report.is_file() else ():
        bad = case.find("failure") is not None or case.find("error") is not None
        failed += bad
        passed += not bad and case.find("skipped") is None
    return {"tests_passed": str(passed), "tests_failed": str(failed)}, ended


def inert(cell: str) -> str:
    """Return `cell` in a form that no spreadsheet takes for a formula."""
    return f"'{cell}" if re.match(r"[=+\-@\t\r]", cell) else cell
