"""The pages in docs/ and what they show: there, true, and followed as they stand."""

import os
import re
import sys
from pathlib import Path

import pytest

from support.processes import run, succeed
from support.projects import Project
from support.template import TEMPLATE, blocks, commit

DOCS = TEMPLATE / "docs"
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
    public, url = "https://github.com/org/evtemplate", repository.with_suffix(".git")
    url.symlink_to(repository)  # by its name, cookiecutter takes it for a repository
    found = [each.replace(public, url.as_uri()) for each in blocks(DOCS / "for-instructors.md")]
    make, bundle, clone, back, take, zipped, grade, *later = found
    upgrade, again, take_in, fetch, room = later
    (tmp_path / "class.txt").write_bytes(b"team-01\r\nteam-02\r\nteam_3\r\nteam-04")  # Notepad's
    nobody = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}  # git asks who

    def follow(*steps: str) -> str:
        done = run("sh", "-ec", "\n".join(steps), cwd=tmp_path, **nobody)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        return done.stdout

    def head(project: Project) -> str:
        return succeed("git", "log", "-1", "--format=%s", cwd=project.path).strip()

    home = Project(tmp_path / "at-home")
    first, second, fourth = (Project(tmp_path / f"class/team-0{number}") for number in (1, 2, 4))
    template, bus = Project(repository), "{{cookiecutter.project_slug}}/app/bus.py"
    for _ in range(2):  # what exists stays as it is
        assert re.match(r"team_3: not made\. .+ use lower-case .+ \(got 'team_3'\)", follow(make))
    follow(bundle, clone, back)  # with nothing to commit
    assert follow(take).split("\n")[:-1] == [f"team-0{n}: nothing handed in" for n in (1, 2, 4)]
    succeed("git", "switch", "--quiet", "--create", "tries", cwd=home.path)
    home.edit("answers.toml", 'q1 = ""', 'q1 = "C"')
    home.write("uv.lock", "version = 1\n")  # `uv run` leaves it
    second.edit("answers.toml", 'q1 = ""', 'q1 = "A"')  # a zip was unpacked here
    follow(back, zipped)
    assert follow(take) == "team-04: nothing handed in\n"

    assert "1  C right" in follow(grade)
    rows = (tmp_path / "grades.csv").read_text(encoding="utf-8-sig").splitlines()
    assert [row[:12] for row in rows[1:]] == ["team-01,1,14", "team-02,0,14", "team-04,0,14"]

    template.edit(bus, '"""', '"""Newer: ')
    commit(repository, "Newer")
    home.edit("answers.toml", 'q2 = ""', 'q2 = "A"')
    second.edit("answers.toml", 'q2 = ""', 'q2 = "A"')
    (fourth.path / ".cruft.json").unlink()
    commit(fourth.path, "Broken")
    said = follow(upgrade)
    told = re.match(r"team-02: not upgraded; commit .+\nteam-04: not upgraded\. NoCruft", said)
    assert told, said
    assert [head(each) for each in (second, fourth)] == ["My work", "Broken"]
    follow(back, take)  # by a learner who hasn't got the upgrade
    home.edit("answers.toml", 'q3 = ""', 'q3 = "B"')  # not committed, and kept
    follow(again, take_in)
    for project in (first, home):
        assert "Newer: " in project.read("app/bus.py")
        assert 'q2 = "A"' in project.read("answers.toml")
    assert 'q3 = "B"' in home.read("answers.toml")
    assert follow(upgrade).startswith("team-01 has it already\n")

    home.edit("app/bus.py", "Newer: ", "Mine: ")
    follow(back, take)
    template.edit(bus, "Newer: ", "Newest: ")
    commit(repository, "Newest")
    assert re.search(r"^Look at class/team-01: app/bus.py", follow(upgrade), re.M)
    assert head(first) == "My work"

    assert " passed" in follow(fetch, room)
