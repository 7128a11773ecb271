"""Grading a class: a row for each folder, whatever is in it."""

import csv
import re
import shutil
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from lesson.course import ROOT, LessonError
from lesson.grade import WARNING, grade, grade_folder
from support.cases import cases

FOLDERS = cases(__file__, "folders")
REFUSED = FOLDERS.pop("refused")["each"]
PROGRAMS = FOLDERS.pop("programs")


def hand_in(folder: Path, case: dict[str, Any]) -> Path:
    """Make the folder of a learner: this project, as a learner would hand it in."""
    ignore = shutil.ignore_patterns("__pycache__", ".*", "lesson", "uv.lock", "in_project")
    shutil.copytree(ROOT, folder, ignore=ignore)

    def filled(text: str) -> str:
        text = PROGRAMS.get(text, text).replace("BEAT", repr(str(folder.parent / "beat")))
        return text.replace("DEEP", "[" * 5000)

    for file, text in case.get("write", {}).items():
        (folder / file).write_text(filled(text), encoding="utf-8")
    for file, old, new in case.get("edit", []):
        text = (folder / file).read_text(encoding="utf-8")
        assert old in text
        (folder / file).write_text(text.replace(old, new), encoding="utf-8")
    for file, text in case.get("add", {}).items():
        with (folder / file).open("a", encoding="utf-8") as code:
            code.write(filled(text))
    if "remove" in case:
        shutil.rmtree(folder / case["remove"])
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("A_SECRET", "of the instructor")
    folder = hand_in(tmp_path / "ana", FOLDERS[name])
    beat = tmp_path / "beat"

    cells = grade_folder(folder, FOLDERS[name].get("seconds", 120))

    for column, expected in FOLDERS[name]["cells"].items():
        assert re.fullmatch(expected, cells[column]), (column, cells)
    if "never finishes" in cells["note"]:
        assert beat.exists()
        time.sleep(0.5)
        beat.unlink()
        time.sleep(0.5)
        assert not beat.exists()


def test_the_table_of_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [hand_in(tmp_path / "fay", {}), tmp_path / "nobody", tmp_path / "=\u65e5\u672c"]
    answers = [("q1", "C", "A"), ("q2", "A", "E"), ("q3", "B", "")]
    edits = [["answers.toml", f'{q} = "{was}"', f'{q} = "{now}"'] for q, was, now in answers]
    hand_in(folders[2], {"edit": edits, "remove": "app"})
    (folders[2] / "inner" / "app").mkdir(parents=True)
    output = tmp_path / "grades.csv"
    output.write_text("old", encoding="utf-8")

    assert grade([tmp_path / "f?y", output, ROOT, *folders[1:]], output, 120) == 0

    assert output.read_bytes().startswith(b"\xef\xbb\xbf")  # so Excel takes it for UTF-8
    with output.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["folder"] for row in rows] == ["fay", "nobody", "'=\u65e5\u672c"]
    assert [row["quiz"] for row in rows] == ["9", "", "3"]
    assert [row["exercise3"] for row in rows] == ["right", "not run", "not run"]
    notes = r"\|there's no such folder.+\|could not be tested: app is missing; inner/ has one.+"
    assert re.fullmatch(notes, "|".join(row["note"] for row in rows))
    said = capsys.readouterr().out
    skipped = [f"{output} isn't a folder; skipped.", f"{ROOT} is this solved project; skipped."]
    assert said.splitlines()[:3] == [*skipped, WARNING]
    for question, taken in (("q1", "1A0B1C0D1no"), ("q2", "1A0B0C0D1no1other")):
        lines = said.partition(f"\n{question}  ")[2].partition("\n\n")[0].splitlines()[1:]
        assert "".join(word for line in lines for word in line.split()[:2]) == taken


def test_nothing_is_written_that_is_not_a_grade(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, given = tmp_path / "grades.csv", [tmp_path / "class" / name for name in ("ana", "bob")]
    for folder in given:
        (folder / "app").mkdir(parents=True)
    for folder, to, says in REFUSED:
        with pytest.raises(LessonError, match=says):
            grade([tmp_path / folder], tmp_path / to, 120)
    assert list(tmp_path.iterdir()) == [tmp_path / "class"]

    output.write_text("old", encoding="utf-8")
    monkeypatch.setattr("lesson.grade.grade_folder", Mock(side_effect=[{}, KeyboardInterrupt]))
    with pytest.raises(KeyboardInterrupt):
        grade(given, output, 120)
    assert output.read_text(encoding="utf-8") == "old"
    kept = tmp_path / "grades-unfinished.csv"
    assert [line[:5] for line in kept.read_text(encoding="utf-8-sig").splitlines()[1:]] == ["ana,,"]
    assert f"Stopped after 1 of 2: {kept} has what's done." in capsys.readouterr().out
