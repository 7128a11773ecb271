"""What the service and the broker hold while many events go through: it must stay flat.

    python benchmarks/broker_memory.py [BROKER ...]

For each broker (all, if none is named) this generates a service, starts the broker's own server on
a free port, sends 100,000 events, and prints the MB after each fifth. The short version is a test.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from support.brokers import SERVERS, Broker, running  # noqa: E402
from support.processes import Server  # noqa: E402
from support.projects import Project  # noqa: E402
from support.template import generate  # noqa: E402

EVENTS = 100_000
ERLANG = """
    ok = ra_log_wal:force_roll_over(ra_log_wal), timer:sleep(3000),
    [garbage_collect(P) || P <- processes()], erlang:memory(total).
"""


def held(broker: Broker) -> float:
    """Return the MB that a broker holds; of RabbitMQ what's in use once its log is on disk.

    It collects garbage when it likes, and keeps up to 512 MB of its log in memory as well. Of
    PostgreSQL it's the database on disk: its memory is a fixed share, which it fills.
    """
    if broker.name != "rabbitmq":
        return broker.memory()
    program = Path(broker.found()).with_name("rabbitmqctl")
    node = broker.environment["RABBITMQ_NODENAME"]
    command = [str(program), "--quiet", "--node", node, "eval", ERLANG]
    environment = os.environ | broker.environment
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return round(int(said) / 1e6, 1)


def measure(name: str, folder: Path) -> str:
    """Return a row of the table."""
    project = Project(generate(folder / "made", broker=name, lesson="none"), folder)
    shutil.copy(TESTS / "brokers" / "jobs.py", project.path / "app" / "handlers")
    command = (project.python, "-m", "uvicorn", "app.main:app")
    cells = []
    with running(name, folder / "server") as broker:
        environment = {"BROKER_URL": broker.url, "JOBS_LOG": str(folder / "jobs.log")}
        service = Server(*command, cwd=project.path, **environment)
        try:
            service.up("/health")
            for _ in range(5):
                assert service.post(f"/tick?count={EVENTS // 5}") == (200, 0)
                time.sleep(6)  # the broker's turn to trim
                cells.append(f"{service.memory()} + {held(broker)}")
        finally:
            service.close()
    return f"| {name} | {' | '.join(cells)} |"


def main(*names: str) -> None:
    print(f"| MB of service + broker, every {EVENTS // 5:,} events | 1 | 2 | 3 | 4 | 5 |")
    print("|---|---|---|---|---|---|")
    for name in names or SERVERS:
        with tempfile.TemporaryDirectory() as folder:
            print(measure(name, Path(folder)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
