"""Grading a class: a row for each folder, whatever is in it."""

import csv
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lesson.course import ROOT, LessonError
from lesson.exercises import EXERCISES
from lesson.grade import WARNING, grade, grade_folder, inert

FolderOf = Callable[[str], Path]
IDS = [exercise.id for exercise in EXERCISES]


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


def test_a_solved_folder(folder_of: FolderOf) -> None:
    cells = grade_folder(folder_of("ana"), 120)

    assert (cells["note"], cells["why"]) == ("", "")
    assert [cells[id_] for id_ in IDS] == ["right"] * 5
    assert (cells["points"], cells["maximum"], cells["quiz"]) == ("14", "14", "9")
    assert cells["tests_failed"] == "0"
    assert int(cells["tests_passed"]) > 50


def test_a_changed_test_does_not_count(folder_of: FolderOf) -> None:
    folder = folder_of("bea")
    for test in folder.glob("tests/*.py"):
        test.write_text("def test_me() -> None: ...\n", encoding="utf-8")
    edit(folder / "app" / "handlers" / "startup.py", '"App is starting"', '"Hello"')
    edit(folder / "app" / "handlers" / "stock.py", "await emit(", "emit(")
    edit(folder / "answers.toml", 'q1 = "C"', 'q1 = "b"')

    cells = grade_folder(folder, 120)

    assert int(cells["tests_failed"]) > 1
    assert [cells[id_] for id_ in IDS] == ["right", "wrong", "right", "right", "right"]
    assert cells["why"].startswith("exercise2: app/handlers/stock.py, line 13: emit isn't awaited")
    assert cells["q1"] == "B"
    assert cells["quiz"] == "7"  # a reason doesn't count without its answer
    assert cells["points"] == "11"


def test_what_does_not_start_has_a_row(folder_of: FolderOf) -> None:
    folder = folder_of("carl")
    stock = folder / "app" / "handlers" / "stock.py"
    edit(stock, "import OrderPlaced", "import Nothing, OrderPlaced")
    (folder / "answers.toml").write_text("[quiz]\nq1 = C\n", encoding="utf-8")

    cells = grade_folder(folder, 120)

    answers_note, start_note = cells["note"].split("; app/", 1)
    assert answers_note.startswith("answers.toml, line 2: ")
    assert start_note.startswith(" doesn't start. app/handlers/stock.py, line 4: ImportError")
    assert cells["points"] == "0"


def test_what_cannot_be_read_has_a_row(folder_of: FolderOf) -> None:
    folder = folder_of("cleo")
    (folder / "answers.toml").write_text(f"a = {'[' * 5000}", encoding="utf-8")
    shutil.rmtree(folder / "app")

    note = grade_folder(folder, 120)["note"]

    assert note.startswith("answers.toml")
    assert note.endswith("could not be tested: app is missing")


@pytest.mark.parametrize("file", ["app/handlers/startup.py", "app/handlers/stock.py"])
def test_time_is_limited_and_nothing_stays_behind(
    folder_of: FolderOf, tmp_path: Path, file: str
) -> None:
    folder = folder_of("dan")
    beat = tmp_path / "beat"
    child = (
        f"import time; [(open({str(beat)!r}, 'w').close(), time.sleep(0.1)) for _ in range(600)]"
    )
    with (folder / file).open("a", encoding="utf-8") as code:
        code.write(
            f"import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', {child!r}])\n"
        )
        code.write("time.sleep(600)\n")

    start = time.monotonic()
    cells = grade_folder(folder, 5)

    assert time.monotonic() - start < 30
    assert f"app/ doesn't start. {file}, line " in cells["note"]
    assert "doesn't come back" in cells["note"]
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

    assert grade_folder(folder, 120)["note"] == ""
    assert os.environ["A_SECRET"]


def test_the_table_of_a_class(
    folder_of: FolderOf, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [folder_of("fay"), tmp_path / "nobody", tmp_path / "=\u65e5\u672c"]
    folders[2].mkdir()
    shutil.copy(folders[0] / "answers.toml", folders[2])
    edit(folders[2] / "answers.toml", 'q1 = "C"', 'q1 = "A"')
    edit(folders[2] / "answers.toml", 'q3 = "B"', 'q3 = ""')
    output = tmp_path / "grades.csv"

    assert grade(folders, output, 120) == 0

    assert output.read_bytes().startswith(b"\xef\xbb\xbf")  # so Excel takes it for UTF-8
    with output.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["folder"] for row in rows] == ["fay", "nobody", "'=\u65e5\u672c"]
    assert [row["quiz"] for row in rows] == ["9", "", "5"]
    assert [row["exercise3"] for row in rows] == ["right", "not run", "not run"]
    assert rows[1]["note"].startswith("there's no such folder")
    assert rows[2]["note"] == "could not be tested: app is missing"
    said = capsys.readouterr().out
    assert said.startswith(WARNING)
    assert counts(said, "q1") == ["1 A", "0 B", "1 C", "0 D", "1 no"]
    assert counts(said, "q3") == ["0 A", "1 B", "0 C", "0 D", "2 no"]
    with pytest.raises(LessonError, match="can't be written"):
        grade(folders, tmp_path, 120)


def test_a_cell_is_no_formula() -> None:
    assert [inert(cell) for cell in ("=1+1", "@a", "ana")] == ["'=1+1", "'@a", "ana"]


def counts(output: str, question: str) -> list[str]:
    """Return how often each choice was taken, such as "3 A"; "no" is no answer."""
    lines = output.partition(f"\n{question}  ")[2].partition("\n\n")[0].splitlines()
    return [" ".join(line.split()[:2]) for line in lines[1:]]
