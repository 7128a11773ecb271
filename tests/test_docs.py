"""The pages and pictures in docs/, followed and made again."""

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import blocks
from tools import TEMPLATE, run, succeed

README = (TEMPLATE / "README.md").read_text(encoding="utf-8")
WHO = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Test"), ("EMAIL", "test@example.org"))
}


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


def test_the_pictures_can_be_made_again(tmp_path: Path) -> None:
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    script = TEMPLATE / "docs/pictures.py"
    succeed(sys.executable, script, tmp_path / "made", port, cwd=tmp_path)
    made = {path.name for path in (tmp_path / "made").iterdir()}
    assert made == {path.name for path in (TEMPLATE / "docs/pictures").iterdir()}


def test_the_table_of_choices_is_true() -> None:
    """If it is not, `uv run python docs/choices.py` writes it anew."""
    code = "import choices; print(choices.table(), end='')"
    made = succeed(sys.executable, "-c", code, cwd=TEMPLATE / "docs")
    table = made[made.index("| Choice |") :]
    rows = [line for line in made.splitlines() if line.startswith("|")]
    assert table
    assert "\n".join(rows) in README


@pytest.mark.skipif(sys.platform == "win32", reason="the blocks are for sh")
def test_a_course_from_the_first_day_to_the_grades(tmp_path: Path, repository: Path) -> None:
    """Follow docs/for-instructors.md, but for GitHub; between the steps, a learner works."""
    course = blocks(TEMPLATE / "docs/for-instructors.md")
    make, solved, bundle, clone, back, take, grade, upgrade, fetch, room = (
        block.replace("gh:org/evtemplate", repository.as_uri())
        if "cruft" in block
        else block.replace("gh:org/evtemplate", f"git+{repository.as_uri()}")
        for block in course
    )
    (tmp_path / "class.txt").write_text("team-01\nteam-02\n", encoding="utf-8")

    def follow(*steps: str) -> subprocess.CompletedProcess[str]:
        done = run("sh", "-ec", "\n".join(steps), cwd=tmp_path, **WHO)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return done

    follow(make, solved, bundle, clone)
    answers = tmp_path / "at-home/answers.toml"
    answers.write_text(answers.read_text("utf-8").replace('q1 = ""', 'q1 = "C"'), encoding="utf-8")
    follow(back, take)
    assert 'q1 = "C"' in (tmp_path / "class/team-01/answers.toml").read_text(encoding="utf-8")

    graded = follow(grade)
    first, team_1, team_2 = (tmp_path / "grades.csv").read_text(encoding="utf-8").splitlines()
    assert first.startswith("folder,quiz,")
    assert team_1.startswith("../class/team-01,1,")
    assert team_2.startswith("../class/team-02,0,")
    assert re.search(r"1  C right", graded.stderr)

    bus = repository / "{{cookiecutter.project_slug}}" / "app" / "bus.py"
    bus.write_text(bus.read_text("utf-8").replace("The event-emit", "The new event-emit"), "utf-8")
    follow(f"cd {repository}", "git commit --quiet --all --message=Newer")
    follow(upgrade)
    assert "The new event-emit" in (tmp_path / "class/team-01/app/bus.py").read_text("utf-8")
    assert 'q1 = "C"' in (tmp_path / "class/team-01/answers.toml").read_text(encoding="utf-8")
    assert list(tmp_path.rglob("*.rej")) == []

    assert " passed" in follow(fetch, room).stdout
