"""Requests a second of the service beside the barest FastAPI app with the same routes.

The load comes from `wrk` (Debian's package of that name), in slices that take turns (each is first in
turn), and goes to 127.0.0.1 only. A ratio is the median, over many processes of each, of those to the mean
of two bare ones in the slices beside it. Linux also tells the time that a process had on a core: requests
for each second of that are the same measure, less what else the machine was doing.
"""

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median

BARES = ("bare", "bare, again")  # two processes, for one alone is some percent off
ORDER = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"item": "tea", "quantity": 2}'
"""
BARE = """
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import FastAPI
from pydantic import BaseModel, Field

app = FastAPI()


class Order(BaseModel):
    item: Annotated[str, Field(min_length=1)]
    quantity: Annotated[int, Field(ge=1)]


@app.get("/")
async def read_root() -> dict[str, str]:
    return {"message": "Response sent"}


@app.post("/orders", status_code=201)
async def place_order(order: Order) -> dict[str, UUID]:
    order_id = uuid4()
    print(f"Receipt for order {order_id}", flush=True)
    return {"order_id": order_id}
"""


class Service:
    """A uvicorn process with one worker that serves `app` from `folder`."""

    def __init__(self, stack: ExitStack, python: Path, folder: Path, app: str, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        command = [python, "-m", "uvicorn", app, "--port", str(port), "--no-access-log"]
        self.process = subprocess.Popen(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(self.process.wait)
        stack.callback(self.process.terminate)
        for _ in range(200):
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{app} does not answer at {self.url}")

    def speeds(self, path: str, script: Path | None, seconds: int) -> tuple[float, float]:
        """Return requests a second, and requests for each second on a core."""
        load = ["wrk", "--threads=1", "--connections=16", f"--duration={seconds}s"]
        load += [f"--script={script}"] if script else []
        before = self.on_a_core()
        printed = subprocess.run(
            [*load, self.url + path], capture_output=True, encoding="utf-8", check=True
        ).stdout
        busy = self.on_a_core() - before
        if "Non-2xx" in printed or "Socket errors" in printed:
            raise RuntimeError(printed)
        rate = re.search(r"Requests/sec:\s+([0-9.]+)", printed)
        count = re.search(r"(\d+) requests in", printed)
        assert rate
        assert count
        return float(rate[1]), int(count[1]) / busy

    def on_a_core(self) -> float:
        """Return the seconds that the process has been on a core so far, all its threads."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text(encoding="utf-8").split()[0]) for task in tasks) / 1e9

    def memory(self) -> int:
        """Return the memory that the process holds, in KiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found
        return int(found[1])


def turned(names: Iterable[str], by: int) -> list[str]:
    """Return `names`, beginning with another one each time, for who is first has an advantage."""
    order = list(names)
    first = by % len(order)
    return order[first:] + order[:first]


def measure(python: Path, project: Path, folder: Path, seconds: int = 1, starts: int = 30) -> str:
    """Return the table; `folder` is an empty one to work in."""
    if not shutil.which("wrk"):
        raise SystemExit("Install wrk first: it makes the load (apt-get install wrk).")
    (folder / "bare.py").write_text(BARE, encoding="utf-8")
    script = folder / "order.lua"
    script.write_text(ORDER, encoding="utf-8")
    contenders = {name: (folder, "bare:app") for name in BARES}
    contenders |= {"**evtemplate**": (project, "app.main:app")}
    if (project / "lesson").exists():
        contenders["**evtemplate**, the lesson watching"] = (project, "lesson.live:app")

    loads = {"`GET /`": ("/", None), "`POST /orders`": ("/orders", script)}
    columns = [*loads, *(f"{load}, on a core" for load in loads), "memory"]
    ratios: dict[str, dict[str, list[float]]] = {
        name: {column: [] for column in columns} for name in contenders
    }
    # A process is some percent quicker or slower than its like for as long as it lives.
    for start in range(starts):
        with ExitStack() as stack:
            services = {
                name: Service(stack, python, *contenders[name], port)
                for port, name in enumerate(turned(contenders, start), 8400)
            }
            for service in services.values():  # Python rewrites what runs often; that takes a while
                service.speeds("/orders", script, seconds)
            for load, (path, order) in loads.items():
                speeds = {
                    name: services[name].speeds(path, order, seconds)
                    for name in turned(contenders, start)
                }
                bare = [mean(pair) for pair in zip(*(speeds[name] for name in BARES), strict=True)]
                for name, (rate, for_core) in speeds.items():
                    ratios[name][load].append(rate / bare[0])
                    ratios[name][f"{load}, on a core"].append(for_core / bare[1])
            for name, service in services.items():
                ratios[name]["memory"].append(service.memory() / services["bare"].memory())
    rows = [
        f"| {name} | {' | '.join(f'{median(found[column]):.2f}' for column in columns)} |"
        for name, found in ratios.items()
    ]
    head = f"| requests a second | {' | '.join(columns)} |"
    return "\n".join([head, "|---" * (len(columns) + 1) + "|", *rows])


if __name__ == "__main__":
    print(measure(*(Path(argument) for argument in sys.argv[1:4])))
