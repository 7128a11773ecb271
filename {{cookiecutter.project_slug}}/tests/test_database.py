"""What's stored and what's emitted are kept together, or not at all: in SQLite and PostgreSQL."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from app import bus, database, messaging
from app.bus import emit, on
from app.database import SessionDep, transaction
from app.events import IntegrationEvent, OrderPlaced
from app.main import app
from app.messaging import delivery
from app.messaging.settings import settings
from app.models import Order

ROOT = Path(__file__).parent.parent
TEA: dict[str, Any] = {"item": "tea", "quantity": 2}
NAME = "OrderPlaced.app.handlers.orders.send_receipt"

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
LOGIN = "me:secret"


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a coroutine function while the service is connected to each of the databases."""
    if request.param == "postgres":
        monkeypatch.setenv("BROKER_URL", request.getfixturevalue("url"))

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            async with messaging.connected(), database.connected():
                return await main()

        return asyncio.run(connected())

    return run


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    """The started app, on each of the databases."""
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def order(id: UUID) -> tuple[Order, OrderPlaced]:
    """Return an order and its event."""
    return Order(id=id, **TEA), OrderPlaced(order_id=id, **TEA)


async def stored(id: UUID) -> bool:
    async with transaction() as session:
        return await session.get(Order, id) is not None


async def waiting() -> int:
    """Return how many events the broker has for the receipt's listener."""
    if not delivery.broker:
        return 0
    return (await delivery.status())[NAME].waiting


def test_an_order_can_be_read(client: TestClient) -> None:
    id = client.post("/orders", json=TEA).json()["order_id"]

    assert client.get(f"/orders/{id}").json() == TEA
    assert client.get(f"/orders/{uuid4()}").status_code == 404


@pytest.mark.parametrize("wrong", [{"item": "a\0b"}, {"quantity": 2**31}, {"quantity": 10**30}])
def test_what_no_column_can_hold_is_refused(client: TestClient, wrong: dict[str, Any]) -> None:
    assert client.post("/orders", json=TEA | wrong).status_code == 422


def test_a_block_that_ends_well_keeps_both(run: Run) -> None:
    id = uuid4()

    async def main() -> tuple[bool, int]:
        before = await waiting()
        row, event = order(id)
        async with transaction() as session:
            session.add(row)
            await emit(event)
            assert await waiting() == before  # not before it's committed
        return await stored(id), await waiting() - before

    kept, waits = run(main)
    assert kept
    assert waits == (1 if settings.url else 0)  # in SQLite, the listener has run


def test_an_error_after_emit_keeps_neither(run: Run) -> None:
    id = uuid4()

    async def main() -> tuple[bool, int]:
        before = await waiting()
        row, event = order(id)
        with suppress(ValueError):
            async with transaction() as session:
                session.add(row)
                await emit(event)
                raise ValueError("after emit")
        return await stored(id), await waiting() - before

    assert run(main) == (False, 0)


def test_a_savepoint_that_is_rolled_back_keeps_neither(run: Run) -> None:
    id = uuid4()

    async def main() -> tuple[bool, int]:
        before = await waiting()
        row, event = order(id)
        async with transaction() as session:
            savepoint = await session.begin_nested()
            session.add(row)
            await emit(event)
            await savepoint.rollback()
        return await stored(id), await waiting() - before

    assert run(main) == (False, 0)


def test_tasks_that_emit_join_the_same_transaction(run: Run) -> None:
    async def main() -> int:
        before = await waiting()
        async with transaction() as session:
            await asyncio.gather(*(emit(order(uuid4())[1]) for _ in range(10)))
            await session.rollback()
        return await waiting() - before

    assert run(main) == 0


def test_a_task_that_outlives_the_transaction_emits_on_its_own(run: Run) -> None:
    async def main() -> int:
        before = await waiting()
        go_on = asyncio.Event()

        async def later() -> None:
            await go_on.wait()
            await emit(order(uuid4())[1])

        async with transaction():
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
        go_on.set()
        await task
        return await waiting() - before

    assert run(main) == (1 if settings.url else 0)


class Audited(IntegrationEvent):
    """An order was written into the books."""

    order_id: UUID


@pytest.mark.usefixtures("empty_bus")
def test_a_listener_may_have_a_session_of_its_own(run: Run) -> None:
    """What it emits joins that one; what fails there keeps neither."""
    id = uuid4()
    heard: list[OrderPlaced] = []

    async def keep_books(event: OrderPlaced) -> None:
        async with transaction() as session:
            session.add(Order(id=id, item="books", quantity=1))
            await emit(Audited(order_id=event.order_id))
            if not heard:
                heard.append(event)
                raise ValueError("the first time")

    async def main() -> list[bool]:
        results = []
        for _ in range(2):
            with suppress(ValueError):
                async with transaction() as session:
                    session.add(order(uuid4())[0])
                    await bus.caller(keep_books)(order(uuid4())[1])
            results.append(await stored(id))
        return results

    assert run(main) == [False, True]


@pytest.mark.usefixtures("empty_bus")
@pytest.mark.parametrize("run", ["sqlite"], indirect=True)
def test_in_this_process_a_listener_that_fails_rolls_the_order_back(run: Run) -> None:
    id = uuid4()

    @on(OrderPlaced)
    async def broken(event: OrderPlaced) -> None:
        raise ValueError("broken")

    async def main() -> bool:
        row, event = order(id)
        with suppress(ExceptionGroup):
            async with transaction() as session:
                session.add(row)
                await emit(event)
        return await stored(id)

    assert not run(main)


def test_the_transaction_ends_before_the_response(run: Run) -> None:
    """A commit that fails is no success that was answered."""
    path = f"/{uuid4()}"
    id = uuid4()

    @app.get(path)
    async def twice(session: SessionDep) -> str:
        session.add(order(id)[0])
        return "stored"

    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get(path).status_code == 200
        assert client.get(path).status_code == 500  # the key exists
    app.router.routes.pop()


def alembic(command: str, url: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Alembic's in the project's folder."""
    return subprocess.run(
        [sys.executable, "-m", "alembic", *command.split()],
        cwd=ROOT,
        env=os.environ | {"BROKER_URL": url},
        capture_output=True,
        encoding="utf-8",
    )


def test_the_migrations_make_the_tables_of_the_models(url: str) -> None:
    done = alembic("check", url)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "Set BROKER_URL"),
        (f"http://{LOGIN}@x", "must look like"),
        (f"postgresql://{LOGIN}@127.0.0.1:1", "127.0.0.1:1"),
    ],
)
def test_alembic_says_what_it_needs(url: str, said: str) -> None:
    done = alembic("upgrade head", url)

    assert done.returncode == 1
    assert said in done.stderr
    assert "secret" not in done.stderr
    assert len(done.stderr.splitlines()) == 1
