"""These tests as a contributor and CI run them: what's left out, and what a skip means."""

import re
import sys
from pathlib import Path

from support.processes import run
from support.template import TEMPLATE

TESTS = TEMPLATE / "tests"
SOURCES = {path: path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py")}


def test_no_test_imports_a_test() -> None:
    tests = {path.stem for path in SOURCES if path.name.startswith(("test_", "conftest"))}
    for path, text in SOURCES.items():
        imported = re.findall(r"^ *(?:from|import) +([\w.]+)", text, re.M)
        assert [name for name in imported if name.split(".")[-1] in tests] == [], path


def pytest(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the tests of the page, without a browser; return the status and the last lines."""
    page = "tests/lesson/test_page.py"
    path = str(Path(sys.executable).parent)
    command = (sys.executable, "-m", "pytest", "-n", "2", page, *arguments)
    done = run(*command, cwd=TEMPLATE, **{"PATH": path} | environment)
    return done.returncode, done.stdout


def test_what_is_left_out_is_said_in_the_end() -> None:
    status, printed = pytest()
    assert status == 5  # nothing ran, and CI fails
    assert re.search(
        r"^Left out by marker: \d+ browser; .+ `uv run pytest -m MARKER`", printed, re.M
    )


def test_a_skip_has_a_reason_and_fails_in_ci() -> None:
    marked = ("-m", "browser", "-k", "keyboard", "-rs")
    status, printed = pytest(*marked, EVTEMPLATE_NO_SKIPS="")
    assert (status, "chromium is not installed" in printed) == (0, True)
    status, printed = pytest(*marked, EVTEMPLATE_NO_SKIPS="1")
    assert (status, "chromium is not installed" in printed) == (1, True)


def test_ci_runs_every_marker() -> None:
    markers = re.findall(r'^    "(\w+): ', (TEMPLATE / "pyproject.toml").read_text("utf-8"), re.M)
    ci = (TEMPLATE / ".ci/run").read_text(encoding="utf-8")
    [run_there] = re.findall(r"^for marker in (.+); do", ci, re.M)
    assert sorted(run_there.split()) == sorted(markers)
