"""The adapter for PostgreSQL: a table is the queue, with a row for each listener of an event.

It's in a schema of its own, which queue.sql describes. Other programs reach it by SQL alone.
"""

import asyncio
import logging
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
from sqlalchemy import event, text

from app.database import AWAY, current, dsn
from app.messaging.cloudevents import id_of
from app.messaging.delivery import Backlog, DeadLetter, EventNotStored, Subscription, attempt
from app.messaging.settings import SERVICE, BrokerUnavailable, address_of, settings

SCHEMA = f"mq_{SERVICE.replace('-', '_')}"  # also the channel of NOTIFY
EVENTS, SUBSCRIPTIONS = f"{SCHEMA}.events", f"{SCHEMA}.subscriptions"
NOTIFY = f"SELECT pg_notify('{SCHEMA}', '')"
PUBLISH = f"""INSERT INTO {EVENTS} (listener, document)
SELECT listener, $2 FROM {SUBSCRIPTIONS} WHERE type = $1"""
TAKE = f"""WITH handled AS (DELETE FROM {EVENTS} WHERE id = $3), next AS (
    SELECT id, due FROM {EVENTS} WHERE listener = $1 AND due BETWEEN $4 AND now()
    ORDER BY due, id LIMIT 1 FOR UPDATE SKIP LOCKED
) UPDATE {EVENTS} e SET attempts = attempts + 1, due = now() + $2
FROM next WHERE e.id = next.id RETURNING next.due, e.id, attempts, document"""
# Only while it's ours: an instance that took the row over has counted one more attempt.
POSTPONE = f"UPDATE {EVENTS} SET due = now() + $3 WHERE id = $1 AND attempts = $2"
GIVE_UP = f"""UPDATE {EVENTS} SET due = NULL, failed = now(), error = $3
WHERE id = $1 AND attempts = $2"""
BACKLOG = f"""SELECT count(*) FILTER (WHERE due <= now()), count(*) FILTER (WHERE due > now()),
    extract(epoch FROM now() - min(stored))::int FROM {EVENTS}
WHERE listener = $1 AND due IS NOT NULL"""
DEAD_LETTERS = f"""SELECT id AS place, listener, split_part(listener, '.', 1) AS type, error,
    least(attempts, $1) AS attempts, failed AS time, document
FROM {EVENTS} WHERE due IS NULL ORDER BY failed"""
REPLAY = f"UPDATE {EVENTS} SET attempts = 0, error = NULL, due = clock_timestamp() WHERE id = $1"
CONSUMER = {
    "synchronous_commit": "off",  # what's forgotten in a crash is delivered again
    "enable_seqscan": "off",  # statistics of a queue are always out of date: there's one plan
    "enable_bitmapscan": "off",
    "enable_sort": "off",
}
LOOK_EVERY = 1.0  # seconds; most events come sooner, by NOTIFY
FIRST = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger(__name__)


