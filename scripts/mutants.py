"""Change a project's code in small ways and see which changes its tests miss: uv run python scripts/mutants.py [BROKER]

mutmut makes the changes, one at a time, and runs the project's tests on each. What survives and isn't in
mutants.toml, with the reason, is printed, and the status is 1. mutmut leaves out what has a decorator, such as
handlers and routes, and code outside functions. It needs `fork`: on Windows, run it under WSL.
"""

import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).resolve().parent.parent
FILES = {
    "none": ["app/bus.py"],
    "nats": ["app/messaging/delivery.py"],  # the same for all brokers; its tests need no server
    "postgres": ["app/messaging/broker.py"],
}
# This test copies the app to a folder of its own, where mutmut finds no settings.
LEFT_OUT = (
    "tests/test_handlers.py::test_new_files_are_imported_in_the_same_order_whatever_comes_first"
)
SETTINGS = """\
[mutmut]
source_paths = app
only_mutate =
    {files}
also_copy =
    README.md
    compose.yaml
    migrations
pytest_add_cli_args_test_selection =
    --deselect={left_out}
process_isolation = forkserver
timeout_multiplier = 4
timeout_constant = {seconds}
use_git_change_detection = false
"""


def mutmut(project: Path, *arguments: str, shown: bool = False) -> str:
    """Run mutmut in the project's own environment; return what it printed, or show it."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = ["uv", "run", "--quiet", "--with", "mutmut>=3.8,<4", "mutmut", *arguments]
    stdout = None if shown else subprocess.PIPE
    done = subprocess.run(
        command, cwd=project, env=environment, stdout=stdout, encoding="utf-8", check=True
    )
    return done.stdout or ""


def changed(project: Path, name: str) -> list[str]:
    """Return the lines that a mutant has removed and added."""
    lines = mutmut(project, "show", name).splitlines()
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def main(broker: str = "none") -> None:
    if broker not in FILES:
        sys.exit(f"BROKER is one of {', '.join(FILES)}; the default is none.")
    reasons = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text(encoding="utf-8"))
    allowed = {line: reason["why"] for reason in reasons["reason"] for line in reason["lines"]}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        answers = {"broker": broker, "lesson": "none"}
        project = Path(
            cookiecutter(str(TEMPLATE), no_input=True, output_dir=folder, extra_context=answers)
        )
        files = FILES[broker]
        seconds = 30 if broker == "postgres" else 4  # until its server is up
        settings = SETTINGS.format(files="\n    ".join(files), left_out=LEFT_OUT, seconds=seconds)
        (project / "setup.cfg").write_text(settings, encoding="utf-8")
        mutmut(project, "run", "--max-children", str(os.cpu_count()), shown=True)

        outcomes = mutmut(project, "results", "--all", "true").split("\n")
        found = dict(line.strip().split(": ") for line in outcomes if ": " in line)
        counts = Counter(found.values())
        missed = []
        for name in (name for name in found if found[name] not in ("killed", "timeout")):
            lines = changed(project, name)
            if found[name] == "survived" and any(line[1:].strip() in allowed for line in lines):
                counts["named"] += 1
            else:
                missed.append("\n".join([f"{name}: {found[name]}", *lines]))
    print("\n\n".join(missed))
    minutes = (time.monotonic() - start) / 60
    noticed = counts["killed"] + counts["timeout"]
    print(
        f"{len(found)} mutants of {', '.join(files)} in {minutes:.0f} minutes: {noticed} noticed "
        f"({counts['timeout']} because the tests didn't end), "
        f"{counts['named']} named in mutants.toml, {len(missed)} missed"
    )
    sys.exit(bool(missed))


if __name__ == "__main__":
    main(*sys.argv[1:])
