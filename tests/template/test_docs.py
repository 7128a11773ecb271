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
    assert len(shown) == 6
    assert {path.name for path in (TEMPLATE / "docs/pictures").iterdir()} == {
        Path(name).name for name in shown
    }
    for name in shown:
        picture = (TEMPLATE / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 150_000
    alts = re.findall(r'<img [^>]*alt="([^"]+)"', README)
    assert len(alts) == 3
    assert all(len(alt.split()) > 15 for alt in alts)


def test_the_table_of_choices_is_true() -> None:
    """If it is not, `uv run python scripts/choices.py` writes it anew."""
    code = "import choices; print(choices.table(), end='')"
    made = succeed(sys.executable, "-c", code, cwd=TEMPLATE / "scripts")
    table = made[made.index("| Choice |") :]
    rows = [line for line in made.splitlines() if line.startswith("|")]
    assert table
    assert "\n".join(rows) in README


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for sh")
def test_a_course_from_the_first_day_to_the_grades(tmp_path: Path, repository: Path) -> None:
    """Follow docs/for-instructors.md, but for GitHub; between the steps, a learner works."""
    (
        make,
        solved,
        bundle,
        clone,
        back,
        take,
        missing,
        grade,
        upgrade,
        again,
        take_in,
        fetch,
        room,
    ) = (
        block.replace(
            "gh:org/evtemplate", ("" if "cruft" in block else "git+") + repository.as_uri()
        )
        for block in blocks(TEMPLATE / "docs/for-instructors.md")
    )
    (tmp_path / "class.txt").write_text("team-01\nteam-02\n", encoding="utf-8")
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}  # git asks who

    def follow(*steps: str) -> str:
        done = run("sh", "-ec", "\n".join(steps), cwd=tmp_path, **nobody)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout

    home, handed_in = (Project(tmp_path / name, tmp_path) for name in ("at-home", "class/team-01"))
    follow(make, solved, bundle, clone)
    home.edit("answers.toml", 'q1 = ""', 'q1 = "C"')
    follow(back, take)
    assert 'q1 = "C"' in handed_in.read("answers.toml")
    assert follow(missing) == "nothing from team-02\n"

    counted = follow(grade)
    text = (tmp_path / "grades.csv").read_text(encoding="utf-8-sig")
    first, team_1, team_2 = text.splitlines()
    assert first.startswith("folder,points,maximum,quiz,")
    assert team_1.startswith("team-01,1,14,1,")
    assert team_2.startswith("team-02,0,14,0,")
    assert re.search(r"1  C right", counted)

    bus = "{{cookiecutter.project_slug}}/app/bus.py"
    Project(repository, tmp_path).edit(bus, '"""', '"""Newer: ')
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
    Project(repository, tmp_path).edit(bus, "Newer: ", "Newest: ")
    commit(repository, "Newest")
    said = follow(upgrade)
    assert re.search(r"^Look at class/team-01: app/bus.py", said, re.M), said
    log = succeed("git", "log", "-1", "--format=%s", cwd=handed_in.path)
    assert log == "A learner's own words\n"
    assert "<<<<" not in succeed("git", "show", "HEAD:app/bus.py", cwd=handed_in.path)

    printed = follow(fetch, room)
    assert " passed" in printed
