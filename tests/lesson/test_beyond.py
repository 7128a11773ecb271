"""The second day: BEYOND.md is played, as a learner types it, and each thing it says is looked for."""

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import Browser

from support.cases import cases
from support.days import ORDERS, WITH_WHEEL, Day
from support.pages import audit
from support.processes import succeed, until
from support.projects import Bake, Project

IN_CONTAINERS = ("rabbitmq", "redis", "kafka")
LEARNERS = cases(__file__, "receipts")
ENDED = (0, 130, -signal.SIGINT)  # by Ctrl+C
# What Windows types, for each command of the page that's another one there.
WINDOWS = {"kill -9 12345\n": "taskkill /PID 12345 /F\n"}


@pytest.fixture(params=WITH_WHEEL)
def day(bake: Bake, request: pytest.FixtureRequest) -> Iterator[Day]:
    """A learner's day, with exercises 4 and 5 done; what still runs afterwards is killed."""
    slug = f"day-{uuid4().hex[:8]}"
    project = bake(lesson="student", broker=request.param, project_slug=slug)
    with closing(Day(project, request.param)) as day:
        solve(project, "a set", day.orders)
        day.begins()
        yield day


# The steps, as functions of the day. Step 0 is played by Day.begins.


def share(day: Day) -> None:
    both, count = set[str](), 0
    while len(both) < 2:  # one may be quick enough to send all: "place them again"
        count += len(day.orders_of("1"))
        until(lambda: len(day.rows("send_receipt")) == min(count, 50))  # noqa: B023 (50: HANDLED)
        both = {row["process"] for row in day.rows("send_receipt")}
    for process in both:
        day.shows("#handled", f"process {process}")


def kill(day: Day) -> None:
    day.saves("2", "app/handlers/parcels.py", "import")
    day.orders_of("2")
    [packing] = until(lambda: re.findall(r"Process (\d+) packs", day.printed()))
    other = int(f"Process {packing} packs" in day.instances[0].output())
    succeed(*day.block("2", "kill").replace("12345", packing).split(), cwd=day.folder)
    day.block("2", "taskkill")
    until(lambda: " packs a parcel" in day.instances[other].output())
    assert [row["attempt"] for row in until(lambda: day.rows("pack_parcel", other))] == [2]
    day.page.goto(f"{day.instances[other].url}/lesson")
    day.shows("#handled tr:has-text('pack_parcel') [data-label=Attempt]", "2")
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
    [order] = day.orders_of("3")

    def handled() -> list[dict[str, Any]]:
        return [row for row in day.rows("send_receipt") if order in str(row["fields"])]

    until(handled)
    row = day.page.locator("#log tr", has_text=order).filter(has_text="Published to the broker")

    def came_to_both() -> bool:
        row.first.get_by_role("button", name="again").click()
        day.page.wait_for_timeout(500)
        return len({row["process"] for row in handled()}) == 2

    until(came_to_both)
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
    assert day.server.stop(group=True) == 0, day.server
    assert "Traceback" not in str(day.server)
    assert day.types("5", "uv run python -c") == "503 5\n"
    day.starts_broker("5")
    day.instances[0].well()
    assert day.types("5", "uv run python -c") == "201 None\n", day.instances[0]
    until(lambda: "2" in day.labels())


def overtake(day: Day) -> None:
    def printed() -> list[str]:
        count = len(day.labels()) + len(day.orders_of("6"))
        return until(lambda: (labels := day.labels())[count - 1 :] and labels)[-6:]

    assert printed() != list("123456")
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
def test_the_whole_day(browser: Browser, day: Day) -> None:
    day.page = browser.new_page(reduced_motion="reduce")
    day.page.goto(f"{day.instances[0].url}/lesson")
    for number, step in enumerate(STEPS, 1):
        day.shows("#next", f"Step {number} of BEYOND.md: ")
        step(day)
    day.shows("#next", "You've seen every step")
    audit(day.page)
    day.page.close()
    assert not day.unplayed  # nothing on the page wasn't played
    assert day.instances[0].stop(group=True) in ENDED


@pytest.mark.brokers
def test_the_part_without_signals(day: Day) -> None:
    for step in (share, fails, between):
        step(day)


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


@pytest.mark.parametrize("name", LEARNERS)
def test_a_receipt_that_outlives_its_process(bake: Bake, name: str) -> None:
    project, learner = bake(lesson="student", broker="nats"), LEARNERS[name]
    solve(project, name, project.read(ORDERS))

    said = project.check().stdout

    marks = "".join(re.findall(r"\[(.)\] exercise[4-7] ", said))
    assert marks == ("✗" if "catches" in learner else "✓") + learner["marks"], said
    if "says" in learner:
        [sentence] = re.findall(r"^      Wrong: (.+)$", said, re.MULTILINE)
        assert "app/handlers/orders.py, line " in sentence
        assert learner["says"] in sentence


# What each project has


@pytest.mark.parametrize("broker", [*WITH_WHEEL, *IN_CONTAINERS])
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
                    r'(uv run|git|docker compose)( [\w./=@-]+| "[^"$`%\\\\]+")+', line
                )
    url = re.findall(r"^BROKER_URL=(.+)$", text, re.MULTILINE)[0]
    assert url.partition("://")[0] in project.read("app/messaging/settings.py")
    assert "[BEYOND.md](BEYOND.md)" in project.read("TUTORIAL.md")
    assert "[BEYOND.md](BEYOND.md)" in project.read("README.md")


@pytest.mark.parametrize("broker", IN_CONTAINERS)
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
