"""The engines, each started on a free port in a folder of its own, and ended by its pid."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
    return port


class Server:
    """One engine's server; it keeps its port and its folder when it is started again."""

    name = ""
    scheme = ""
    program = ""
    package = ""
    seconds = 60

    def __init__(self, folder: Path, password: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.password = password
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str:
        """Say what this machine lacks to run it, and what brings it; nothing if it is all there."""
        if shutil.which(cls.program) is None:
            return f"{cls.program} is not installed (Debian: apt install {cls.package})"
        return ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def greets(self, connection: socket.socket) -> bool:
        """Say whether the server answers; an open port is not enough."""
        raise NotImplementedError

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                env=os.environ | self.environment(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + self.seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), 2) as connection:
                    connection.settimeout(2)
                    if self.greets(connection):
                        return
            except OSError:
                pass
            time.sleep(0.1)
        self.kill()
        said = (self.folder / "server.log").read_text(encoding="utf-8", errors="replace")
        pytest.fail(f"{self.program} did not start:\n{said[-2000:]}")

    def proxy(self) -> "Proxy":
        """Return a way to it that can be cut."""
        return Proxy(free_port(), self.port)

    def kill(self) -> None:
        """End it at once, as a power cut would, with the processes it started."""
        if self.process is not None and sys.platform != "win32":
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def memory(self) -> float:
        """Return the MB of memory that it holds."""
        assert self.process is not None
        return resident(self.process.pid)


def resident(pid: int) -> float:
    """Return the MB of memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    [line] = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return round(int(line.split()[1]) / 1024, 1)


class Given:
    """A server that somebody else keeps; no test may stop it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.scheme = url.partition(":")[0]


class Nats(Server):
    name, scheme, program = "nats", "nats", "nats-server"
    package = "nats-server"

    def command(self) -> list[str]:
        at = ["-a", "127.0.0.1", "-p", str(self.port)]
        login = ["--user", "me", "--pass", self.password] if self.password else []
        return [self.program, *at, "-js", "-sd", str(self.folder), *login]

    def environment(self) -> dict[str, str]:
        return {"GOGC": "20"}  # Go collects as soon as a fifth more is in use, not twice as much

    def greets(self, connection: socket.socket) -> bool:
        return connection.recv(4) == b"INFO"


class Redis(Server):
    name, scheme, program = "redis", "redis", "redis-server"
    package = "redis-server"

    def command(self) -> list[str]:
        at = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        login = ["--requirepass", self.password] if self.password else []
        return [self.program, *at, "--appendonly", "yes", "--save", "", *login]

    def greets(self, connection: socket.socket) -> bool:
        connection.sendall(b"PING\r\n")
        return connection.recv(5) in (b"+PONG", b"-NOAU")


class RabbitMQ(Server):
    # The program itself: the one in /usr/sbin changes the user and cannot write here.
    name, scheme, program = "rabbitmq", "amqp", "/usr/lib/rabbitmq/bin/rabbitmq-server"
    package = "rabbitmq-server"

    def command(self) -> list[str]:
        return [self.program]

    def environment(self) -> dict[str, str]:
        plugins = self.folder / "plugins"
        plugins.write_text("[].", encoding="utf-8")
        return {
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    def __init__(self, folder: Path, password: str = "") -> None:
        super().__init__(folder, password)  # it always asks for one: guest, guest
        self.dist_port = free_port()

    def greets(self, connection: socket.socket) -> bool:
        connection.sendall(b"AMQP\x00\x00\x09\x01")
        return len(connection.recv(8)) == 8

    def memory(self) -> float:
        """Return the MB that are in use once its log is on disk and garbage is collected.

        It collects when it likes, and keeps up to 512 MB of its log in memory as well.
        """
        code = """
            ok = ra_log_wal:force_roll_over(ra_log_wal), timer:sleep(3000),
            [garbage_collect(P) || P <- processes()], erlang:memory(total).
        """
        program = Path(self.program).with_name("rabbitmqctl")
        command = [str(program), "--quiet", "--node", f"test{self.port}@localhost", "eval", code]
        environment = os.environ | self.environment()
        said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout
        return round(int(said) / 1e6, 1)


class Kafka(Server):
    # No package of Debian's: .ci/kafka brings its jars to a folder of the user's.
    name, scheme, program = "kafka", "kafka", "java"
    package = "default-jre-headless"
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
        self.controller_port = free_port()
        self.cut_off = Proxy(free_port(), free_port())

    def proxy(self) -> "Proxy":
        # Kafka tells its clients where to go; who comes by this port is sent to the proxy's.
        return self.cut_off

    def start(self) -> None:
        if not (self.folder / "data").exists():
            self.settings.write_text(self.properties(), encoding="utf-8")
            id = ["-t", "evtemplate-kafka-tests"]
            command = self.java("kafka.tools.StorageTool", "format", *id, "-c", str(self.settings))
            subprocess.run(command, check=True, capture_output=True)
        super().start()

    def command(self) -> list[str]:
        return self.java("kafka.Kafka", str(self.settings))

    @property
    def settings(self) -> Path:
        return self.folder / "server.properties"

    def java(self, *arguments: str) -> list[str]:
        small = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [self.program, *small, "-cp", f"{self.jars}/*", *arguments]

    def properties(self) -> str:
        security = "SASL_PLAINTEXT" if self.password else "PLAINTEXT"
        login = (
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            f'username="me" password="{self.password}" user_me="{self.password}";'
        )
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"B://127.0.0.1:{self.port},P://127.0.0.1:{self.cut_off.to},"
            f"C://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"B://127.0.0.1:{self.port},P://127.0.0.1:{self.cut_off.port}",
            "controller.listener.names": "C",
            "inter.broker.listener.name": "B",
            "listener.security.protocol.map": f"B:{security},P:{security},C:PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "sasl.mechanism.inter.broker.protocol": "PLAIN",
            "listener.name.b.plain.sasl.jaas.config": login,
            "listener.name.p.plain.sasl.jaas.config": login,
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "broker.session.timeout.ms": 1000,  # how long one that was killed cannot come again
            "broker.heartbeat.interval.ms": 300,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,  # the tests' lease is short
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def greets(self, connection: socket.socket) -> bool:
        connection.sendall(bytes.fromhex("0000000a 0012 0000 00000001 ffff"))  # which versions?
        return connection.recv(8)[4:] == b"\0\0\0\1"


SERVERS: dict[str, type[Server]] = {each.name: each for each in (Nats, RabbitMQ, Redis, Kafka)}


def absent(reason: str) -> NoReturn:
    """Skip the test on somebody's machine; fail it where it has to run."""
    if os.environ.get("EVTEMPLATE_NO_SKIPS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def running(name: str, folder: Path, password: str = "") -> Iterator[Server]:
    """A server of the engine `name`; skip the test on a machine that has none."""
    kind = SERVERS[name]
    if reason := kind.missing():
        absent(reason)
    if sys.platform == "win32":
        pytest.skip("the engines' servers are started as on Linux and macOS")
    server = kind(folder, password)
    server.start()
    try:
        yield server
    finally:
        server.kill()


class Proxy:
    """A way to a server that can be cut: what is on it is lost, and nobody gets through."""

    def __init__(self, port: int, to: int) -> None:
        self.port = port
        self.to = to
        self.process: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        code = (Path(__file__).parent / "proxy.py").resolve()
        command = [sys.executable, str(code), str(self.port), str(self.to)]
        self.process = subprocess.Popen(command)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        pytest.fail("the proxy did not start")

    def cut(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
