"""The adapter for PostgreSQL: a table is the queue, with a row for each listener of an event.

In the schema mq_SERVICE, with underscores for the hyphens in SERVICE, the name of this service:

- table events: a row is deleted once its listener has handled it. One that's being handled, or has
  to wait for its next attempt, is due later; a dead letter is never due, and says why in `error`;
- table subscriptions: which listener wants which type of event. Any program may add its own;
- function publish(type, document): how a program that speaks SQL sends an event.
"""

import asyncio
import logging
import time
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import event, text

from app.messaging.cloudevents import id_of
from app.messaging.delivery import Backlog, DeadLetter, EventNotStored, Subscription, attempt
from app.messaging.settings import SERVICE, BrokerUnavailable, address_of, settings

SCHEMA = f"mq_{SERVICE.replace('-', '_')}"  # also the channel of NOTIFY
LOOK_EVERY = 1.0  # seconds; most events come sooner, by NOTIFY
AWAY = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # when a connection breaks at a bad moment
    OSError,
    TimeoutError,
)
# Parameters that libpq knows and asyncpg doesn't; it would send them to the server.
LIBPQ_ONLY = ("channel_binding", "connect_timeout", "gssencmode", "keepalives", "tcp_user_timeout")

CREATE = f"""
SELECT pg_advisory_xact_lock(hashtext('{SCHEMA}'));
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.subscriptions (
    listener text PRIMARY KEY,
    type text NOT NULL
);
CREATE TABLE IF NOT EXISTS {SCHEMA}.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    listener text NOT NULL,
    document bytea NOT NULL,  -- a CloudEvent: JSON, in UTF-8
    stored timestamptz NOT NULL DEFAULT clock_timestamp(),
    due timestamptz DEFAULT clock_timestamp(),  -- NULL: a dead letter
    attempts int NOT NULL DEFAULT 0,
    error text,
    failed timestamptz
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX IF NOT EXISTS events_due ON {SCHEMA}.events (listener, due, id);
CREATE OR REPLACE FUNCTION {SCHEMA}.publish(type text, document text) RETURNS void LANGUAGE sql AS $$
    INSERT INTO {SCHEMA}.events (listener, document)
        SELECT s.listener, convert_to($2, 'UTF8') FROM {SCHEMA}.subscriptions s WHERE s.type = $1;
    SELECT pg_notify('{SCHEMA}', '');
$$;
"""
SUBSCRIBE = f"INSERT INTO {SCHEMA}.subscriptions VALUES ($1, $2) ON CONFLICT DO NOTHING"
PUBLISH = f"""
INSERT INTO {SCHEMA}.events (listener, document)
    SELECT listener, $2 FROM {SCHEMA}.subscriptions WHERE type = $1
"""
NOTIFY = f"SELECT pg_notify('{SCHEMA}', '')"
TAKE = f"""
WITH handled AS (DELETE FROM {SCHEMA}.events WHERE id = $3), next AS (
    SELECT id, due FROM {SCHEMA}.events WHERE listener = $1 AND due BETWEEN $4 AND now()
    ORDER BY due, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE {SCHEMA}.events e SET attempts = attempts + 1, due = now() + $2
FROM next WHERE e.id = next.id RETURNING next.due, e.id, attempts, document
"""
FIRST = datetime(1970, 1, 1, tzinfo=UTC)
HANDLED = f"DELETE FROM {SCHEMA}.events WHERE id = $1"
# Only while it's ours: another instance that took the row over has counted one more attempt.
POSTPONE = f"UPDATE {SCHEMA}.events SET due = now() + $3 WHERE id = $1 AND attempts = $2"
GIVE_UP = f"""
UPDATE {SCHEMA}.events SET due = NULL, error = $3, failed = now() WHERE id = $1 AND attempts = $2
"""
BACKLOG = f"""
SELECT count(*) FILTER (WHERE due <= now()), count(*) FILTER (WHERE due > now()),
    extract(epoch FROM now() - min(stored))::float
FROM {SCHEMA}.events WHERE listener = $1 AND due IS NOT NULL
"""
DEAD_LETTERS = f"SELECT * FROM {SCHEMA}.events WHERE due IS NULL ORDER BY failed, id"
REPLAY = f"""
UPDATE {SCHEMA}.events SET attempts = 0, due = clock_timestamp(), error = NULL WHERE id = $1
"""
# What the planner knows of a queue is always out of date, so there's one plan: by the index.
CONSUMER = {
    "synchronous_commit": "off",  # what's forgotten in a crash is delivered again
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
}

