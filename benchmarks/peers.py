"""The size of what the template and its peers generate, and how long that takes.

cookiecutter-uv and cosmic-fastapi are no packages with a template in them: name checkouts of them in the
environment variables COOKIECUTTER_UV and COSMIC_FASTAPI. cosmic-fastapi is one of Copier's.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from requests_a_second import turned

TEMPLATE = Path(__file__).parent.parent
ROUNDS = 3
LEFT_OUT = {".git", ".venv", "__pycache__", ".pytest_cache"}


def commands() -> dict[str, list[str]]:
    """Return the command that generates each project in the folder it's run in."""
    cookiecutter = [sys.executable, "-m", "cookiecutter", "--no-input"]
    found = {
        "**evtemplate**, the service alone": [*cookiecutter, str(TEMPLATE), "lesson=none"],
        "**evtemplate**, with PostgreSQL": [
            *cookiecutter,
            str(TEMPLATE),
            "lesson=none",
            "broker=postgres",
        ],
        "**evtemplate**, the defaults": [*cookiecutter, str(TEMPLATE)],
        "fastapi-new": [str(Path(sys.executable).with_name("fastapi-new")), "peer"],
    }
    if checkout := os.environ.get("COOKIECUTTER_UV"):
        found["cookiecutter-uv"] = [*cookiecutter, checkout]
    if checkout := os.environ.get("COSMIC_FASTAPI"):
        copier = [str(Path(sys.executable).with_name("copier")), "copy", "--quiet", "--defaults"]
        found["cosmic-fastapi"] = [*copier, "--skip-tasks", "--vcs-ref=HEAD", checkout, "peer"]
    return found


def sizes(project: Path) -> list[int]:
    """Return the files, the lines of Python in the service and in tests, and the test functions."""
    files = [path for path in project.rglob("*") if path.is_file() and not LEFT_OUT & {*path.parts}]
    tests, service = [], []
    for path in (path for path in files if path.suffix == ".py"):
        parts = path.relative_to(project).parts
        if "tests" in parts:
            tests += path.read_text(encoding="utf-8").splitlines()
        elif "lesson" not in parts:
            service += path.read_text(encoding="utf-8").splitlines()
    functions = [line for line in tests if re.match(r"\s*(async )?def test_", line)]
    return [len(files), len(service), len(tests), len(functions)]


def measure(folder: Path) -> str:
    """Return the table; `folder` is an empty one to work in."""
    seconds: dict[str, list[float]] = {name: [] for name in commands()}
    counts = {}
    for turn in range(ROUNDS):
        for name in turned(commands(), turn):
            place = Path(tempfile.mkdtemp(dir=folder))
            start = time.perf_counter()
            subprocess.run(commands()[name], cwd=place, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
            [project] = place.iterdir()
            counts[name] = sizes(project)
    lines = [
        "| project | seconds to generate | files | lines of the service | of tests | test functions |",
        "|---|---|---|---|---|---|",
    ]
    for name, found in counts.items():
        cells = " | ".join(f"{count:,}" for count in found)
        lines.append(f"| {name} | {statistics.median(seconds[name]):.1f} | {cells} |")
    for name in ("cookiecutter-uv", "cosmic-fastapi"):
        if name not in counts:
            lines.append(f"| {name} | not measured | | | | |")
    return "\n".join(lines)
