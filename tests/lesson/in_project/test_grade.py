"""Grading a class: a row for each folder, whatever is in it."""

import csv
import io
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lesson import exercises
from lesson.grade import EXERCISES, ROOT, WARNING, _inert, grade, grade_folder

FolderOf = Callable[[str], Path]


@pytest.fixture
def folder_of(tmp_path: Path) -> FolderOf:
    """Makes the folder of a learner: this project, as a learner would hand it in."""

    def make(name: str) -> Path:
        folder = tmp_path / name
        ignore = shutil.ignore_patterns("__pycache__", ".*", "lesson", "uv.lock")
        shutil.copytree(ROOT, folder, ignore=ignore)
        return folder

    return make


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_each_exercise_has_a_column() -> None:
    assert tuple(exercise.id for exercise in exercises.EXERCISES) == EXERCISES


def test_a_solved_folder(folder_of: FolderOf) -> None:
    grades = grade_folder(folder_of("ana"), 120)

    assert grades.notes == []
    assert grades.exercises == dict.fromkeys(EXERCISES, "right")
    assert (grades.right, grades.failed) == (6, 0)
    assert grades.passed > 50


def test_a_changed_test_does_not_count(
    folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of("bea")
    for test in folder.glob("tests/*.py"):
        test.write_text("def test_me() -> None: ...\n", encoding="utf-8")
    edit(folder / "app" / "handlers" / "startup.py", '"App is starting"', '"Hello"')
    (folder / "app" / "handlers" / "stock.py").write_text("", encoding="utf-8")
    edit(folder / "answers.toml", 'q1 = "C"', 'q1 = "b"')

    grades = grade_folder(folder, 120)

    assert grades.failed > 1
    assert grades.exercises == {
        "exercise1": "not yet",
        "exercise2": "wrong",  # its event is there, and nobody emits it
        "exercise3": "right",
    }
    assert grades.letters["q1"] == "B"
    assert grades.right == 4  # a reason does not count without its answer


def test_what_does_not_start_has_a_row(folder_of: FolderOf) -> None:
    folder = folder_of("carl")
    edit(
        folder / "app" / "handlers" / "stock.py",
        "import OrderPlaced",
        "import Nothing, OrderPlaced",
    )
    (folder / "answers.toml").write_text("[quiz]\nq1 = C\n", encoding="utf-8")

    grades = grade_folder(folder, 120)

    assert grades.exercises == {}
    answers_note, start_note = grades.notes
    assert answers_note.startswith("answers.toml, line 2: ")
    assert start_note.startswith("does not start: ImportError: cannot import name 'Nothing'")


def test_what_cannot_be_read_has_a_row(folder_of: FolderOf) -> None:
    folder = folder_of("cleo")
    (folder / "answers.toml").write_text(f"a = {'[' * 5000}", encoding="utf-8")
    shutil.rmtree(folder / "app")

    answers_note, test_note = grade_folder(folder, 120).notes

    assert answers_note.startswith("answers.toml")
    assert test_note.startswith("could not be tested: FileNotFoundError")


def test_time_is_limited_and_nothing_stays_behind(folder_of: FolderOf, tmp_path: Path) -> None:
    folder = folder_of("dan")
    beat = tmp_path / "beat"
    child = (
        f"import time; [(open({str(beat)!r}, 'w').close(), time.sleep(0.1)) for _ in range(600)]"
    )
    with (folder / "app" / "handlers" / "startup.py").open("a", encoding="utf-8") as file:
        file.write(
            f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n"
        )
        file.write("time.sleep(600)\n")

    start = time.monotonic()
    grades = grade_folder(folder, 5)

    assert time.monotonic() - start < 30
    assert grades.notes == ["stopped after 5 seconds"]
    assert beat.exists()
    time.sleep(0.5)
    beat.unlink()
    time.sleep(0.5)
    assert not beat.exists()


def test_the_environment_is_cleared(folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "of the instructor")
    folder = folder_of("eve")
    with (folder / "app" / "handlers" / "startup.py").open("a", encoding="utf-8") as file:
        file.write("import os\nassert 'A_SECRET' not in os.environ, 'seen'\n")

    assert grade_folder(folder, 120).notes == []
    assert os.environ["A_SECRET"]


def test_the_table_of_a_class(
    folder_of: FolderOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [folder_of("fay"), tmp_path / "nobody", tmp_path / "=gus"]
    folders[2].mkdir()
    shutil.copy(folders[0] / "answers.toml", folders[2])
    edit(folders[2] / "answers.toml", 'q1 = "C"', 'q1 = "A"')
    edit(folders[2] / "answers.toml", 'q3 = "B"', 'q3 = ""')

    assert grade(folders, 120) == 0

    output = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(output.out)))
    assert [row["folder"] for row in rows] == [str(folder) for folder in folders]
    assert [row["quiz"] for row in rows] == ["6", "0", "2"]
    assert [row["exercise3"] for row in rows] == ["right", "not run", "not run"]
    assert rows[1]["note"] == "there is no such folder"
    assert rows[2]["note"].startswith("could not be tested: ")
    assert output.err.startswith(WARNING)
    assert counts(output.err, "q1") == ["1 A", "0 B", "1 C", "0 D"]
    assert counts(output.err, "q3") == ["0 A", "1 B", "0 C", "0 D", "1 no"]


def test_a_cell_is_no_formula() -> None:
    assert [_inert(cell) for cell in ("=1+1", "@a", "ana")] == ["'=1+1", "'@a", "ana"]


def counts(output: str, question: str) -> list[str]:
    """Return how often each choice was taken, such as "3 A"; "no" is no answer."""
    lines = output.partition(f"\n{question}  ")[2].partition("\n\n")[0].splitlines()
    return [" ".join(line.split()[:2]) for line in lines[1:]]
