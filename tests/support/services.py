"""Generated services on a broker: their instances, and what their listeners did."""

import json
import shutil
import signal
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from support.cases import cases
from support.processes import Done, Server, run, succeed, until
from support.projects import Project

BROKERS = Path(__file__).parents[1] / "brokers"
PROGRAMS = cases(str(BROKERS / "conftest.py"), "programs")
LISTENERS = ("first", "second")


class Note(NamedTuple):
    """What a listener wrote: who it was, its process, the event's number and id, what it did, when."""

    who: str
    pid: int
    number: int
    id: str
    what: str
    at: float  # by its clock, in seconds


class Instance(Server):
    """One process of the service."""

    def well(self) -> None:
        """Wait until its broker is there."""
        self.until(lambda: self.request("GET", "/health")[0] == 200)

    def emit(self, **parameters: Any) -> int:
        status, refused = self.post(f"/emit?{urlencode(parameters)}")
        assert status == 200, refused
        return int(refused)

    def end(self) -> None:
        """End it as an operator does; fail if it does not end well."""
        assert self.stop(signal.SIGTERM) in (0, -signal.SIGTERM), self
        assert "Cleanup done" in self.printed(), self
        assert "Traceback" not in str(self), self


class Service:
    """The generated service with a broker: its instances, and what its listeners did."""

    def __init__(self, project: Project, url: str) -> None:
        self.name, self.folder, self.python = project.path.name, project.path, project.python
        self.url = url
        self.log = self.folder / "jobs.log"
        self.instances: list[Instance] = []
        fast = {"BROKER_BACKOFF": "0.1", "BROKER_LEASE": "3"}
        self.environment = {"BROKER_URL": url, "JOBS_LOG": str(self.log), **fast}
        shutil.copy(BROKERS / "jobs.py", self.folder / "app" / "handlers")

    def new(self, **environment: str) -> Instance:
        """Start an instance; return at once."""
        command = (self.python, "-m", "uvicorn", "app.main:app")
        instance = Instance(*command, cwd=self.folder, **(self.environment | environment))
        self.instances.append(instance)
        return instance.start()

    def start(self, **environment: str) -> Instance:
        """Start an instance, and wait until it is well."""
        (instance := self.new(**environment)).well()
        return instance

    def run(self, *arguments: str) -> Done:
        return run(self.python, *arguments, cwd=self.folder, **self.environment)

    def command(self, *arguments: str) -> Done:
        return self.run("-m", "app.messaging", *arguments)

    def notes(self) -> list[Note]:
        """Return all that the listeners wrote, in order."""
        text = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        whole = text[: text.rfind("\n") + 1].splitlines()
        return [Note(*json.loads(line)) for line in whole]

    def done(self, listener: str) -> set[str]:
        """Return the ids of the events that a listener, or the route ("accepted"), is done with."""
        return {note.id for note in self.notes() if (note.who, note.what) == (listener, "done")}

    def begun(self) -> list[Note]:
        """Return the notes of the first listener's beginnings."""
        return [note for note in self.notes() if note.what == "begins"]

    def program(self, name: str) -> str:
        """Run one of programs.toml with its Python; return what it printed."""
        command = (self.python, "-X", "utf8", "-c", PROGRAMS[name], self.url, self.name)
        return succeed(*command, cwd=self.folder, **self.environment)

    def other(self, broker: str, *what: str | Path) -> tuple[str | Path, ...]:
        """Return the command of a program that isn't ours and works with the same broker."""
        return (self.python, BROKERS / "other.py", broker, self.url, self.name, *what)

    def send(self, broker: str, documents: Iterable[bytes]) -> None:
        """Send documents as another program would."""
        file = self.folder / "documents"
        file.write_bytes(b"\n".join(documents))
        succeed(*self.other(broker, "send", file), cwd=self.folder)

    def wait_for(self, ids: set[str], listeners: Collection[str] = LISTENERS) -> None:
        """Wait until each listener has handled each of `ids`, as long as there's progress."""

        def missing() -> int:
            done = {(note.who, note.id) for note in self.notes() if note.what == "done"}
            return len({(each, id) for each in listeners for id in ids} - done)

        while left := missing():
            until(lambda left=left: missing() < left, lambda: f"missing: {left}\n{self}")  # type: ignore[misc]

    def wait_for_dead_letters(self, count: int) -> str:
        """Wait until there are `count` dead letters; return what the command lists."""

        def listed() -> str:
            text = self.command("dead-letters").stdout
            return text if f"Dead letters: {count}\n" in text else ""

        return until(listed, lambda: f"{self.command('dead-letters').stdout}\n{self}")

    def __str__(self) -> str:
        return "\n".join(map(str, self.instances))


Serve = Callable[[str], Service]  # what the fixture `serve` gives: a broker's URL to a service
