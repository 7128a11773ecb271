"""These tests as a contributor and CI run them: what's left out, and what a skip means."""

import re
import sys
from pathlib import Path

import pytest

from support.processes import run
from support.template import TEMPLATE, blocks


def printed(status: int, *arguments: str, **environment: str) -> str:
    """Return what the tests of the page print where there's no browser."""
    command = (sys.executable, "-m", "pytest", "tests/lesson/test_page.py", "-rs", *arguments)
    done = run(*command, cwd=TEMPLATE, PATH=str(Path(sys.executable).parent), **environment)
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.mark.slow
def test_what_is_left_out_is_said_in_the_end() -> None:
    said = printed(5, "-n1")  # nothing ran, and CI fails
    assert re.search(r"^Left out by marker: \d+ browser; .+ `uv run pytest -m MARKER`", said, re.M)


@pytest.mark.parametrize(("status", "forbidden"), [(0, ""), (1, "1")])
def test_a_skip_has_a_reason_and_fails_in_ci(status: int, forbidden: str) -> None:
    said = printed(status, "-n0", "-m", "browser", "-k", "keyboard", EVTEMPLATE_NO_SKIPS=forbidden)
    assert "chromium is not installed" in said


def test_ci_calls_the_command_of_the_readme_and_runs_every_marker() -> None:
    markers = re.findall(r'^    "(\w+): ', (TEMPLATE / "pyproject.toml").read_text("utf-8"), re.M)
    ci = (TEMPLATE / ".ci/run").read_text(encoding="utf-8")
    [command] = [block for block in blocks(TEMPLATE / "README.md") if "pytest" in block]
    assert command.strip() in ci
    [run_there] = re.findall(r"^for marker in (.+); do", ci, re.M)
    assert sorted(run_there.split()) == sorted(markers)
