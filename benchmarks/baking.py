"""Time to bake a project, beside a template that has one file and no hooks.

Each time is that of a whole `cookiecutter` process, as a user starts it, and they take turns.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from requests_a_second import turned

TEMPLATE = Path(__file__).parent.parent
ANSWERS = {
    "**evtemplate**, the service alone": ["lesson=none"],
    "**evtemplate**, the defaults": [],
    "**evtemplate**, solved, with RabbitMQ": ["lesson=solution", "broker=rabbitmq"],
}


def one_file(folder: Path) -> Path:
    """Write the smallest template that there can be, and return where it is."""
    template = folder / "one"
    inside = template / "{{cookiecutter.project_slug}}"
    inside.mkdir(parents=True)
    (template / "cookiecutter.json").write_text(json.dumps({"project_slug": "x"}), "utf-8")
    (inside / "README.md").write_text("# {{cookiecutter.project_slug}}\n", encoding="utf-8")
    return template


def seconds(template: Path, out: Path, answers: list[str]) -> float:
    """Return how long one bake takes."""
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input"]
    start = time.perf_counter()
    subprocess.run([*command, "-o", str(out), *answers], check=True, capture_output=True)
    return time.perf_counter() - start


def measure(folder: Path, rounds: int = 16) -> str:
    """Return the table; `folder` is an empty one to work in."""
    least = one_file(folder)
    bakes = {"a template with one file": (least, list[str]())}
    bakes |= {name: (TEMPLATE, answers) for name, answers in ANSWERS.items()}
    times: dict[str, list[float]] = {name: [] for name in bakes}
    for turn in range(rounds):
        taken = {
            name: seconds(bakes[name][0], Path(tempfile.mkdtemp(dir=folder)), bakes[name][1])
            for name in turned(bakes, turn)
        }
        for name in bakes:
            times[name].append(taken[name] / taken["a template with one file"])
    rows = [f"| {name} | {statistics.median(ratios):.2f} |" for name, ratios in times.items()]
    return "\n".join(["| bake | time |", "|---|---|", *rows])
