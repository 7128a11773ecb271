"""Measure all there is and write docs/benchmarks.md: uv run --group benchmarks python benchmarks"""

import asyncio
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).parent.parent
PARTS = ("emit", "requests", "memory", "baking", "first_green", "brokers")
PAGE = """\
# Benchmarks

Ratios, measured side by side in one run: smaller is faster in the first tables, larger is faster in the
ones about requests. An absolute time on a shared machine says little.

{day}, Python {python}, {machine}. Run it again with `uv run --group benchmarks python benchmarks`; it
needs `wrk` and the brokers' servers, and takes half an hour. One part alone: add its name, {parts}; nothing is written then.

## emit

The least that any emit must do, a loop that awaits each listener and keeps what it returned, is 1. Where an emit
doesn't wait for its listeners, the time until the last one has run counts. blinker and Django return what the
listeners returned; pyee, Litestar and fastapi-events don't. No peer was ahead.

{emit}

## Requests

A bare FastAPI app with the same two routes on an included `APIRouter`, and the same pydantic models, is 1. It's the
mean of two such apps, whose own rows show how far to trust the figures. "In one process", one server has them all,
each request goes to one at random, and the median time in the app counts, without the server's own part. In the
other columns each has a process of its own, and requests a second count.

{requests}

## Memory

What the service's process holds after so many orders, each handled by its listener; after the first ones is 1. It
must stay flat.

{memory}

## Baking

A whole `cookiecutter` process, beside one for a template with one file and no hooks. The template with one file is
ahead: ours has files to render, and two hooks that are Python processes of their own.

{baking}

## From nothing to the first green test

Seconds from the generator's command until the project is installed and its tests are green, or until it
gives its first answer. They contain the speed of the package index, so compare within the table only. Cold
has an empty cache of packages. [cookiecutter-uv](https://github.com/fpgmaas/cookiecutter-uv) makes a
package, not a service; fastapi-new makes a service without tests, and installs it while it generates.
Once the packages are there, cookiecutter-uv is ahead of our defaults with uv: they have the lesson's tests to run.

{first_green}

## Brokers

Events a second from `emit` to handled, on disk, one event in hand, beside plain FastStream and the broker's own client,
which knows neither events nor attempts. FastStream has no PostgreSQL: the peers there are PgQueuer, with two in hand, as
it accepts no fewer, and procrastinate. All three store with `synchronous_commit`, and take and delete each event on
its own without it. The broker runs on the same {cores} cores. The last column is `emit` with BROKER_URL unset, beside a project without a broker: a time, so
smaller is faster.

{brokers}
"""


def measured(part: str, project: Path, folder: Path) -> str:
    """Return the tables of one part; `folder` is an empty one to work in."""
    folder.mkdir()
    python = project / ".venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    if part == "emit":
        import emit

        return asyncio.run(emit.measure())
    if part == "requests":
        import requests_a_second

        return requests_a_second.measure(python, project, folder)
    if part == "memory":
        command = [str(python), str(Path(__file__).with_name("memory.py"))]
        # The receipts of a million orders go to stdout, the table to stderr.
        done = subprocess.run(
            command, cwd=project, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        return done.stderr.decode().strip()
    if part == "baking":
        import baking

        return baking.measure(folder)
    if part == "brokers":
        import broker

        return broker.measure()
    import first_green

    return first_green.measure(folder)


def main(*wanted: str) -> None:
    """Measure the parts that are named, or all, and then write the page."""
    if unknown := set(wanted) - set(PARTS):
        raise SystemExit(f"There is no part {unknown.pop()}; there are {', '.join(PARTS)}.")
    with tempfile.TemporaryDirectory() as folder:
        project = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=folder))
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        subprocess.run(["uv", "sync", "--quiet"], cwd=project, env=environment, check=True)
        sys.path.insert(0, str(project))
        tables = {}
        # `emit` comes last: it fills this process, the others start processes of their own.
        for part in reversed(wanted or PARTS):
            tables[part] = measured(part, project, Path(folder) / f"for-{part}")
            print(f"\n{part}\n\n{tables[part]}", flush=True)
    if wanted:
        return
    page = PAGE.format(
        day=datetime.now(UTC).date(),
        python=platform.python_version(),
        machine=f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores",
        cores=os.cpu_count(),
        parts=", ".join(f"`{part}`" for part in PARTS),
        **tables,
    )
    (TEMPLATE / "docs" / "benchmarks.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
