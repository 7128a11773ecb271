"""Requests a second of the service beside a bare FastAPI app with the same routes and models.

The load comes from `wrk` (Debian's package of that name), in slices that take turns (each is first in
turn), and goes to 127.0.0.1 only. A ratio is the median, over many processes of each, of those to the mean
of two bare ones in the slices beside it.

A process is some percent quicker or slower than its like for as long as it lives, and so is each second. So
one process also serves all, and every request goes to one of them by lot: the ratio of the median times in
the apps is good to half a percent. It leaves out the server's own part, which is the same for all.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median

BARES = ("bare", "bare, again")  # two of them, for one alone is some percent off
HEADS = {
    "GET": 'wrk.method = "GET"',
    "POST": """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"item": "tea", "quantity": 2}'
""",
}
BY_LOT = """
local apps = {"bare", "twin", "ours"}
request = function() return wrk.format(nil, "/" .. apps[math.random(#apps)] .. "%s") end
"""
LOADS = {"`GET /`": ("GET", "/"), "`POST /orders`": ("POST", "/orders")}
BARE = """
from uuid import UUID, uuid4

from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, Field

router = APIRouter()


class Order(BaseModel):
    item: str = Field(min_length=1)
    quantity: int = Field(ge=1)


class OrderPlaced(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    order_id: UUID
    item: str
    quantity: int


@router.get("/")
async def read_root() -> dict[str, str]:
    return {"message": "Response sent"}


@router.post("/orders", status_code=201)
async def place_order(order: Order) -> dict[str, UUID]:
    order_id = uuid4()
    event = OrderPlaced(order_id=order_id, item=order.item, quantity=order.quantity)
    print(f"Receipt for order {event.order_id}", flush=True)
    return {"order_id": order_id}


app = FastAPI()
app.include_router(router)
"""

# Serves two bare apps and ours, by the first part of the path, and counts the time in each.
TOGETHER = """
import json
import os
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter_ns

APPS = {"bare": "bare", "twin": "twin", "ours": os.environ["OURS"]}
APPS = {name: import_module(module).app for name, module in APPS.items()}
times = {}


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await APPS["ours"](scope, receive, send)
        found = {path: median(each[len(each) // 5 :]) for path, each in times.items()}
        Path(os.environ["TIMES"]).write_text(json.dumps(found), encoding="utf-8")
        return
    path = scope["path"]
    inside = scope | {"path": path[5:], "raw_path": path[5:].encode()}
    start = perf_counter_ns()
    await APPS[path[1:5]](inside, receive, send)
    times.setdefault(path, []).append(perf_counter_ns() - start)
"""


class Service:
    """A uvicorn process with one worker that serves `app` from `folder`."""

    def __init__(
        self, stack: ExitStack, python: Path, folder: Path, app: str, port: int, **environment: str
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        command = [python, "-m", "uvicorn", app, "--port", str(port), "--no-access-log"]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(self.process.wait)
        stack.callback(self.process.terminate)
        for _ in range(200):
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except urllib.error.HTTPError:  # an answer, too
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{app} does not answer at {self.url}")

    def speed(self, path: str, script: Path, seconds: int) -> float:
        """Return requests a second."""
        load = ["wrk", "--threads=1", "--connections=16", f"--duration={seconds}s"]
        printed = subprocess.run(
            [*load, f"--script={script}", self.url + path],
            capture_output=True,
            encoding="utf-8",
            check=True,
        ).stdout
        if "Non-2xx" in printed or "Socket errors" in printed:
            raise RuntimeError(printed)
        rate = re.search(r"Requests/sec:\s+([0-9.]+)", printed)
        assert rate
        return float(rate[1])

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


def in_one_process(
    python: Path, project: Path, folder: Path, module: str, starts: int = 5
) -> dict[str, dict[str, float]]:
    """Return, for each load, how fast the apps of `BARES` and that of `module` are in one process."""
    ratios: dict[str, dict[str, list[float]]] = {load: {} for load in LOADS}
    script, times = folder / "by_lot.lua", folder / "times.json"
    environment = {"OURS": module, "TIMES": str(times), "PYTHONPATH": str(folder)}
    for _ in range(starts):
        with ExitStack() as stack:
            service = Service(stack, python, project, "together:app", 8400, **environment)
            for method, path in LOADS.values():
                script.write_text(HEADS[method] + BY_LOT % path, encoding="utf-8")
                service.speed("/bare/", script, seconds=5)
        measured = json.loads(times.read_text(encoding="utf-8"))
        for load, (_, path) in LOADS.items():
            took = [measured[f"/{app}{path}"] for app in ("bare", "twin", "ours")]
            for name, time_taken in zip((*BARES, module), took, strict=True):
                ratios[load].setdefault(name, []).append(mean(took[:2]) / time_taken)
    return {
        load: {name: median(found) for name, found in each.items()} for load, each in ratios.items()
    }


def measure(python: Path, project: Path, folder: Path, seconds: int = 1, starts: int = 30) -> str:
    """Return the table; `folder` is an empty one to work in."""
    if not shutil.which("wrk"):
        raise SystemExit("Install wrk first: it makes the load (apt-get install wrk).")
    for name, text in {"bare": BARE, "twin": BARE, "together": TOGETHER}.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    for method, head in HEADS.items():
        (folder / f"{method}.lua").write_text(head, encoding="utf-8")
    ours = {"**evtemplate**": "app.main"}
    if (project / "lesson").exists():
        ours["**evtemplate**, the lesson watching"] = "lesson.live"
    contenders = {name: (folder, "bare:app") for name in BARES}
    contenders |= {name: (project, f"{module}:app") for name, module in ours.items()}

    together = {name: in_one_process(python, project, folder, ours[name]) for name in ours}
    columns = [*LOADS, "memory"]
    ratios: dict[str, dict[str, list[float]]] = {
        name: {column: [] for column in columns} for name in contenders
    }
    for start in range(starts):
        with ExitStack() as stack:
            services = {
                name: Service(stack, python, *contenders[name], port)
                for port, name in enumerate(turned(contenders, start), 8400)
            }
            for service in services.values():  # Python rewrites what runs often; that takes a while
                service.speed("/orders", folder / "POST.lua", seconds)
            for load, (method, path) in LOADS.items():
                speeds = {
                    name: services[name].speed(path, folder / f"{method}.lua", seconds)
                    for name in turned(contenders, start)
                }
                bare = mean(speeds[name] for name in BARES)
                for name, rate in speeds.items():
                    ratios[name][load].append(rate / bare)
            for name, service in services.items():
                ratios[name]["memory"].append(service.memory() / services["bare"].memory())

    def cells(name: str) -> list[str]:
        one = together.get(name, together["**evtemplate**"])
        apart = [f"{median(ratios[name][column]):.2f}" for column in columns]
        return [*(f"{one[load][ours.get(name, name)]:.3f}" for load in LOADS), *apart]

    head = [*(f"{load}, in one process" for load in LOADS), *columns]
    rows = [f"| {name} | {' | '.join(cells(name))} |" for name in contenders]
    return "\n".join([f"| speed | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|", *rows])


if __name__ == "__main__":
    print(measure(*(Path(argument) for argument in sys.argv[1:4])))