class Broker:
    """Keeps events in PostgreSQL and hands them to their listeners."""

    max_bytes = None

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self.address = address_of(settings.url)
        self.subscriptions = subscriptions
        self.running = True
        self.news: list[asyncio.Event] = []  # one for each consumer
        self.stored = asyncio.Event()
        self.consumers: list[asyncio.Task[None]] = []
        self.helpers: list[asyncio.Task[None]] = []
        limits = {"timeout": settings.timeout, "command_timeout": settings.timeout}
        pool = partial(asyncpg.create_pool, dsn(), min_size=0, reset=_as_it_is, **limits)
        self.pool, self.queue = pool(max_size=10), pool(max_size=5, server_settings=CONSUMER)

    async def connect(self) -> None:
        try:
            async with asyncio.timeout(settings.timeout):
                await asyncio.gather(self.pool, self.queue)
                if not await self.pool.fetchval("SELECT to_regclass($1)", EVENTS):
                    sql = Path(__file__).with_name("queue.sql")
                    await self.pool.execute(sql.read_text(encoding="utf-8"))
                subscribe = f"INSERT INTO {SUBSCRIPTIONS} VALUES ($1, $2) ON CONFLICT DO NOTHING"
                names = [(each.name, each.type) for each in self.subscriptions]
                await self.pool.executemany(subscribe, names)
        except AWAY as error:
            if isinstance(error, asyncpg.PostgresError):
                said = f"PostgreSQL at {self.address} says: {error}. Correct BROKER_URL, or that."
                raise BrokerUnavailable(said) from None
            said = f"No PostgreSQL answers at {self.address} ({type(error).__name__})"
            raise BrokerUnavailable(f"{said}: start it, or correct BROKER_URL.") from None
        self.helpers.append(asyncio.create_task(self._notify()))

    async def close(self) -> None:
        for each in self.helpers:
            each.cancel()
        with suppress(*AWAY):
            await asyncio.wait_for(asyncio.gather(self.pool.close(), self.queue.close()), 2)

    async def publish(self, event_type: str, event_id: str, document: bytes, key: str) -> None:
        if (session := current.get()) and session.info["open"]:
            sql = text(PUBLISH.replace("$1", ":type").replace("$2", ":document"))
            async with session.info["lock"]:  # tasks of asyncio.gather share the transaction
                await session.execute(sql, {"type": event_type, "document": document})
            event.listen(session.sync_session, "after_commit", self._published, once=True)
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
        """Wake other processes: one NOTIFY at a time, for all that was stored since the last.

        In the transactions that store events, it would make PostgreSQL commit them one by one.
        """
        while await self.stored.wait():
            self.stored.clear()
            with suppress(*AWAY):
                await self.queue.execute(NOTIFY)

    async def _listen(self) -> None:
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

    async def ping(self) -> None:
        await self.pool.execute("SELECT 1")

    async def consume(self) -> None:
        self.helpers.append(asyncio.create_task(self._listen()))
        for each in self.subscriptions * settings.concurrency:
            self.news.append(asyncio.Event())
            self.consumers.append(asyncio.create_task(self._consume(each, self.news[-1])))

    async def finish(self) -> None:
        self.running = False
        self._wake()
        await asyncio.gather(*self.consumers)

    async def _consume(self, subscription: Subscription, news: asyncio.Event) -> None:
        lease, handled = timedelta(seconds=settings.lease), None
        since, look = FIRST, 0.0
        while self.running:
            news.clear()
            if look < time.monotonic():  # for what's due again, or was committed late
                since, look = FIRST, time.monotonic() + LOOK_EVERY
            try:
                row = await self.queue.fetchrow(TAKE, subscription.name, lease, handled, since)
                handled = None
                if row:  # the next search begins there: it needn't skip what's been handled
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
        with suppress(*AWAY):  # else it's delivered again
            await self.queue.execute(f"DELETE FROM {EVENTS} WHERE id = $1", handled)

    async def _handle(
        self, subscription: Subscription, id: int, number: int, document: bytes
    ) -> int | None:
        """Let the listener handle the event; return `id` if its row can be deleted."""

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
        waiting, in_hand, oldest = await self.pool.fetchrow(BACKLOG, subscription.name)
        return Backlog(waiting=waiting, in_hand=in_hand, oldest=oldest)

    async def dead_letters(self) -> list[tuple[int, DeadLetter]]:
        rows = await self.pool.fetch(DEAD_LETTERS, settings.max_attempts)
        return [(row["place"], DeadLetter(id=id_of(row["document"]), **row)) for row in rows]

    async def replay(self, place: int, letter: DeadLetter) -> None:
        await self.pool.execute(REPLAY, place)
        await self.pool.execute(NOTIFY)


async def _as_it_is(connection: asyncpg.Connection) -> None:
    """Put a connection back into the pool without a reset, which would be a round trip."""