# The session whose transaction `emit` joins, while there's one.
current: ContextVar[Any] = ContextVar("session", default=None)
log = logging.getLogger(__name__)


def dsn() -> str:
    """Return BROKER_URL as asyncpg takes it; raise BrokerUnavailable if it's no URL of libpq's."""
    address_of(settings.url)
    parts = urlsplit(settings.url)
    known = [each for each in parse_qsl(parts.query) if not each[0].startswith(LIBPQ_ONLY)]
    return parts._replace(query=urlencode(known)).geturl()


async def connect() -> asyncpg.Connection:
    """Return a new connection for data; raise EventNotStored if PostgreSQL is away."""
    try:
        return await asyncpg.connect(dsn(), timeout=settings.timeout)
    except AWAY as error:
        raise EventNotStored(f"{address_of(settings.url)}: {error!r}") from error


class Broker:
    """Keeps events in PostgreSQL and hands them to their listeners."""

    max_bytes = None

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self.address = address_of(settings.url)
        self.subscriptions = subscriptions
        self.running = True
        self.news: list[asyncio.Event] = []  # one a consumer
        self.consumers: list[asyncio.Task[None]] = []
        self.background: list[asyncio.Task[None]] = []
        self.stored = asyncio.Event()
        limits = {"timeout": settings.timeout, "command_timeout": settings.timeout}
        pool = partial(asyncpg.create_pool, dsn(), min_size=0, reset=_keep, **limits)
        self.pool = pool(max_size=10)
        self.queue = pool(max_size=5, server_settings=CONSUMER)

    async def connect(self) -> None:
        try:
            async with asyncio.timeout(settings.timeout):
                await self.pool
                await self.queue
                if not await self.pool.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.events"):
                    await self.pool.execute(CREATE)
                wanted = [(each.name, each.type) for each in self.subscriptions]
                await self.pool.executemany(SUBSCRIBE, wanted)
        except asyncpg.PostgresError as error:
            raise BrokerUnavailable(
                f"PostgreSQL at {self.address} refuses this service: {error}. "
                "Correct BROKER_URL, or what its user may do."
            ) from None
        except AWAY as error:
            raise BrokerUnavailable(
                f"No PostgreSQL answers at {self.address} ({type(error).__name__}): "
                "start it, or correct BROKER_URL."
            ) from None
        self.background = [asyncio.create_task(self._notify())]

    async def close(self) -> None:
        for each in self.background:
            each.cancel()
        for pool in (self.pool, self.queue):
            with suppress(*AWAY):
                async with asyncio.timeout(2):
                    await pool.close()

    async def publish(self, event_type: str, event_id: str, document: bytes, key: str) -> None:
        if (joined := current.get()) and joined.info["open"]:
            sql = PUBLISH.replace("$1", ":type").replace("$2", ":document")
            async with joined.info["lock"]:  # listeners of asyncio.gather share a transaction
                await joined.execute(text(sql), {"type": event_type, "document": document})
            if not event.contains(joined.sync_session, "after_commit", self._published):
                event.listen(joined.sync_session, "after_commit", self._published)
            return
        try:
            await self.pool.execute(PUBLISH, event_type, document)
        except AWAY as error:
            raise EventNotStored(f"{self.address}: {error!r}") from error
        self._published()

    def _published(self, *_: object) -> None:
        self.stored.set()
        self._wake()

    def _wake(self, *_: object) -> None:
        for each in self.news:
            each.set()

    async def _notify(self) -> None:
        """Tell other processes what was stored: one NOTIFY at a time, each for all since the last.

        In the events' own transactions NOTIFY would make PostgreSQL commit them one by one.
        """
        while True:
            await self.stored.wait()
            self.stored.clear()
            with suppress(*AWAY):
                await self.queue.execute(NOTIFY)

    async def ping(self) -> None:
        await self.pool.execute("SELECT 1")

    async def consume(self) -> None:
        self.background.append(asyncio.create_task(self._listen()))
        for each in self.subscriptions:
            for _ in range(settings.concurrency):
                self.news.append(asyncio.Event())
                self.consumers.append(asyncio.create_task(self._consume(each, self.news[-1])))

    async def finish(self) -> None:
        self.running = False
        self._wake()
        await asyncio.gather(*self.consumers)

    async def _listen(self) -> None:
        """Wake the consumers at each NOTIFY of any process."""
        while True:
            with suppress(*AWAY):
                connection = await asyncpg.connect(dsn(), timeout=settings.timeout)
                try:
                    closed = asyncio.Event()
                    connection.add_termination_listener(lambda _, closed=closed: closed.set())
                    await connection.add_listener(SCHEMA, self._wake)
                    await closed.wait()
                finally:
                    connection.terminate()
            await asyncio.sleep(LOOK_EVERY)

    async def _consume(self, subscription: Subscription, news: asyncio.Event) -> None:
        lease, handled = timedelta(seconds=settings.lease), None
        since, look = FIRST, 0.0
        while self.running:
            news.clear()
            if look < time.monotonic():  # for what is due again, or was committed late
                since, look = FIRST, time.monotonic() + LOOK_EVERY
            try:
                row = await self.queue.fetchrow(TAKE, subscription.name, lease, handled, since)
                handled = None
                if row:  # the next search begins here: it needn't skip what others have handled
                    since = row[0]
                    handled = await self._handle(subscription, *row[1:])
                elif since > FIRST:
                    look = 0.0
                else:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(news.wait(), LOOK_EVERY)
            except AWAY as error:
                log.warning("%s waits for PostgreSQL: %r", subscription.name, error)
                await asyncio.sleep(LOOK_EVERY)
        with suppress(*AWAY):  # then it's delivered again
            await self.queue.execute(HANDLED, handled)

    async def _handle(
        self, subscription: Subscription, id: int, number: int, document: bytes
    ) -> int | None:
        """Return `id` if the event is handled, so that its row can be deleted."""

        async def postpone(seconds: float = settings.lease) -> None:
            await self.queue.execute(POSTPONE, id, number, timedelta(seconds=seconds))

        outcome = await attempt(subscription, document, number, postpone)
        if outcome is None:
            return id
        if isinstance(outcome, float):
            await postpone(outcome)
        else:
            await self.queue.execute(GIVE_UP, id, number, outcome.error)
        return None

    async def backlog(self, subscription: Subscription) -> Backlog:
        found = await self.pool.fetchrow(BACKLOG, subscription.name)
        return Backlog(waiting=found[0], in_hand=found[1], oldest=found[2])

    async def dead_letters(self) -> list[tuple[int, DeadLetter]]:
        return [
            (
                row["id"],
                DeadLetter(
                    id=id_of(row["document"]),
                    listener=row["listener"],
                    type=row["listener"].partition(".")[0],
                    error=row["error"],
                    attempts=min(row["attempts"], settings.max_attempts),
                    time=row["failed"],
                    document=row["document"],
                ),
            )
            for row in await self.pool.fetch(DEAD_LETTERS)
        ]

    async def replay(self, place: int, letter: DeadLetter) -> None:
        await self.pool.execute(REPLAY, place)
        await self.queue.execute(NOTIFY)


async def _keep(connection: asyncpg.Connection) -> None:
    """Leave a connection as it is when it goes back to the pool, which saves a round trip."""
