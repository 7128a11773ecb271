"""The command that starts the broker of the second day: what it says, and what it leaves behind."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.days import WITH_WHEEL
from support.processes import Process, free_port, succeed, until
from support.projects import Bake, Project

FOLDER = f"Ein Übungs-Ordner, 日本 {'x' * 120}"  # too long for a socket's path
Start = Callable[..., Process]

pytestmark = [
    pytest.mark.brokers,
    pytest.mark.skipif(sys.platform == "win32", reason="it sends signals"),
]


@pytest.fixture(params=WITH_WHEEL)
def project(bake: Bake, request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    """A project in a folder whose name is hard to bear."""
    return bake(lesson="student", broker=request.param).copy(tmp_path / FOLDER / "day")


@pytest.fixture
def start(project: Project) -> Iterator[Start]:
    """Types the command, with options, and waits until the server answers."""
    with ExitStack() as stack, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o777)  # PostgreSQL runs as another user if we're root

        def make(*options: str, wait: bool = True) -> Process:
            command = ("-m", "lesson", "broker", *options)
            made = Process(project.python, *command, cwd=project.path, TMPDIR=folder).start()
            stack.callback(made.close)
            if wait:
                made.until(lambda: "BROKER_URL=" in made.output())
            return made

        yield make


def port_of(broker: Process) -> str:
    return broker.output().partition("127.0.0.1:")[2][:5].strip("/\n")


def is_open(port: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_it_ends_with_its_server(start: Start, name: str) -> None:
    broker = start("--port", str(free_port()))

    assert broker.stop(getattr(signal, name)) == 0, broker

    assert not is_open(port_of(broker))
    assert broker.output("stderr") == ""


def test_fresh_begins_with_nothing_in_it(start: Start, project: Project) -> None:
    succeed("git", "init", "--quiet", cwd=project.path)
    port = str(free_port())
    for options, kept in (((), True), (("--fresh",), False)):
        broker = start("--port", port)
        mark = Path(
            broker.output().partition("Its data is in ")[2].partition(". Ctrl+C")[0], "mark"
        )
        mark.touch()
        broker.stop()
        assert "a.mark" not in succeed("git", "status", "-s", "-uall", cwd=project.path)
        start("--port", port, *options).stop()
        assert mark.exists() == kept


def test_a_folder_has_one_server(start: Start) -> None:
    first = start("--port", str(free_port()))

    for options in ((), ("--fresh",)):
        second = start("--port", str(free_port()), *options, wait=False)
        assert second.wait() == 1
        said = second.output("stderr")
        assert "runs already, as process " in said
        assert first.output().split()[0] in said  # its BROKER_URL

    first.send(signal.SIGKILL)  # the command alone, as a task manager does; its server goes on
    third = start(wait=False)
    assert third.wait() == 1
    pid = int(third.output("stderr").partition("process ")[2].partition(":")[0])
    os.kill(pid, signal.SIGKILL)
    until(lambda: not is_open(port_of(first)))
    assert start("--port", port_of(first)).stop() == 0


def test_a_port_in_use_is_named(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = start("--port", str(port), wait=False)
        assert broker.wait() == 1
    said = broker.output("stderr").strip()
    assert said == f"Port {port} is in use. Choose another one with --port."


def test_nobody_reads_what_it_prints(start: Start, project: Project) -> None:
    port = str(free_port())
    reader, writer = os.pipe()
    os.close(reader)
    command = [str(project.python), "-m", "lesson", "broker", "--port", port]
    with os.fdopen(writer, "wb") as closed:
        subprocess.run(command, cwd=project.path, stdout=closed, timeout=60, check=False)
    assert not is_open(port)
