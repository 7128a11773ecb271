"""Commands and servers as processes of their own. It needs the standard library alone."""

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")
Done = subprocess.CompletedProcess[str]
PORTS = itertools.cycle(range(20_000 + os.getpid() % 64, 32_000, 64))  # each process has its own


def run(*command: str | Path, cwd: Path, typed: str = "", **environment: str) -> Done:
    """Run `command` for half an hour at most; return how it ended and what it printed, as UTF-8."""
    return run_alone(*command, cwd=cwd, typed=typed, **(os.environ | environment))


def run_alone(*command: str | Path, cwd: Path, typed: str = "", **environment: str) -> Done:
    """Run `command` with nothing but `environment`."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        input=typed,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=1800,
    )


def succeed(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run `command`, which must succeed, and return what it printed on stdout."""
    done = run(*command, cwd=cwd, **environment)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def free_port() -> int:
    """Return a port of this machine that nothing listens on, and no client is given by itself."""
    while True:
        with suppress(OSError), socket.create_server(("127.0.0.1", port := next(PORTS))):
            return port


def until(holds: Callable[[], T], why: Callable[[], object] = str) -> T:
    """Return what `holds()` returns once it's true (an OSError isn't); fail after four minutes."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        with suppress(OSError):
            if found := holds():
                return found
        time.sleep(0.05)
    raise AssertionError(f"not within four minutes: {why()}")


class Process:
    """A process beside the test; started again, it keeps its command and adds to its output."""

    process: subprocess.Popen[bytes]  # not there until it's started

    def __init__(self, *command: str | Path, cwd: Path, **environment: str) -> None:
        self.command: tuple[str | Path, ...] = command
        self.cwd = cwd
        self.environment = environment
        self.files = Path(tempfile.mkdtemp())  # with what it prints
        self.user: str | None = None  # who runs it, if that's somebody else

    def start(self) -> Self:
        """Start it; return at once."""
        stdout, stderr = ((self.files / name).open("ab") for name in ("stdout", "stderr"))
        with stdout, stderr:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # a group of its own
                user=self.user,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        return self

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        return hasattr(self, "process") and self.process.poll() is None

    def send(self, number: int, group: bool = False) -> None:
        """Send a signal to it, to all that it started too if `group`; on Windows Ctrl+Break."""
        if sys.platform == "win32":
            self.process.send_signal(signal.CTRL_BREAK_EVENT)
        elif group:
            os.killpg(self.pid, number)
        else:
            self.process.send_signal(number)

    def wait(self, seconds: float = 240) -> int:
        """Wait until it has ended by itself; return its status."""
        return self.process.wait(timeout=seconds)

    def stop(self, number: int = signal.SIGINT, group: bool = False) -> int:
        """Send a signal and wait until the process has ended; return its status."""
        self.send(number, group)
        return self.wait()

    def kill(self) -> None:
        """End it at once, as a power cut would, with all that it started."""
        if hasattr(self, "process"):
            if sys.platform == "win32":
                self.process.kill()
            else:
                with suppress(ProcessLookupError):  # it ended before
                    os.killpg(self.pid, signal.SIGKILL)
            self.process.wait()

    def close(self) -> None:
        """End it, and forget what it printed."""
        self.kill()
        shutil.rmtree(self.files, ignore_errors=True)

    def memory(self) -> float:
        """Return the MB of memory that it holds."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        [kilobytes] = re.findall(r"^VmRSS:\s+(\d+)", status, re.M)
        return round(int(kilobytes) / 1024, 1)

    def output(self, name: str = "stdout") -> str:
        """Return what it printed so far."""
        file = self.files / name
        return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""

    def until(self, holds: Callable[[], T]) -> T:
        """Return what `holds()` returns as soon as that's true; fail if the process ends first."""

        def still() -> T:
            assert self.runs, f"it ended\n{self}"
            return holds()

        return until(still, lambda: self)

    def __str__(self) -> str:
        return f"stdout:\n{self.output()[-5000:]}\nstderr:\n{self.output('stderr')[-5000:]}"


class Server(Process):
    """A service on a port of its own, of which it's told by PORT (FastAPI) and UVICORN_PORT."""

    def __init__(self, *command: str | Path, cwd: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        ports = {"PORT": str(self.port), "UVICORN_PORT": str(self.port)}
        super().__init__(*command, cwd=cwd, **ports, **environment)

    def up(self, path: str = "/openapi.json") -> Self:
        """Start it, and wait until `path` answers with 200."""
        self.start().until(lambda: self.request("GET", path)[0] == 200)
        return self

    def printed(self) -> list[str]:
        """Return the lines on stdout, without blank ones and the banner of FastAPI's command."""
        lines = self.output().split("Logs:", 1)[-1].splitlines()
        return [line.strip() for line in lines if line.strip()]

    def wait_for(self, line: str) -> None:
        """Wait until `line` is on stdout."""
        self.until(lambda: line in self.printed())

    def request(self, method: str, path: str, body: object = None) -> tuple[int, bytes, Message]:
        """Return the status, the body and the headers that `path` answers."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            answer = urllib.request.urlopen(asked, timeout=600)
        except urllib.error.HTTPError as error:
            answer = error  # an answer, too
        with answer:
            return answer.status, answer.read(), answer.headers

    def get(self, path: str) -> Any:
        """Return the JSON that `path` answers, as soon as the port is open."""
        status, body, _ = self.until(lambda: self.request("GET", path))
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, body: object = None) -> tuple[int, Any]:
        """Return the status and the JSON that `path` answers."""
        status, text, headers = self.request("POST", path, body)
        is_json = headers.get_content_type() == "application/json"
        return status, json.loads(text) if is_json else text.decode()


StartServer = Callable[..., Server]  # what the fixture `server` gives
