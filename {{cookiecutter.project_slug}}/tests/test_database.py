"""What's stored and what's emitted are kept together, in SQLite and in PostgreSQL, or not at all."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app import database, messaging, models
from app.bus import emit, on
from app.database import transaction
from app.events import Event, OrderPlaced
from app.main import app
from app.messaging import delivery
from tests import postgres

ROOT = Path(__file__).parent.parent
TEA = {"item": "tea", "quantity": 2}


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server with the tables; it's started if BROKER_URL is unset."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = postgres.folder_for(tmp_path_factory.mktemp("postgres"))
    try:
        command = postgres.prepare(folder, port)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with subprocess.Popen(command, user=postgres.USER, stderr=subprocess.DEVNULL) as server:
        try:
            while not postgres.answers(port):
                assert server.poll() is None
                time.sleep(0.05)
            url = f"postgresql://postgres@127.0.0.1:{port}"
            alembic = [sys.executable, "-m", "alembic", "upgrade", "head"]
            subprocess.run(alembic, cwd=ROOT, env=os.environ | {"BROKER_URL": url}, check=True)
            yield url
        finally:
            server.terminate()


@pytest.fixture(params=["sqlite", "postgres"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a coroutine function while the service is connected, to each database."""
    if request.param == "postgres":
        monkeypatch.setenv("BROKER_URL", request.getfixturevalue("url"))

    def run(main: Callable[[], Awaitable[Any]]) -> Any:
        async def connected() -> Any:
            async with messaging.connected(), database.connected():
                return await main()

        return asyncio.run(connected())

    return run


def order() -> tuple[models.Order, OrderPlaced]:
    """Return an order and its event."""
    id = uuid4()
    return models.Order(id=id, **TEA), OrderPlaced(order_id=id, item="tea", quantity=2)


async def count(id: UUID | None = None) -> tuple[int, int]:
    """Return how many orders are stored, and how many events wait for a listener."""
    async with transaction() as session:
        stored = await session.scalar(
            select(func.count()).select_from(models.Order).where(models.Order.id == id)
        )
    waiting = [each.waiting for each in (await delivery.status()).values()] if delivery.broker else []
    return stored or 0, sum(waiting)
