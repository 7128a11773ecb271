"""Generated services on a broker: their instances, and what their listeners did."""

import shutil
import signal
import subprocess
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from support.processes import Server, run, until
from support.projects import Project

BROKERS = Path(__file__).parents[1] / "brokers"
LISTENERS = ("first", "second")


class Note(NamedTuple):
    """What a listener wrote: who it was, its process, the event's number and id, what it did."""

    who: str
    pid: int
    number: int
    id: str
    what: str


class Service:
    """The generated service with a broker: its instances, and what its listeners did."""

    def __init__(self, project: Project, url: str) -> None:
        self.name = project.path.name
        self.folder = project.path
        self.python = project.python
        self.url = url
        self.log = self.folder / "jobs.log"
        self.instances: list[Instance] = []
        self.read = 0  # bytes of the log
        self.noted: list[Note] = []
        self.has_done: dict[str, set[str]] = defaultdict(set)
        shutil.copy(BROKERS / "jobs.py", self.folder / "app" / "handlers")

    @property
    def environment(self) -> dict[str, str]:
        fast = {"BROKER_BACKOFF": "0.1", "BROKER_LEASE": "3"}
        return {"BROKER_URL": self.url, "JOBS_LOG": str(self.log), **fast}

    def new(self, **environment: str) -> "Instance":
        """Start an instance; return at once."""
        command = (self.python, "-m", "uvicorn", "app.main:app")
        instance = Instance(*command, cwd=self.folder, **(self.environment | environment))
        self.instances.append(instance)
        return instance.start()

    def start(self, **environment: str) -> "Instance":
        """Start an instance, and wait until it is well."""
        instance = self.new(**environment)
        instance.until(lambda: instance.health() == 200)
        return instance

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run(self.python, *arguments, cwd=self.folder, **self.environment)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "app.messaging", *arguments)

    def notes(self) -> list[Note]:
        """Return all that the listeners wrote, in order."""
        if self.log.exists():
            with self.log.open("rb") as log:
                log.seek(self.read)
                new = log.read()
            new = new[: new.rfind(b"\n") + 1]
            self.read += len(new)
            for who, pid, number, id, what in map(str.split, new.decode().splitlines()):
                self.noted.append(Note(who, int(pid), int(number), id, what))
                if what == "done":
                    self.has_done[who].add(id)
        return self.noted

    def done(self, listener: str) -> set[str]:
        """Return the ids of the events that a listener, or the route ("accepted"), is done with."""
        self.notes()
        return set(self.has_done[listener])

    def begun(self) -> list[Note]:
        """Return the notes of the first listener's beginnings."""
        return [note for note in self.notes() if note.what == "begins"]

    def other(self, broker: str, *what: str | Path) -> tuple[str | Path, ...]:
        """Return the command of a program that isn't ours and works with the same broker."""
        return (self.python, BROKERS / "other.py", broker, self.url, self.name, *what)

    def send(self, broker: str, documents: Iterable[bytes]) -> None:
        """Send documents as another program would."""
        file = self.folder / "documents"
        file.write_bytes(b"\n".join(documents))
        done = run(*self.other(broker, "send", file), cwd=self.folder)
        assert done.returncode == 0, done.stderr

    def wait_for(
        self, ids: set[str], seconds: float = 60, listeners: Iterable[str] = LISTENERS
    ) -> None:
        """Wait until each listener has handled each of `ids`."""

        def missing() -> dict[str, int]:
            self.notes()
            return {each: count for each in listeners if (count := len(ids - self.has_done[each]))}

        until(lambda: not missing(), seconds, lambda: f"of {len(ids)}: {missing()}\n{self}")

    def wait_for_dead_letters(self, count: int, seconds: float = 60) -> str:
        """Wait until there are `count` dead letters; return what the command lists."""
        listed = ""

        def all_there() -> bool:
            nonlocal listed
            listed = self.command("dead-letters").stdout
            return f"Dead letters: {count}\n" in listed

        until(all_there, seconds, lambda: f"{listed}\n{self}")
        return listed

    def __str__(self) -> str:
        return "\n".join(map(str, self.instances))


class Instance(Server):
    """One process of the service."""

    def health(self) -> int:
        try:
            return self.request("GET", "/health")[0]
        except OSError:
            return 0

    def well(self, seconds: float = 30) -> None:
        """Wait until its broker is there."""
        self.until(lambda: self.health() == 200, seconds)

    def emit(self, **parameters: Any) -> int:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        status, refused = self.post(f"/emit?{query}")
        assert status == 200, refused
        return int(refused)

    def end(self) -> None:
        """End it as an operator does; fail if it does not end well."""
        assert self.stop(signal.SIGTERM) in (0, -signal.SIGTERM), self
        assert "Cleanup done" in self.printed(), self
        assert "Traceback" not in str(self), self


Serve = Callable[[str], Service]  # what the fixture `serve` gives: a broker's URL to a service
