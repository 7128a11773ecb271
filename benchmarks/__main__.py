"""Measure and write the tables of docs/benchmarks.md: uv run --group benchmarks python benchmarks [--short] [PART ...]"""

import argparse
import asyncio
import os
import platform
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).parent.parent
PAGE = TEMPLATE / "docs" / "benchmarks.md"
PARTS = ("emit", "requests", "memory", "baking", "peers", "first_green", "brokers")


def measured(part: str, project: Path, folder: Path, short: bool) -> str:
    """Return the tables of one part; `folder` is an empty one to work in."""
    folder.mkdir()
    python = project / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    if part == "emit":
        import emit

        return asyncio.run(emit.measure(rounds=21 if short else 201))
    if part == "requests":
        import requests_a_second

        return requests_a_second.measure(python, project, folder, starts=2 if short else 12)
    if part == "memory":
        events = "10000" if short else "1000000"
        command = [str(python), str(Path(__file__).with_name("memory.py")), events]
        # The receipts of a million orders go to stdout, the table to stderr.
        done = subprocess.run(
            command, cwd=project, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        return done.stderr.decode().strip()
    if part == "baking":
        import baking

        return baking.measure(folder, rounds=2 if short else 16)
    if part == "peers":
        import peers

        return peers.measure(folder)
    if part == "brokers":
        import broker

        if short:
            broker.ROUNDS, broker.EVENTS = 1, 300
        return broker.measure()
    import first_green

    return first_green.measure(folder, ("uv",) if short else ("uv", "pip"))


def write(part: str, tables: str) -> None:
    """Put the tables of one part into the page, with the day and the machine."""
    machine = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    said = (
        f"{tables}\n\n{datetime.now(UTC).date()}, Python {platform.python_version()}, {machine}.\n"
    )
    begin, end = f"<!-- {part} -->\n", "<!-- end -->"
    text = PAGE.read_text(encoding="utf-8")
    new, count = re.subn(f"{begin}.*?{end}", lambda _: begin + said + end, text, flags=re.S)
    assert count == 1, f"{PAGE} must have one {begin}"
    PAGE.write_text(new, encoding="utf-8")


def main() -> None:
    """Measure the parts that are named, or all, and write each into the page as soon as it's done."""
    parser = argparse.ArgumentParser("python benchmarks")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"all, or some of {', '.join(PARTS)}"
    )
    parser.add_argument(
        "--short", action="store_true", help="few rounds, to try it; writes nothing"
    )
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"there's no part {unknown.pop()}; there are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory() as folder:
        project = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=folder))
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        subprocess.run(["uv", "sync", "--quiet"], cwd=project, env=environment, check=True)
        sys.path.insert(0, str(project))
        # `emit` comes last: it fills this process, the others start processes of their own.
        for part in reversed(
            [each for each in PARTS if each in options.parts or not options.parts]
        ):
            tables = measured(part, project, Path(folder) / f"for-{part}", options.short)
            print(f"\n{part}\n\n{tables}", flush=True)
            if not options.short:
                write(part, tables)


if __name__ == "__main__":
    main()
