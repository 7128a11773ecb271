"""Grades a class: a folder for each learner, a row of a CSV file for each folder.

This runs the code in the folders, with your permissions. A folder brings only app/, TUTORIAL.md
and answers.toml; the tests and the grader are those beside this file, so a changed test doesn't
count. It isn't a defence against malicious code: grade strangers in a container.
"""

import csv
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TextIO
from xml.etree import ElementTree

from lesson import course
from lesson.course import ROOT, LessonError, Verdict
from lesson.exercises import EXERCISES, MARKED, run, verdicts

BROUGHT = ("app", "TUTORIAL.md")  # of a folder; the rest is ours
NO_GRADE = ("grade.py", "test_quiz.py", "test_exercises.py")
KEPT = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR")  # of the environment; the rest is private
CLIENTS = {  # what app/messaging/broker.py imports, and the broker that it's for
    "asyncpg": "postgres",
    "nats": "nats",
    "aio_pika": "rabbitmq",
    "redis": "redis",
    "aiokafka": "kafka",
}
STUCK = "never finishes|ended the whole process"  # the check ended there
WARNING = "This runs the code in these folders on this machine, with your permissions."


def grade(folders: Sequence[Path], output: Path, seconds: float) -> int:
    """Write a row for each folder to `output`, and print how often each choice was picked.

    `seconds` is how long the tests of one folder may be silent. `output` is replaced once all rows
    are known. Raises LessonError if it can't be, or if no folder has a project.
    """
    folders = projects(folders)
    draft = output.with_name(f"{output.stem}-unfinished.csv")
    print(WARNING)
    asked = course.questions()
    ids = [exercise.id for exercise in EXERCISES]
    points = ["points", "maximum", "quiz", "tests_passed", "tests_failed"]
    columns = ["folder", *points, *ids, "why", *(question.id for question in asked), "note"]
    chosen: Counter[tuple[str, str]] = Counter()
    done = 0
    with opened(output, draft) as file:
        rows = csv.DictWriter(file, columns, restval="")
        rows.writeheader()
        try:
            for number, folder in enumerate(folders, 1):
                print(f"{number} of {len(folders)}: {folder}", flush=True)
                row = {"folder": folder.resolve().name, **grade_folder(folder, seconds)}
                chosen.update((question.id, row.get(question.id, "")) for question in asked)
                rows.writerow({column: inert(str(cell)) for column, cell in row.items()})
                file.flush()
                done = number
        except KeyboardInterrupt:
            kept = f" {output} is unchanged." if output.exists() else ""
            print(f"\nStopped after {done} of {len(folders)}: {draft} has what's done.{kept}")
            raise
    try:
        draft.replace(output)
    except OSError as error:
        raise LessonError(f"{output} can't be replaced ({error}); see {draft}.") from None
    for question in asked:
        print(f"\n{question.id}  {question.text}")
        for choice in question.choices:
            mark = "right" if choice.letter == question.right else ""
            count = chosen[question.id, choice.letter]
            print(f"  {count:4}  {choice.letter} {mark:5}  {choice.text}")
        for letter, what in (("", "no answer"), ("?", "other (not one of the choices)")):
            if count := chosen[question.id, letter]:
                print(f"  {count:4}  {what}")
    print(f"\n{output} is written.")
    return 0


def projects(given: Sequence[Path]) -> list[Path]:
    """Return the folders to grade, without files; raise LessonError if none has a project."""
    found: list[Path] = []
    for path in given:
        wild = not path.exists() and re.search(r"[*?]", str(path))  # PowerShell leaves that to us
        for each in sorted(map(Path, glob(str(path)))) if wild else [path]:
            if each.is_file():
                print(f"{each} isn't a folder; skipped.")
            elif each.resolve() == ROOT:
                print(f"{each} is this solved project; skipped.")
            else:
                found.append(each)
    if not any((folder / "app").is_dir() for folder in found):
        names = " ".join(map(str, found or given))
        below = [str(folder / "*") for folder in found if nested(folder)]
        hint = f" Did you mean {' '.join(below)}?" if below else ""
        raise LessonError(f"{names}: there's no project with app/ to grade.{hint}")
    return found


def nested(folder: Path) -> str:
    """Return the name of a folder in `folder` that has app/; an empty text if there's none."""
    return next((path.parent.name for path in sorted(folder.glob("*/app"))), "")


