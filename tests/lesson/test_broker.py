"""The command that starts the broker of the second day: what it says, and what it leaves behind."""

import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.days import WITH_WHEEL, Day
from support.processes import free_port, succeed
from support.projects import Bake

FOLDER = f"Ein Übungs-Ordner, 日本 {'x' * 120}"  # too long for a socket's path
COMMAND = "uv run python -m lesson broker --port"

pytestmark = [
    pytest.mark.brokers,
    pytest.mark.skipif(sys.platform == "win32", reason="it sends signals"),
]


@pytest.fixture(params=WITH_WHEEL)
def day(bake: Bake, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Day]:
    """A learner in a folder whose name is hard to bear."""
    project = bake(lesson="student", broker=request.param).copy(tmp_path / FOLDER / "day")
    with closing(Day(project, request.param)) as day:
        yield day


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_it_ends_with_its_server(day: Day, name: str) -> None:
    port = free_port()
    broker = day.serve(f"{COMMAND} {port}")

    assert broker.stop(getattr(signal, name)) == 0, broker

    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert broker.output("stderr") == ""


def test_fresh_begins_with_nothing_in_it(day: Day) -> None:
    succeed("git", "init", "--quiet", cwd=day.project.path)
    command = f"{COMMAND} {free_port()}"
    for options, kept in (("", True), (" --fresh", False)):
        broker = day.serve(command)
        said = broker.output()
        mark = Path(said.partition("Its data is in ")[2].partition(". Ctrl+C")[0], "mark")
        mark.touch()
        broker.stop()
        assert "/mark\n" not in succeed("git", "status", "-s", "-uall", cwd=day.project.path)
        succeed("git", "check-ignore", f".{day.broker}/mark", cwd=day.project.path)
        day.serve(command + options).stop()
        assert mark.exists() == kept


def test_a_folder_has_one_server(day: Day) -> None:
    first = day.serve(f"{COMMAND} {free_port()}")

    for options in ("", " --fresh"):
        second = day.terminal(f"{COMMAND} {free_port()}{options}").start()
        assert second.wait() == 1
        said = second.output("stderr")
        assert "is already running, as process " in said
        assert first.output().split()[0] in said  # its BROKER_URL


def test_a_port_in_use_is_named(day: Day) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = day.terminal(f"{COMMAND} {port}").start()
        assert broker.wait() == 1
    said = broker.output("stderr").strip()
    assert said == f"Port {port} is in use. Choose another one with --port."
