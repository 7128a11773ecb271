"""The adapter for PostgreSQL: a table (queue.sql) has a row for each listener of an event."""

import asyncio
from contextlib import suppress
from functools import partial
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
from pydantic_core import from_json
from sqlalchemy import event

from app.database import AWAY, current, make_pool
from app.messaging.delivery import Backlog, DeadLetter, EventNotStored, Subscription, attempt, log
from app.messaging.settings import SERVICE, BrokerUnavailable, address_of, settings

SCHEMA = f"mq_{SERVICE.replace('-', '_')}"  # also the channel of NOTIFY
EVENTS, SUBSCRIPTIONS = f"{SCHEMA}.events", f"{SCHEMA}.subscriptions"
SUBSCRIBE = f"INSERT INTO {SUBSCRIPTIONS} (type, listener) VALUES ($1, $2) ON CONFLICT DO NOTHING"
PUBLISH = f"""INSERT INTO {EVENTS} (listener, document)
SELECT listener, $2 FROM {SUBSCRIPTIONS} WHERE type = $1"""
TAKE = f"""WITH handled AS (DELETE FROM {EVENTS} WHERE id = $3), next AS (
    SELECT id, due FROM {EVENTS}
    WHERE listener = $1 AND due BETWEEN coalesce($4::timestamptz, '-infinity') AND now()
    ORDER BY due, id LIMIT 1 FOR UPDATE SKIP LOCKED
) UPDATE {EVENTS} e SET attempts = attempts + 1, due = now() + make_interval(secs => $2)
FROM next WHERE e.id = next.id RETURNING next.due, e.id, attempts, document"""
# Only while it's ours: an instance that takes the row over counts one more attempt.
POSTPONE = f"""UPDATE {EVENTS} SET due = now() + make_interval(secs => $3), dead_letter = $4
WHERE id = $1 AND attempts = $2"""
BACKLOG = f"""SELECT extract(epoch FROM now() - min(stored))::int AS oldest,
    count(*) FILTER (WHERE due <= now()) AS waiting, count(*) FILTER (WHERE due > now()) AS in_hand
FROM {EVENTS} WHERE listener = $1 AND due IS NOT NULL"""
DEAD_LETTERS = f"SELECT id, dead_letter, document FROM {EVENTS} WHERE due IS NULL ORDER BY id"
REPLAY = f"UPDATE {EVENTS} SET attempts = 0, dead_letter = NULL, due = now() WHERE id = $1"
# What a crash loses is delivered again; a queue's statistics are out of date, so there's one plan.
CONSUMER = {"synchronous_commit": "off", "enable_seqscan": "off", "enable_sort": "off"}
LOOK_EVERY = 1.0  # seconds; most events come sooner, by NOTIFY


class Broker:
    def __init__(self, subscriptions: list[Subscription]) -> None:
        self.address, self.subscriptions = address_of(settings.url), subscriptions
        self.stored, self.news, self.running = asyncio.Event(), asyncio.Event(), True
        self.pool, self.queue = make_pool(10), make_pool(6, server_settings=CONSUMER)

    async def connect(self) -> None:
        await asyncio.gather(self.pool, self.queue)  # which connects nowhere yet
        try:
            if not await self.pool.fetchval("SELECT to_regclass($1)", EVENTS):
                sql = Path(__file__).with_name("queue.sql").read_text(encoding="utf-8")
                with suppress(asyncpg.DuplicateSchemaError, asyncpg.UniqueViolationError):
                    await self.pool.execute(sql)  # unless another process was faster
            for each in self.subscriptions:
                await self.pool.execute(SUBSCRIBE, each.type, each.name)
        except AWAY as error:
            said = f"{self.address} can't be used ({str(error) or type(error).__name__})"
            raise BrokerUnavailable(f"{said}: start it, or correct BROKER_URL or grants.") from None
        self.notifying = asyncio.create_task(self._notify())

    async def close(self) -> None:
        self.pool.terminate()
        self.queue.terminate()
        with suppress(AttributeError):  # it couldn't connect
            self.notifying.cancel()

    async def publish(self, event_type: str, event_id: str, document: bytes, key: str) -> None:
        if (session := current.get()) and session.info["open"]:
            async with session.info["lock"]:  # tasks of asyncio.gather share the transaction
                connection = await session.connection()
                await connection.exec_driver_sql(PUBLISH, (event_type, document))
            event.listen(session.sync_session, "after_commit", lambda _: self.stored.set())
            return
        try:
            await self.pool.execute(PUBLISH, event_type, document)
        except AWAY as error:
            raise EventNotStored(f"{self.address}: {error!r}") from error
        self.stored.set()

    async def _notify(self) -> None:
        """Wake all processes' consumers. In `publish`, NOTIFY would let commits wait in a queue."""
        while True:
            with suppress(*AWAY):
                async with self.queue.acquire() as connection:
                    connection.add_termination_listener(lambda _: self.stored.set())
                    await connection.add_listener(SCHEMA, self._wake)
                    while await self.stored.wait():
                        self.stored.clear()
                        await connection.execute(f"NOTIFY {SCHEMA}")
            await asyncio.sleep(LOOK_EVERY)

    def _wake(self, *_: object) -> None:
        self.news.set()
        self.news = asyncio.Event()

    async def ping(self) -> None:
        await self.pool.execute("SELECT 1")

    async def consume(self) -> None:
        self.tasks = asyncio.gather(*map(self._consume, self.subscriptions * settings.concurrency))

    async def finish(self) -> None:
        self.running = False
        self._wake()
        await self.tasks

    async def _consume(self, to: Subscription) -> None:
        lease, handled, since = settings.lease, None, None
        while self.running:
            news = self.news
            try:
                row, handled = await self.queue.fetchrow(TAKE, to.name, lease, handled, since), None
                if row:
                    due, id, number, sent = row
                    postpone = partial(self.queue.execute, POSTPONE, id, number)
                    outcome = await attempt(to, sent, number, partial(postpone, lease, None))
                    if outcome is None:
                        handled = id  # the next query deletes it, and starts after it
                    elif isinstance(outcome, DeadLetter):
                        await postpone(None, outcome.model_dump_json(ensure_ascii=True))
                    else:
                        await postpone(outcome, None)
                    since = due if id % 1000 else None  # sometimes from the start: late commits
                elif since:
                    since = None  # look once more, from the start
                else:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(news.wait(), LOOK_EVERY)
            except Exception as error:  # whatever it is, a listener must go on
                log.warning("%s waits for PostgreSQL: %r", to.name, error)
                await asyncio.sleep(LOOK_EVERY)
        with suppress(*AWAY):  # else it's delivered again
            await self.queue.execute(f"DELETE FROM {EVENTS} WHERE id = $1", handled)

    async def backlog(self, subscription: Subscription) -> Backlog:
        return Backlog(**await self.pool.fetchrow(BACKLOG, subscription.name))

    async def dead_letters(self) -> list[tuple[int, DeadLetter]]:
        rows = await self.pool.fetch(DEAD_LETTERS)
        return [(id, DeadLetter(**from_json(said), document=sent)) for id, said, sent in rows]

    async def replay(self, place: int, letter: DeadLetter) -> None:
        await self.pool.execute(REPLAY, place)
