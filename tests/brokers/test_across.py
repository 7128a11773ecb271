"""The lesson's page across processes: any instance shows which one handled what."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from engines import free_port, running
from test_page import audit, browser, shows
from tools import generate, succeed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["browser"]  # the fixture

ORDERS = 12


class Instance:
    """One process of the watched service, and what it printed."""

    def __init__(self, project: Path, url: str | None, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"{self.port}.log"
        python = project / ".venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
        command = [str(python), "-m", "uvicorn", "lesson.live:app", "--port", str(self.port)]
        environment = os.environ | ({"BROKER_URL": url} if url else {})
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=project, env=environment, stdout=log, stderr=log
            )
        self.name = str(self.process.pid)
        self.until(lambda: self.get("/lesson/instances") or True)

    def until(self, holds: Callable[[], Any], seconds: float = 30) -> Any:
        """Return what `holds()` returns, as soon as that is something."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if found := holds():
                    return found
            except urllib.error.URLError:
                pass
            time.sleep(0.05)
        pytest.fail(self.log.read_text(encoding="utf-8"))

    def get(self, path: str) -> Any:
        """Return the JSON that a path answers."""
        with urllib.request.urlopen(self.url + path, timeout=10) as response:
            return json.load(response)

    def order(self, item: str) -> str:
        """Place an order; return its id."""
        body = json.dumps({"item": item, "quantity": 1}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/orders", body, headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(json.load(response)["order_id"])

    def receipts(self) -> set[str]:
        """Return the orders whose receipt this process printed."""
        return set(re.findall(r"Receipt for order (\S+)", self.log.read_text(encoding="utf-8")))

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout=20)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student's project with an engine, its dependencies installed."""
    made = generate(tmp_path_factory.mktemp("across"), lesson="student", broker="nats")
    succeed("uv", "sync", "--quiet", cwd=made)
    return made


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    """The address of a new engine."""
    with running("nats", tmp_path / "nats") as server:
        yield server.url


@pytest.fixture
def two(project: Path, engine: str, tmp_path: Path) -> Iterator[list[Instance]]:
    """Two instances of the service on this machine."""
    instances: list[Instance] = []
    try:
        instances += (Instance(project, engine, tmp_path) for _ in range(2))
        yield instances
    finally:
        for instance in instances:
            instance.stop()


def handled(instance: Instance) -> dict[str, dict[str, Any]]:
    """Return what an instance's page shows, by the id of the order."""
    found = {}
    for row in instance.get("/lesson/instances"):
        [order] = re.findall(r"order_id='(\S+?)'", row["detail"])
        found[order] = row
    return found


def test_every_page_shows_which_instance_handled_what(two: list[Instance]) -> None:
    placed = [(one.order("tea"), one.name) for _ in range(ORDERS // 2) for one in two]

    for page in two:
        started = time.monotonic()
        rows = page.until(lambda page=page: len(found := handled(page)) == ORDERS and found)  # type: ignore[misc]
        assert time.monotonic() - started < 3
        by_process = {each.name: each.receipts() for each in two}  # as their terminals say
        assert set.union(*by_process.values()) == {order for order, _ in placed}
        for order, sender in placed:
            assert order in by_process[rows[order]["process"]]
            assert rows[order]["sent_by"] == sender
            assert rows[order]["listener"] == "app.handlers.orders.send_receipt"
        assert {row["process"] for row in rows.values()} == {each.name for each in two}

    # In the one that sent it, an event that an engine takes is not one that nobody hears.
    sent = [step for step in two[0].get("/lesson/steps") if step["listener"] is None]
    assert len(sent) == ORDERS // 2
    assert {step["listener_action"] for step in sent} == {"Handed to the engine"}


def test_what_a_killed_instance_did_is_still_shown(two: list[Instance]) -> None:
    first, second = two
    order = first.order("tea")
    first.until(lambda: order in handled(second))
    handler = next(each for each in two if order in each.receipts())
    other = second if handler is first else first

    handler.stop(signal.SIGKILL)

    assert handled(other)[order]["process"] == handler.name


def test_without_an_engine_there_is_nothing_to_show(project: Path, tmp_path: Path) -> None:
    instance = Instance(project, None, tmp_path)
    try:
        instance.order("tea")
        assert instance.get("/lesson/instances") is None
    finally:
        instance.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1280])
def test_the_page(two: list[Instance], browser: "Browser", scheme: Any, width: int) -> None:
    first, second = two
    pages = []
    for each in two:
        page = browser.new_page(
            color_scheme=scheme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
        )
        page.goto(f"{each.url}/lesson")
        shows(page, "#shares", re.compile(rf"This page is of process {each.name}|handled"))
        pages.append(page)
    orders = [first.order("tea <b>") for _ in range(6)]

    for page, own, other in zip(pages, two, reversed(two), strict=True):
        for order in orders:
            shows(page, f"#handled tr:has-text('{order}')", f"sent by process {first.name}")
        mine = [order for order in orders if order in own.receipts()]
        for order in orders:
            row = page.locator(f"#handled tr:has-text('{order}')").inner_text()
            assert f"process {own.name if order in mine else other.name}" in row
            assert ("this page" in row) == (order in mine)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        audit(page)
    pages[0].locator("#moment-2").click()
    shows(pages[0], "#moments", "see which instance handled what")
    if folder := os.environ.get("EVTEMPLATE_PICTURES"):
        pages[0].screenshot(path=f"{folder}/across-{width}-{scheme}.png", full_page=True)
        pages[0].locator("#instances").screenshot(path=f"{folder}/instances-{width}-{scheme}.png")
    second.stop()
    last = first.order("coffee")
    shows(pages[0], f"#handled tr:has-text('{last}')", f"process {first.name}")
    for page in pages:
        page.close()
