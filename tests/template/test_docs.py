"""The pages in docs/ and what they show: there, true, and followed as they stand."""

import os
import re
import sys
from pathlib import Path

import pytest

from support.processes import run, succeed
from support.projects import Project
from support.template import TEMPLATE, blocks, commit

README = (TEMPLATE / "README.md").read_text(encoding="utf-8")


def test_the_pictures_are_there_small_and_described() -> None:
    shown = re.findall(r'(?:srcset|src)="(docs/pictures/[^"]+)"', README)
    pictures = {TEMPLATE / name for name in shown}
    assert len(pictures) == 6
    assert pictures == set((TEMPLATE / "docs/pictures").iterdir())
    assert all(path.stat().st_size < 150_000 for path in pictures)
    alts = re.findall(r'<img [^>]*alt="([^"]+)"', README)
    assert [len(alt.split()) > 15 for alt in alts] == [True] * 3


def test_the_table_of_choices_is_true() -> None:
    """If it is not, `uv run python scripts/choices.py` writes it anew."""
    code = "import choices; print(choices.table())"
    made = succeed(sys.executable, "-c", code, cwd=TEMPLATE / "scripts")
    assert made[made.index("| Choice |") :].strip() in README


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for sh")
def test_a_course_from_the_first_day_to_the_grades(tmp_path: Path, repository: Path) -> None:
    """Follow docs/for-instructors.md, but for GitHub; between the steps, a learner works."""
    url = repository.as_uri()
    make, solved, bundle, clone, back, take, missing, grade, *later = (
        block.replace("gh:org/evtemplate", url if "cruft" in block else f"git+{url}")
        for block in blocks(TEMPLATE / "docs/for-instructors.md")
    )
    upgrade, again, take_in, fetch, room = later
    (tmp_path / "class.txt").write_text("team-01\nteam-02\n", encoding="utf-8")
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}  # git asks who

    def follow(*steps: str) -> str:
        done = run("sh", "-ec", "\n".join(steps), cwd=tmp_path, **nobody)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    home, handed_in = Project(tmp_path / "at-home"), Project(tmp_path / "class/team-01")
    template, bus = Project(repository), "{{cookiecutter.project_slug}}/app/bus.py"
    follow(make, solved, bundle, clone)
    home.edit("answers.toml", 'q1 = ""', 'q1 = "C"')
    follow(back, take)
    assert 'q1 = "C"' in handed_in.read("answers.toml")
    assert follow(missing) == "nothing from team-02\n"

    counted = follow(grade)
    rows = (tmp_path / "grades.csv").read_text(encoding="utf-8-sig").splitlines()
    starts = ("folder,points,maximum,quiz,", "team-01,1,14,1,", "team-02,0,14,0,")
    assert all(map(str.startswith, rows, starts)), rows
    assert "1  C right" in counted

    template.edit(bus, '"""', '"""Newer: ')
    commit(repository, "Newer")
    home.edit("answers.toml", 'q2 = ""', 'q2 = "A"')
    assert "Look at" not in follow(upgrade)
    follow(again, take_in)
    for project in (handed_in, home):
        assert "Newer: " in project.read("app/bus.py")
        assert 'q1 = "C"' in project.read("answers.toml")
    assert 'q2 = "A"' in home.read("answers.toml")  # not committed, and still there
    assert list(tmp_path.rglob("*.rej")) == []

    handed_in.edit("app/bus.py", "Newer: ", "Mine: ")
    commit(handed_in.path, "A learner's own words")
    template.edit(bus, "Newer: ", "Newest: ")
    commit(repository, "Newest")
    said = follow(upgrade)
    assert re.search(r"^Look at class/team-01: app/bus.py", said, re.M), said
    log = succeed("git", "log", "-1", "--format=%s", cwd=handed_in.path)
    assert log == "A learner's own words\n"
    assert "<<<<" not in succeed("git", "show", "HEAD:app/bus.py", cwd=handed_in.path)

    assert " passed" in follow(fetch, room)
