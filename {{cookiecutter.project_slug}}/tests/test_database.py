"""What's stored and what's emitted are kept together, or not at all: in SQLite and PostgreSQL."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg  # type: ignore[import-untyped]
import pytest
from alembic.script import ScriptDirectory
from fastapi import HTTPException
from fastapi.testclient import TestClient
from sqlalchemy.ext.asyncio import AsyncSession

from app import bus, database
from app.bus import emit, on
from app.database import SessionDep, transaction
from app.events import OrderPlaced
from app.main import app
from app.messaging import delivery
from app.messaging.settings import BrokerUnavailable, address_of, settings
from app.models import Order

ROOT = Path(__file__).parent.parent
TEA: dict[str, Any] = {"item": "tea", "quantity": 2}
NAME = "OrderPlaced.app.handlers.orders.send_receipt"
LOGIN = "me:secret"

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
Block = Callable[[AsyncSession, UUID], Awaitable[Any]]


async def waiting() -> int:
    """Return how many events the broker has for the receipt's listener."""
    return (await delivery.status())[NAME].waiting if delivery.broker else 0


async def kept(block: Block) -> tuple[bool, int]:
    """Run `block` in a transaction; return if its order is stored, and how many events it left."""
    id, before = uuid4(), await waiting()
    with suppress(ValueError, ExceptionGroup):
        async with transaction() as session:
            await block(session, id)
    async with transaction() as session:
        return await session.get(Order, id) is not None, await waiting() - before


async def ends_well(session: AsyncSession, id: UUID) -> None:
    session.add(Order(id=id, **TEA))
    await emit(OrderPlaced(order_id=id, **TEA))


async def raises_after_emit(session: AsyncSession, id: UUID) -> None:
    await ends_well(session, id)
    raise ValueError("after emit")


async def rolls_a_savepoint_back(session: AsyncSession, id: UUID) -> None:
    savepoint = await session.begin_nested()
    await ends_well(session, id)
    await savepoint.rollback()


async def emits_in_tasks_and_rolls_back(session: AsyncSession, id: UUID) -> None:
    await asyncio.gather(*(emit(OrderPlaced(order_id=uuid4(), **TEA)) for _ in range(10)))
    await session.rollback()


@pytest.mark.parametrize(
    ("block", "stored"),
    [
        (ends_well, True),
        (raises_after_emit, False),
        (rolls_a_savepoint_back, False),
        (emits_in_tasks_and_rolls_back, False),
    ],
)
def test_the_order_and_its_event_are_kept_together(run: Run, block: Block, stored: bool) -> None:
    found = run(lambda: kept(block))

    assert found == (stored, 1 if stored and settings.url else 0)  # in SQLite, it was handled


def test_a_task_that_outlives_the_transaction_emits_on_its_own(run: Run) -> None:
    async def main() -> int:
        before = await waiting()
        go_on = asyncio.Event()

        async def later() -> None:
            await go_on.wait()
            await emit(OrderPlaced(order_id=uuid4(), **TEA))

        async with transaction():
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
        go_on.set()
        await task
        return await waiting() - before

    assert run(main) == (1 if settings.url else 0)


@pytest.mark.parametrize("fails", [True, False])
def test_a_listener_may_have_a_session_of_its_own(run: Run, fails: bool) -> None:
    """What it emits joins that one; what fails there keeps neither."""

    async def block(session: AsyncSession, id: UUID) -> None:
        async def keep_books(event: OrderPlaced) -> None:
            async with transaction() as own:
                own.add(Order(id=id, item="books", quantity=1))
                await emit(event)
                if fails:
                    raise ValueError("after emit")

        with suppress(ValueError):
            await bus.caller(keep_books)(OrderPlaced(order_id=id, **TEA))

    assert run(lambda: kept(block)) == (not fails, 1 if not fails and settings.url else 0)


@pytest.mark.usefixtures("empty_bus")
@pytest.mark.parametrize("run", ["sqlite"], indirect=True)
def test_in_this_process_a_listener_that_fails_rolls_the_order_back(run: Run) -> None:
    @on(OrderPlaced)
    async def broken(event: OrderPlaced) -> None:
        raise ValueError("broken")

    assert run(lambda: kept(ends_well)) == (False, 0)


@pytest.mark.usefixtures("run")
def test_orders_over_http() -> None:
    """An order can be read, what no column can hold is refused, a failed commit isn't a success."""
    id = uuid4()

    @app.get(path := f"/{id}")
    async def twice(session: SessionDep, refuse: bool = False) -> None:
        await ends_well(session, id)
        if refuse:
            raise HTTPException(409)

    with TestClient(app, raise_server_exceptions=False) as client:
        placed = client.post("/orders", json=TEA).json()["order_id"]
        assert client.get(f"/orders/{placed}").json().items() >= TEA.items()
        assert client.get(f"/orders/{uuid4()}").status_code == 404
        for wrong in ({"item": "a\0b"}, {"quantity": 2**31}, {"quantity": 10**30}):
            assert client.post("/orders", json=TEA | wrong).status_code == 422
        assert client.get(f"{path}?refuse=1").status_code == 409
        assert client.get(f"/orders/{id}").status_code == 404
        # The transaction ends before the response: the second time, the key exists.
        assert [client.get(path).status_code for _ in range(2)] == [200, 500]
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


def test_alembic_says_what_it_did_and_which_right_is_missing(url: str) -> None:
    async def make_user() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE ROLE plain LOGIN")
        await connection.close()

    asyncio.run(make_user())
    for command in ("downgrade -1", "upgrade head"):
        assert f"Running {command.split()[0]}" in alembic(command, url).stderr
    done = alembic("upgrade head", url.replace("postgres@", "plain@") + "/postgres")

    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "permission denied" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("run", ["postgres"], indirect=True)
@pytest.mark.parametrize("said", ["", "lacks migration newest: run"])
def test_the_start_says_which_migration_is_missing(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    said: str,
) -> None:
    head = ScriptDirectory(str(database.MIGRATIONS)).get_current_head()
    shutil.copytree(database.MIGRATIONS / "versions", tmp_path / "versions")
    if said:
        new = f'revision, down_revision = "newest", {head!r}\n'
        (tmp_path / "versions" / "newest.py").write_text(new, encoding="utf-8")
    monkeypatch.setattr(database, "MIGRATIONS", tmp_path)

    run(waiting)

    assert said in caplog.text
    assert bool(said) == ("lacks" in caplog.text)


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
    assert "BROKER_URL" in done.stderr


def test_a_port_in_the_query_is_checked_too() -> None:
    assert address_of("postgresql:///x?host=/tmp&port=1,2") == "postgresql:///tmp"
    for port in ("1x", "65536", "-1", ","):
        with pytest.raises(BrokerUnavailable, match="must look like"):
            address_of(f"postgresql:///x?host=/tmp&port={port}")
