"""The release: its workflow refuses a tag that doesn't fit, and its notes are CHANGELOG.md's entry."""

import tomllib
from pathlib import Path

import pytest

from support.processes import run, succeed
from support.projects import Project
from support.template import TEMPLATE, copy_template

VERSION = tomllib.loads((TEMPLATE / "pyproject.toml").read_text("utf-8"))["project"]["version"]
COMMAND = ("python", "scripts/release.py")


def test_the_notes_are_the_newest_entry() -> None:
    notes = succeed(*COMMAND, f"v{VERSION}", cwd=TEMPLATE)
    newest = (TEMPLATE / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1]
    assert notes.split() == newest.partition("\n")[2].split() != []
    assert notes.count("\n- ") == newest.count("\n- ")
    assert "\n  " not in notes  # GitHub would break the line there


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pyproject.toml", f'version = "{VERSION}"', 'version = "99.0.0"'),
        ("CHANGELOG.md", f"## {VERSION}", f"## Unreleased\n\n## {VERSION}"),
        ("CHANGELOG.md", f"## {VERSION}", f"## {VERSION}\n\n## 0.0.1"),
    ],
)
def test_what_does_not_fit_is_refused(file: str, old: str, new: str, tmp_path: Path) -> None:
    Project(copy_template(tmp_path)).edit(file, old, new)
    done = run(*COMMAND, f"v{VERSION}", cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
