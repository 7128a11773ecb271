"""What the tests of the template share."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).parent.parent
PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
ASKED = [question for question in QUESTIONS if not question.startswith("_")]
CHOICES = {name: QUESTIONS[name] for name in ASKED if isinstance(QUESTIONS[name], list)}

EXERCISES = 3  # of the lesson

COMBINATIONS = [
    dict(zip(CHOICES, answers, strict=True)) for answers in itertools.product(*CHOICES.values())
]
# The licence changes no code, which a test proves; so what takes long is done with one of them.
COMBINATIONS_OF_CODE = [
    answers for answers in COMBINATIONS if answers["license"] == CHOICES["license"][0]
]


def named(answers: dict[str, str]) -> str:
    """Return a name for these answers, as the id of a test."""
    return "-".join(answers.values())


def generate(folder: Path, **answers: str) -> Path:
    """Generate a project in `folder`, with defaults for what `answers` leaves open."""
    return Path(
        cookiecutter(str(TEMPLATE), no_input=True, extra_context=answers, output_dir=str(folder))
    )


def tracked() -> list[Path]:
    """Return the files of the template that git knows or would add."""
    names = succeed(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=TEMPLATE
    )
    return [path for name in names.split("\0") if name and (path := TEMPLATE / name).is_file()]


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `command` in `cwd` for ten minutes at most; return how it ended and what it printed."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )


def succeed(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run `command`, which must succeed, and return what it printed on stdout."""
    done = run(*command, cwd=cwd, **environment)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Server:
    """A service that runs as a process of its own, with what it has printed so far."""

    def __init__(self, *command: str | Path, cwd: Path, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=os.environ | {"PORT": str(self.port)} | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # a group of its own
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._readers = [
            threading.Thread(target=lines.extend, args=(pipe,))
            for lines, pipe in (
                (self.stdout, self.process.stdout),
                (self.stderr, self.process.stderr),
            )
        ]
        for reader in self._readers:
            reader.start()

    def printed(self) -> list[str]:
        """Return the lines on stdout, without blank ones and the banner of FastAPI's command."""
        lines = [line.strip() for line in self.stdout if line.strip()]
        banner = [number for number, line in enumerate(lines) if line.endswith("Logs:")]
        return lines[banner[0] + 1 :] if banner else lines

    def wait_for(self, line: str, seconds: float = 60) -> None:
        """Wait until `line` is on stdout."""
        deadline = time.monotonic() + seconds
        while line not in self.printed():
            assert self.process.poll() is None, f"it ended\n{self}"
            assert time.monotonic() < deadline, f"no line {line!r} in {seconds} s\n{self}"
            time.sleep(0.05)

    def get(self, path: str) -> Any:
        """Return the JSON that `path` answers, as soon as the port is open."""
        deadline = time.monotonic() + 10
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}{path}", timeout=5) as response:
                    return json.load(response)
            except urllib.error.URLError as error:
                if isinstance(error, urllib.error.HTTPError) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self, with_signal: signal.Signals = signal.SIGINT, group: bool = False) -> int:
        """Send the signal, to all that it started too if `group`; return how the server ended."""
        if sys.platform == "win32":
            self.process.send_signal(signal.CTRL_BREAK_EVENT)
        elif group:
            os.killpg(self.process.pid, with_signal)
        else:
            self.process.send_signal(with_signal)
        return self.ended()

    def ended(self) -> int:
        """Wait until the server has ended, and return its status."""
        status = self.process.wait(timeout=30)
        for reader in self._readers:
            reader.join(timeout=10)
        return status

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            if sys.platform == "win32":
                self.process.kill()
            else:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.ended()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def __str__(self) -> str:
        return f"stdout:\n{''.join(self.stdout)}\nstderr:\n{''.join(self.stderr)}"
