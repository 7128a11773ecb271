"""How many events a second the service handles with more instances, and with more listeners.

The instances are processes of the generated service, as `fastapi run` starts them. All events are
stored before the first is handled, so what is measured is the handling.
"""

import shutil
import statistics
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.processes import Server

if TYPE_CHECKING:
    from broker import Generated

INSTANCES = "| broker | a listener | 1 instance | 2 | 4 | 1, `BROKER_CONCURRENCY=10` | events/s, 1 instance |"
LISTENERS = "| broker | 1 listener | 3 | 10 | events/s, 1 listener |"
WAITS, NOTHING = 0.01, 0.0  # seconds that a listener waits
ROUNDS = 3


class Instances:
    """Processes of the service on one broker, with the same listeners."""

    def __init__(self, servers: list[Server], notes: Path, listeners: int) -> None:
        self.servers = servers
        self.notes = notes
        self.gate = Path(f"{notes}.open")
        self.listeners = listeners

    def rate(self, count: int, seconds: float) -> float:
        """Return the events a second that all listeners have handled, the median of the rounds."""
        return statistics.median(self.once(count, seconds) for _ in range(ROUNDS))

    def once(self, count: int, seconds: float) -> float:
        url = f"{self.servers[0].url}/store?count={count}&seconds={seconds}"
        urllib.request.urlopen(urllib.request.Request(url, method="POST"), timeout=60).close()
        time.sleep(0.5)  # each has an event in hand
        upto = self.notes.stat().st_size + count * self.listeners
        self.gate.touch()
        start = time.perf_counter()
        while self.notes.stat().st_size < upto:
            if time.perf_counter() - start > 60:
                raise RuntimeError(f"not all was handled\n{self.servers[0]}")
            time.sleep(0.002)
        took = time.perf_counter() - start
        self.gate.unlink()
        return count / took


@contextmanager
def running(
    service: "Generated", url: str, instances: int, listeners: int = 1, concurrency: int = 1
) -> Iterator[Instances]:
    notes = service.project / "notes"
    environment = {
        "BROKER_URL": url,
        "BROKER_CONCURRENCY": str(concurrency),
        "BENCH_NOTES": str(notes),
        "BENCH_LISTENERS": str(listeners),
    }
    with ExitStack() as stack:
        servers = []
        for _ in range(instances):
            command = [service.python, "-m", "fastapi", "run"]
            server = Server(*command, cwd=service.project, **environment)
            stack.callback(server.close)
            servers.append(server.up("/health"))
        yield Instances(servers, notes, listeners)


def measure(service: "Generated", broker: str, url: str) -> tuple[list[str], list[str]]:
    """Return the rows of this broker for the two tables."""
    here = Path(__file__).parent
    shutil.copy(here / "broker_listeners.py", service.project / "app" / "handlers" / "bench.py")
    waiting, nothing, to_each = [], [], []
    for count, concurrency in ((1, 1), (2, 1), (4, 1), (1, 10)):
        with running(service, url, count, concurrency=concurrency) as instances:
            waiting.append(instances.rate(200, WAITS))
            nothing.append(instances.rate(600, NOTHING))
    for listeners in (1, 3, 10):  # ever more: what waits for a listener that is gone costs
        with running(service, url, 1, listeners) as instances:
            to_each.append(instances.rate(200, NOTHING))
    return (
        [
            f"| {broker} | waits 10 ms | {cells(waiting)} |",
            f"| {broker} | does nothing | {cells(nothing)} |",
        ],
        [f"| {broker} | {cells(to_each)} |"],
    )


def cells(rates: list[float]) -> str:
    """Return the ratios to the first rate, then that rate."""
    return " | ".join([*(f"{rate / rates[0]:.2f}" for rate in rates), f"{rates[0]:,.0f}"])
