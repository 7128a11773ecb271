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
PAGE = """\
# Benchmarks

Ratios, measured side by side in one run: smaller is faster in the first tables, larger is faster in the
last one. An absolute time on a shared machine says little.

{day}, Python {python}, {machine}. Run it again with `uv run --group benchmarks python benchmarks`; it
needs `wrk` and takes some minutes.

## emit

The least that any emit must do, one coroutine that awaits each listener of a list and hands back what
they returned, is 1. Where an emit does not wait for its listeners, the time until the last one has run
counts. blinker and Django hand back what was returned; pyee, Litestar and fastapi-events do not. None of
the peers here was ahead.

{emit}

## Requests

The barest FastAPI app with the same two routes is 1, and it is ahead. Most of the difference seems to be
`include_router`: inside one process, the same routes put into the app without it were as fast as the bare
ones.

{requests}
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=folder))
        environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        subprocess.run(["uv", "sync", "--quiet"], cwd=project, env=environment, check=True)
        sys.path.insert(0, str(project))

        import emit
        import requests_a_second

        beside = Path(folder) / "bare"
        beside.mkdir()
        page = PAGE.format(
            day=datetime.now(UTC).date(),
            python=platform.python_version(),
            machine=f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores",
            emit=asyncio.run(emit.measure()),
            requests=requests_a_second.measure(project / ".venv/bin/python", project, beside),
        )
    (TEMPLATE / "docs").mkdir(exist_ok=True)
    (TEMPLATE / "docs" / "benchmarks.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