def opened(output: Path, draft: Path) -> TextIO:
    """Return `draft`, open, to become `output`; raise LessonError if that's not possible."""
    try:
        if output.suffix.lower() != ".csv":
            raise LessonError(f"{output} can't be written: choose a name that ends in .csv.")
        if not output.parent.is_dir():
            raise LessonError(f"{output} can't be written: there's no folder {output.parent}.")
        if output.exists():
            output.open("r+b").close()  # Excel keeps a file that it shows from being replaced
        return draft.open("w", encoding="utf-8-sig", newline="")  # as Excel wants it
    except OSError as error:
        raise LessonError(f"{output} can't be written ({error.strerror}). Is it open?") from None


def grade_folder(folder: Path, seconds: float) -> dict[str, str]:
    """Return the cells of one folder; whatever is wrong with it becomes a note, not an error."""
    notes: list[str] = []
    cells: dict[str, str] = {}
    marks: dict[str, Verdict] = {}
    why: list[str] = []
    states = {exercise.id: "not run" for exercise in EXERCISES}
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
            states |= looked_at(marks)
            if "exercises" in marks:
                notes.append(f"app/ doesn't start. {marks.pop('exercises').sentence}")
            else:
                tests, failed, problem = tested(place, environment, seconds)
                cells |= tests
                notes += [problem] * bool(problem)
                more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
                why = [f"Failed tests: {', '.join(failed[:3])}{more}."] if failed else []
    except Exception as error:
        notes.append(f"could not be tested: {str(error)[:200]}")
    wrong = [f"{id_}: {each.sentence}" for id_, each in marks.items() if each.state == "wrong"]
    cells |= {
        "points": str(int(cells.get("quiz", 0)) + list(states.values()).count("right")),
        "maximum": str(len(course.questions()) + len(EXERCISES)),
        "why": " ".join(wrong + why),
        "note": "; ".join([*(note.rstrip(".") for note in notes[:-1]), *notes[-1:]]),
    }
    return states | cells


def looked_at(marks: Mapping[str, Verdict]) -> dict[str, str]:
    """Return the states of the exercises that the check came to before a process hung, if any."""
    states = {id_: mark.state for id_, mark in marks.items() if id_ != "exercises"}
    broken = marks.get("exercises")
    stuck = [id_ for id_ in MARKED if re.search(STUCK, marks[id_].sentence)]
    if broken and "The end of the app" not in broken.sentence:
        return {}
    later = MARKED[MARKED.index(stuck[0]) + 1 :] if stuck else ()
    return {id_: state for id_, state in states.items() if id_ not in later or state != "not yet"}


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
            inner = nested(folder)
            hint = f"; {inner}/ has one, so move what's in it up here" if inner else ""
            raise LessonError(f"{name} is missing{hint}")
    if (theirs := broker_of(folder)) != broker_of(ROOT):
        what = f"this project has broker={theirs}, and this solved copy broker={broker_of(ROOT)}"
        raise LessonError(f"{what}; grade it with a solved copy that has the same")
    ours = shutil.ignore_patterns(".*", "__pycache__", *NO_GRADE, *BROUGHT)
    shutil.copytree(ROOT, place, ignore=ours, dirs_exist_ok=True)
    caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(folder / "app", place / "app", ignore=caches, symlinks=True)
    shutil.copy(folder / "TUTORIAL.md", place)
    return place


def broker_of(folder: Path) -> str:
    """Return the broker that a project was generated with, by the client that it imports."""
    file = folder / "app" / "messaging" / "broker.py"
    if not file.is_file():
        return "none"
    text = file.read_text(encoding="utf-8", errors="replace")
    imported = re.findall(r"^(?:from|import) (\w+)", text, re.M)
    return next((CLIENTS[name] for name in imported if name in CLIENTS), "unknown")


def tested(
    place: Path, environment: dict[str, str], seconds: float
) -> tuple[dict[str, str], list[str], str]:
    """Run the tests in `place`; return their cells, which ones failed, and what went wrong."""
    report = place / "report.xml"
    command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", f"--junitxml={report}"]
    output, ended = run([*command, "tests"], place, environment, seconds)
    problem = "" if ended else f"the tests were stopped after {seconds:g} seconds"
    if not report.is_file():
        hangs = re.search(r"tests[/\\](test_\w+\.py)\", line \d+,? in (test_\w+)", output)
        at = f" in {'::'.join(hangs.groups())}" if hangs else ""
        return {}, [], f"{problem or 'the tests were cut short'}{at} and have no result"
    passed, failed = 0, []
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(case.get("name", ""))
        else:
            passed += case.find("skipped") is None
    return {"tests_passed": str(passed), "tests_failed": str(len(failed))}, failed, problem


def inert(cell: str) -> str:
    """Return `cell` in a form that no spreadsheet takes for a formula."""
    return f"'{cell}" if re.match(r"[=+\-@\t\r]", cell) else cell
