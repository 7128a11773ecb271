"""The pages in docs/ and what they show: there, true, and followed as they stand."""

import re
import sys
from pathlib import Path

import pytest

from support.processes import run, succeed
from support.projects import Project
from support.template import TEMPLATE, WHO, blocks, commit

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
    make, solved, bundle, clone, back, take, grade, upgrade, fetch, room = (
        block.replace(
            "gh:org/evtemplate", ("" if "cruft" in block else "git+") + repository.as_uri()
        )
        for block in blocks(TEMPLATE / "docs/for-instructors.md")
    )
    (tmp_path / "class.txt").write_text("team-01\nteam-02\n", encoding="utf-8")

    def follow(*steps: str) -> tuple[str, str]:
        done = run("sh", "-ec", "\n".join(steps), cwd=tmp_path, **WHO)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    home, handed_in = (Project(tmp_path / name, tmp_path) for name in ("at-home", "class/team-01"))
    follow(make, solved, bundle, clone)
    home.edit("answers.toml", 'q1 = ""', 'q1 = "C"')
    follow(back, take)
    assert 'q1 = "C"' in handed_in.read("answers.toml")

    _, counted = follow(grade)
    first, team_1, team_2 = (tmp_path / "grades.csv").read_text(encoding="utf-8").splitlines()
    assert first.startswith("folder,quiz,")
    assert team_1.startswith("../class/team-01,1,")
    assert team_2.startswith("../class/team-02,0,")
    assert re.search(r"1  C right", counted)

    bus = "{{cookiecutter.project_slug}}/app/bus.py"
    Project(repository, tmp_path).edit(bus, '"""', '"""Newer: ')
    commit(repository, "Newer")
    follow(upgrade)
    assert "Newer: " in handed_in.read("app/bus.py")
    assert 'q1 = "C"' in handed_in.read("answers.toml")
    assert list(tmp_path.rglob("*.rej")) == []

    printed, _ = follow(fetch, room)
    assert " passed" in printed
