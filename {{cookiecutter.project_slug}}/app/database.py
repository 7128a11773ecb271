"""The data: `SessionDep` gives a route its session, `transaction()` opens one elsewhere."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg  # type: ignore[import-untyped]
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from fastapi import Depends
from sqlalchemy import Connection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from app.messaging.delivery import EventNotStored
from app.messaging.settings import address_of, settings
from app.models import Base

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "data.sqlite3"  # while BROKER_URL is unset
MIGRATIONS = ROOT / "migrations"
# What asyncpg raises while PostgreSQL is away. RuntimeError is uvloop's, for a closed connection.
AWAY = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    RuntimeError,
    TimeoutError,
)
# Parameters in URLs that libpq knows and asyncpg doesn't; it would send them to the server.
LIBPQ_ONLY = ("channel_binding", "connect_timeout", "gssencmode", "keepalives", "tcp_user_timeout")

log = logging.getLogger(__name__)
sessions = async_sessionmaker(expire_on_commit=False)
# The session whose transaction `emit` joins, while there's one.
current: ContextVar[AsyncSession | None] = ContextVar("session", default=None)


@asynccontextmanager
async def connected() -> AsyncIterator[None]:
    """Connect sessions to the data while the block runs: at BROKER_URL, or FILE if it's unset."""
    engine = make_engine()
    sessions.configure(bind=engine)
    try:
        async with engine.begin() as connection:
            if not settings.url:
                await connection.run_sync(Base.metadata.create_all)
            elif missing := await connection.run_sync(pending):
                said = "The database lacks migration %s: run `uv run alembic upgrade head`."
                log.warning(said, ", ".join(missing))
        yield
    finally:
        await engine.dispose()


def pending(connection: Connection) -> list[str]:
    """Return the revisions that the database hasn't got yet; none if it has newer ones."""
    heads = MigrationContext.configure(connection).get_current_heads()
    with suppress(CommandError):  # a newer service's, which this one doesn't know
        migrations = ScriptDirectory(str(MIGRATIONS))
        found = migrations.iterate_revisions("heads", heads or "base")
        return [each.revision for each in reversed(list(found))]
    return []


def make_engine() -> AsyncEngine:
    """Return an engine for BROKER_URL, or for FILE if it's unset."""
    if settings.url:
        url = "postgresql+asyncpg://"  # the rest is in BROKER_URL
        return create_async_engine(url, async_creator=connect, pool_pre_ping=True)
    options = {"isolation_level": None, "timeout": 30}
    engine = create_async_engine(f"sqlite+aiosqlite:///{FILE}", connect_args=options)
    # One transaction at a time, so that none fails because another one wrote meanwhile.
    begin = "BEGIN IMMEDIATE"
    event.listen(engine.sync_engine, "begin", lambda each: each.exec_driver_sql(begin))
    return engine


async def connect() -> asyncpg.Connection:
    """Return a connection to BROKER_URL; raise EventNotStored if PostgreSQL is away."""
    try:
        return await asyncpg.connect(dsn(), timeout=settings.timeout)
    except AWAY as error:
        raise EventNotStored(f"{address_of(settings.url)}: {error!r}") from error


def make_pool(size: int, **options: Any) -> Any:
    """Return a pool of up to `size` connections to BROKER_URL; it makes one when it's needed."""
    options |= {"timeout": settings.timeout, "command_timeout": settings.timeout}
    options["reset"] = lambda connection: asyncio.sleep(0)  # a reset is a round trip
    return asyncpg.create_pool(dsn(), min_size=0, max_size=size, **options)


def dsn() -> str:
    """Return BROKER_URL as asyncpg takes it; raise BrokerUnavailable if it isn't libpq's."""
    address_of(settings.url)
    parts = urlsplit(settings.url)
    known = [each for each in parse_qsl(parts.query) if not each[0].startswith(LIBPQ_ONLY)]
    return parts._replace(query=urlencode(known)).geturl()


@asynccontextmanager
async def transaction() -> AsyncIterator[AsyncSession]:
    """Open a session, and commit what's stored and emitted in the block, or nothing if it raises.

    Raises EventNotStored if PostgreSQL goes away meanwhile. SQLite has one transaction at a time,
    so there, a block inside another one joins its transaction.
    """
    outer = current.get()
    if outer and outer.info["open"] and not settings.url:
        async with outer.begin_nested():
            yield outer
        return
    async with sessions(info={"open": True, "lock": asyncio.Lock()}) as session:
        token = current.set(session)
        try:
            yield session
            session.info["open"] = False  # a task that outlives the block emits on its own
            await session.commit()
        except DBAPIError as error:
            if settings.url and error.connection_invalidated:
                raise EventNotStored(f"the database is away: {error.orig!r}") from error
            raise
        finally:
            session.info["open"] = False
            current.reset(token)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with transaction() as session:
        yield session


# Its transaction ends before the response is sent.
SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
