"""A learner with BEYOND.md: the terminals, the broker, and what the two instances did."""

import re
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from support.brokers import StartBroker
from support.pages import shows
from support.processes import Process, Server, free_port, succeed
from support.projects import Project
from support.template import WHO

WITH_WHEEL = ("nats", "postgres")  # their servers come from PyPI
ENDED = (0, 130, -signal.SIGINT)  # by Ctrl+C
ORDERS = "app/handlers/orders.py"
BLOCK = r"^```\w+\n(.*?)^```"


class Day:
    """A learner with BEYOND.md, on ports that are free, with a terminal for each program."""

    page: Any = None  # of the first instance, where there's a browser

    def __init__(self, project: Project, broker: str, start: StartBroker) -> None:
        self.project, self.broker, self.orders = project, broker, project.read(ORDERS)
        self.folder = Path(tempfile.mkdtemp())
        self.folder.chmod(0o777)  # PostgreSQL runs as another user if we're root
        self.terminals: list[Process] = []
        self.server: Any = None if broker in WITH_WHEEL else start(broker)  # not in a container
        url, port = getattr(self.server, "url", ""), free_port()
        self.instances = [Server(cwd=project.path), Server(cwd=project.path)]  # terminals run them
        text = project.read("BEYOND.md")
        for old, new in (
            ("(?<=BROKER_URL=).+", url or r"\g<0>"),
            ("(?<=:)(4222|5432)", str(port)),
            ("(?<=-m lesson broker)(?=\n)", f" --port {port}" if not url else ""),
            *((f"(?<=[: ])800{n}", str(each.port)) for n, each in enumerate(self.instances, 1)),
        ):
            text = re.sub(old, new, text)
        steps = re.split(r"^## ", text, flags=re.MULTILINE)
        self.blocks: dict[str, list[str]] = {
            step[0]: re.findall(BLOCK, step, re.M | re.S) for step in steps
        }
        self.unplayed = {(step, block) for step, found in self.blocks.items() for block in found}

    def block(self, step: str, beginning: str | tuple[str, ...]) -> str:
        """Return the next block of a step that begins like this, or once more the last one."""
        found = [block for block in self.blocks[step] if block.startswith(beginning)]
        unplayed = (each for each in found if (step, each) in self.unplayed)
        block: str = next(unplayed, found[-1])
        self.unplayed.discard((step, block))
        return block

    def terminal(self, line: str) -> Process:
        """Return a terminal with a command of the page in it, which has what .env adds."""
        words = shlex.split(line)
        variables = {"PYTHONUTF8": "1", "TMPDIR": str(self.folder), "BROKER_URL": ""} | WHO
        if words[:2] == ["uv", "run"]:  # without uv, in an environment that projects share
            words = words[2:]
            if words[0] == "--env-file":
                lines = self.project.read(words[1]).splitlines()
                variables |= dict(each.split("=", 1) for each in lines)
                words = words[2:]
            words[0] = str(self.project.python.with_name(words[0]))
        self.terminals.append(Process(*words, cwd=self.project.path, **variables))
        return self.terminals[-1]

    def types(self, step: str, beginning: str) -> str:
        """Type a block of the page, which must succeed; return what it prints."""
        lines = map(self.terminal, self.block(step, beginning).splitlines())
        return "".join(succeed(*each.command, cwd=each.cwd, **each.environment) for each in lines)

    def starts(self, step: str, *instances: Server) -> None:
        """Type the command of each instance in a terminal of its own, and wait for them."""
        for each in instances:
            terminal = self.terminal(self.block(step, "uv run --env-file .env fastapi")).start()
            each.process, each.files = terminal.process, terminal.files
        for each in instances:
            each.until(lambda each=each: each.request("GET", "/health")[0] == 200)  # type: ignore[misc]

    @contextmanager
    def reloaded(self) -> Iterator[None]:
        """Wait until the instances use what the block saves."""

        def ready(each: Server, count: int) -> bool:
            begun = each.output().count("App is starting") > count
            return begun and each.request("GET", "/health")[0] == 200

        before = [(each, each.output().count("App is starting")) for each in self.instances]
        yield
        for each, count in before:
            if each.runs:
                each.until(partial(ready, each, count))

    def saves(self, step: str, file: str, beginning: str) -> None:
        with self.reloaded():
            self.project.write(file, self.block(step, beginning))

    def starts_broker(self, step: str) -> None:
        command = self.block(
            step, ("uv run python -m lesson broker", "docker compose start broker")
        )
        if self.broker in WITH_WHEEL:
            self.server = self.terminal(command).start()
            self.server.until(lambda: "BROKER_URL=" in self.server.output())
        elif step != "0":
            self.server.up()

    def stops_broker(self) -> None:
        if self.broker in WITH_WHEEL:
            assert self.server.stop(group=True) == 0, self.server
            assert "Traceback" not in str(self.server)
        else:
            self.block("5", "docker compose stop broker")
            self.server.kill()

    def begins(self) -> None:
        succeed("git", "init", "--quiet", cwd=self.project.path)
        self.types("#", "git add .\ngit commit")
        self.starts_broker("0")
        self.project.write(".env", self.block("0", "BROKER_URL="))
        if self.broker == "postgres":
            self.types("0", "uv run --env-file .env alembic")
        if self.broker not in WITH_WHEEL:
            self.block("0", "docker compose up --detach --wait broker")
        self.starts("0", *self.instances)

    def orders_of(self, step: str) -> list[str]:
        """Place the orders of a step; return their ids."""
        return re.findall("'order_id': '(.+?)'", self.types(step, "uv run python -c"))

    def shows(self, selector: str, text: str) -> None:
        if self.page:
            shows(self.page, selector, text, 40)

    def printed(self) -> str:
        return "".join(each.output() for each in self.instances)

    def rows(self, listener: str, instance: int = 0) -> list[dict[str, Any]]:
        """Return what the table of an instance has of a listener, oldest first."""
        found = self.instances[instance].get("/lesson/instances") or []
        return [row for row in found if row["listener"].endswith(f".{listener}")]

    def labels(self) -> list[str]:
        """Return the numbers of the labels, in the order in which they were done."""

        def done(row: dict[str, Any]) -> float:
            return datetime.fromisoformat(row["time"]).timestamp() + float(row["duration"])

        return [row["value"].split()[1] for row in sorted(self.rows("print_label"), key=done)]

    def closes(self) -> None:
        for terminal in self.terminals:
            terminal.close()
        shutil.rmtree(self.folder, ignore_errors=True)
