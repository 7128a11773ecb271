"""The lesson's page across processes: any instance shows which one handled what."""

import re
import signal
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser

from support.brokers import StartBroker
from support.pages import audit, shows
from support.processes import Server, StartServer
from support.projects import Bake

pytestmark = pytest.mark.brokers


@pytest.fixture
def instance(baked: Bake, server: StartServer) -> Callable[..., Server]:
    """Starts one process of the watched service."""
    project = baked(lesson="student", broker="nats")
    command = (project.python, "-m", "uvicorn", "lesson.live:app")
    return lambda **more: server(*command, cwd=project.path, **more).up("/lesson/instances")


@pytest.fixture
def two(instance: Callable[..., Server], broker: StartBroker) -> list[Server]:
    """Two instances of the service on this machine; their name is the number of their process."""
    url = broker("nats").url
    return [instance(BROKER_URL=url) for _ in range(2)]


def place_order(server: Server, item: str = "tea") -> str:
    """Place an order; return its id."""
    return str(server.post("/orders", {"item": item, "quantity": 1})[1]["order_id"])


def receipts(server: Server) -> set[str]:
    """Return the orders whose receipt this process printed."""
    return set(re.findall(r"Receipt for order (\S+)", server.output()))


def handled(instance: Server) -> dict[str, dict[str, Any]]:
    """Return what an instance's page shows, by the id of the order."""
    rows = instance.get("/lesson/instances")
    return {re.findall(r"order_id='(\S+?)'", row["detail"])[0]: row for row in rows}


def test_every_page_shows_which_instance_handled_what(two: list[Server]) -> None:
    placed = {place_order(one): str(one.pid) for _ in range(6) for one in two}
    for page in two:
        page.until(lambda page=page: len(handled(page)) == len(placed))  # type: ignore[misc]
        rows = handled(page)
        for each in two:  # as their terminals say
            mine = {order for order, row in rows.items() if row["process"] == str(each.pid)}
            assert mine == receipts(each) != set()
        assert {order: row["sent_by"] for order, row in rows.items()} == placed

    # In the one that sent it, an event that the broker takes isn't one that nobody listens to.
    sent = [step for step in two[0].get("/lesson/steps") if step["listener"] is None]
    assert [step["listener_action"] for step in sent] == ["Published to the broker"] * 6

    two[0].kill()
    assert handled(two[1]) == rows  # what it did is still shown


def test_without_a_broker_there_is_nothing_to_show(instance: Callable[..., Server]) -> None:
    alone = instance()
    place_order(alone)
    assert alone.get("/lesson/instances") is None


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_the_page(two: list[Server], browser: Browser, scheme: Any, width: int) -> None:
    look: Any = {"color_scheme": scheme, "reduced_motion": "reduce"}
    pages = [browser.new_page(**look, viewport={"width": width, "height": 900}) for _ in two]
    for page, own in zip(pages, two, strict=True):
        page.goto(f"{own.url}/lesson")
        shows(page, "#shares", f"This page: process {own.pid}.")
    orders = [place_order(two[0], "tea <b>") for _ in range(6)]

    for page, own, other in zip(pages, two, reversed(two), strict=True):
        for order in orders:
            shows(page, f"#handled tr:has-text('{order}')", f"sent by process {two[0].pid}")
            row = page.locator(f"#handled tr:has-text('{order}')").inner_text()
            mine = order in receipts(own)
            assert f"process {(own if mine else other).pid}" in row
            assert ("this page" in row) == mine
        assert page.evaluate("document.documentElement.scrollWidth") == width
        audit(page)
    pages[0].locator("#moment-2").click()
    shows(pages[0], "#moments", "see which instance handled what")
    two[1].stop(signal.SIGTERM)
    last = place_order(two[0], "coffee")
    shows(pages[0], f"#handled tr:has-text('{last}')", f"process {two[0].pid}")
    for page in pages:
        page.close()
