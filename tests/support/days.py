"""A learner with BEYOND.md: the terminals, the broker, and what the two instances did."""

import re
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from support.pages import shows
from support.processes import Process, free_port, succeed
from support.projects import Project
from support.services import Instance
from support.template import WHO

WITH_WHEEL = ("nats", "postgres")  # their servers come from PyPI
ORDERS = "app/handlers/orders.py"


class Day:
    """A learner with BEYOND.md, on ports that are free, with a terminal for each program."""

    page: Any = None  # of the first instance, where there's a browser

    def __init__(self, project: Project, broker: str) -> None:
        self.project, self.broker, self.orders = project, broker, project.read(ORDERS)
        self.folder = Path(tempfile.mkdtemp())
        self.folder.chmod(0o777)  # PostgreSQL runs as another user if we're root
        self.terminals: list[Process] = []
        self.instances = [Instance(cwd=project.path) for _ in range(2)]  # terminals run them
        text, port = project.read("BEYOND.md"), free_port()
        text = re.sub("(?<=:)(4222|5432)", str(port), text)
        text = text.replace("-m lesson broker\n", f"-m lesson broker --port {port}\n")
        for number, each in enumerate(self.instances, 1):
            text = re.sub(f"(?<=[: ])800{number}", str(each.port), text)
        steps = re.split(r"^## ", text, flags=re.MULTILINE)
        self.blocks: dict[str, list[str]] = {
            step[0]: re.findall(r"^```\w+\n(.*?)^```", step, re.M | re.S) for step in steps
        }
        self.unplayed = {(step, block) for step, found in self.blocks.items() for block in found}

    def block(self, step: str, beginning: str) -> str:
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

    @contextmanager
    def reloaded(self) -> Iterator[None]:
        """Wait until the instances use what the block saves."""

        def starts(each: Instance) -> int:
            return each.output().count("App is starting")

        before = [(each, starts(each)) for each in self.instances if each.runs]
        yield
        for each, count in before:
            each.until(lambda each=each, count=count: starts(each) > count)  # type: ignore[misc]
            each.well()

    def saves(self, step: str, file: str, beginning: str) -> None:
        with self.reloaded():
            self.project.write(file, self.block(step, beginning))

    def serve(self, command: str) -> Process:
        """Type the command that starts the broker, and wait until it answers."""
        server = self.terminal(command).start()
        server.until(lambda: "BROKER_URL=" in server.output())
        return server

    def starts_broker(self, step: str) -> None:
        self.server = self.serve(self.block(step, "uv run python -m lesson broker"))

    def begins(self) -> None:
        """Play step 0."""
        self.types("#", "git init")
        self.starts_broker("0")
        self.project.write(".env", self.block("0", "BROKER_URL="))
        if self.broker == "postgres":
            self.types("0", "uv run --env-file .env alembic")
        for each in self.instances:
            terminal = self.terminal(self.block("0", "uv run --env-file .env fastapi")).start()
            each.process, each.files = terminal.process, terminal.files
        for each in self.instances:
            each.well()

    def orders_of(self, step: str) -> list[str]:
        """Place the orders of a step; return their ids."""
        return re.findall("'order_id': '(.+?)'", self.types(step, "uv run python -c"))

    def shows(self, selector: str, text: str) -> None:
        if self.page:
            shows(self.page, selector, text)

    def printed(self) -> str:
        return "".join(each.output() for each in self.instances)

    def rows(self, listener: str, instance: int = 0) -> list[dict[str, Any]]:
        """Return what the table of an instance has of a listener, oldest first."""
        found = self.instances[instance].get("/lesson/instances") or []
        return [row for row in found if row["listener"].endswith(f".{listener}")]

    def labels(self) -> list[str]:
        """Return the numbers of the labels, in the order in which they were done."""
        rows = self.rows("print_label")
        rows.sort(
            key=lambda row: datetime.fromisoformat(row["time"]) + timedelta(0, row["duration"])
        )
        return [row["value"].split()[1] for row in rows]

    def close(self) -> None:
        for terminal in self.terminals:
            terminal.close()
        shutil.rmtree(self.folder, ignore_errors=True)
