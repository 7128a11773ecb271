"""The lesson's page across processes: any instance shows which one handled what."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from support.brokers import Broker
from support.pages import audit, shows
from support.processes import Server
from support.projects import Project

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.brokers

ORDERS = 12

Bake = Callable[..., Project]
StartServer = Callable[..., Server]


@pytest.fixture
def instance(baked: Bake, server: StartServer) -> Callable[..., Server]:
    """Starts one process of the watched service."""
    project = baked(lesson="student", broker="nats")

    def start(**environment: str) -> Server:
        command = (project.python, "-m", "uvicorn", "lesson.live:app")
        return server(*command, cwd=project.path, **environment).up("/lesson/instances")

    return start


@pytest.fixture
def two(instance: Callable[..., Server], broker: Callable[[str], Broker]) -> Iterator[list[Server]]:
    """Two instances of the service on this machine; their name is the number of their process."""
    url = broker("nats").url
    instances = [instance(BROKER_URL=url) for _ in range(2)]
    yield instances
    for each in instances:
        if each.runs:
            each.stop(signal.SIGTERM)


def place_order(server: Server, item: str) -> str:
    """Place an order; return its id."""
    status, answer = server.post("/orders", {"item": item, "quantity": 1})
    assert status == 201
    return str(answer["order_id"])


def receipts(server: Server) -> set[str]:
    """Return the orders whose receipt this process printed."""
    return set(re.findall(r"Receipt for order (\S+)", server.output()))


def handled(instance: Server) -> dict[str, dict[str, Any]]:
    """Return what an instance's page shows, by the id of the order."""
    found = {}
    for row in instance.get("/lesson/instances"):
        [order] = re.findall(r"order_id='(\S+?)'", row["detail"])
        found[order] = row
    return found


def test_every_page_shows_which_instance_handled_what(two: list[Server]) -> None:
    placed = [(place_order(one, "tea"), str(one.pid)) for _ in range(ORDERS // 2) for one in two]

    for page in two:
        started = time.monotonic()
        page.until(lambda page=page: len(handled(page)) == ORDERS)  # type: ignore[misc]
        rows = handled(page)
        assert time.monotonic() - started < 3
        by_process = {str(each.pid): receipts(each) for each in two}  # as their terminals say
        assert set.union(*by_process.values()) == {order for order, _ in placed}
        for order, sender in placed:
            assert order in by_process[rows[order]["process"]]
            assert rows[order]["sent_by"] == sender
            assert rows[order]["listener"] == "app.handlers.orders.send_receipt"
        assert {row["process"] for row in rows.values()} == {str(each.pid) for each in two}

    # In the one that sent it, an event that the broker takes is not one that nobody hears.
    sent = [step for step in two[0].get("/lesson/steps") if step["listener"] is None]
    assert len(sent) == ORDERS // 2
    assert {step["listener_action"] for step in sent} == {"Published to the broker"}


def test_what_a_killed_instance_did_is_still_shown(two: list[Server]) -> None:
    first, second = two
    order = place_order(first, "tea")
    first.until(lambda: order in handled(second))
    handler = next(each for each in two if order in receipts(each))
    other = second if handler is first else first

    handler.kill()

    assert handled(other)[order]["process"] == str(handler.pid)


def test_without_a_broker_there_is_nothing_to_show(instance: Callable[..., Server]) -> None:
    alone = instance()
    place_order(alone, "tea")
    assert alone.get("/lesson/instances") is None


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_the_page(two: list[Server], browser: "Browser", scheme: Any, width: int) -> None:
    first, second = two
    pages = []
    for each in two:
        page = browser.new_page(
            color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
        )
        page.goto(f"{each.url}/lesson")
        shows(page, "#shares", re.compile(rf"This page is of process {each.pid}|handled"))
        pages.append(page)
    orders = [place_order(first, "tea <b>") for _ in range(6)]

    for page, own, other in zip(pages, two, reversed(two), strict=True):
        for order in orders:
            shows(page, f"#handled tr:has-text('{order}')", f"sent by process {first.pid}")
        mine = [order for order in orders if order in receipts(own)]
        for order in orders:
            row = page.locator(f"#handled tr:has-text('{order}')").inner_text()
            assert f"process {(own if order in mine else other).pid}" in row
            assert ("this page" in row) == (order in mine)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        audit(page)
    pages[0].locator("#moment-2").click()
    shows(pages[0], "#moments", "see which instance handled what")
    second.stop(signal.SIGTERM)
    last = place_order(first, "coffee")
    shows(pages[0], f"#handled tr:has-text('{last}')", f"process {first.pid}")
    for page in pages:
        page.close()
