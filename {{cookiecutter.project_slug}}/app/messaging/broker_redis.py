"""The seam to Redis: a stream for each class of event, and on it a group for each listener.

Redis must keep its data on disk: appendonly yes. This file uses redis-py itself. FastStream's
subscriber reads a document before it asks a handler; what it cannot read stays in the group for ever
and never becomes a dead letter (test_garbage). With a parser of our own, its two subscribers for a
listener (one for what is new, one to claim) and a lock between them, little of it would be left.

Places, with SERVICE for the name of this service:

- stream SERVICE:OrderPlaced: the events; what all groups have had is trimmed;
- its group OrderPlaced.app.handlers.orders.send_receipt: what that listener has in hand or has to
  try again; an entry that nobody touched for LEASE seconds goes to whoever claims it;
- stream SERVICE:letters: the dead letters.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from faststream.redis import RedisBroker, StreamSub
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app import delivery
from app.cloudevents import SERVICE, document_of
from app.delivery import EngineUnusable, EventNotStored, Letter, Subscription

DEFAULT_URL = "redis://localhost:6379"
LETTERS = f"{SERVICE}:letters"
DOCUMENT, TO = b"event", b"listener"  # fields; TO makes it a copy for one listener only
ANYONE = "service"  # instances need no names of their own: what one holds is told by its idle time
LOOK_EVERY = 1.0  # seconds between two looks for what is due again
TRIM_EVERY = 5.0  # seconds
AWAY = (RedisError, OSError, RuntimeError)  # the last is uvloop's, for a connection just closed

log = logging.getLogger(__name__)


class Engine:
    """Keeps events in Redis and hands them to the listeners of `subscriptions`."""

    def __init__(self, url: str, subscriptions: list[Subscription]) -> None:
        self.address = delivery.address_of(url, DEFAULT_URL)
        self.subscriptions = subscriptions
        # Any: redis-py's types are unions of what all its versions and settings may answer
        self.redis: Any = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=3)
        self.in_hand: set[tuple[Subscription, bytes]] = set()
        self.running = False
        self.tasks: list[asyncio.Task[None]] = []
        self.chores: list[asyncio.Task[None]] = []

    async def connect(self) -> None:
        try:
            for subscription in self.subscriptions:
                await self._make(subscription)
            kept = await self._setting("appendonly"), await self._setting("maxmemory-policy")
        except AWAY as error:
            await self.close()
            raise EngineUnusable(
                f"No Redis answers at {self.address} ({type(error).__name__}): "
                "start it, or correct BROKER_URL."
            ) from None
        if kept[0] == "no":
            log.warning("Redis loses events when it restarts: set appendonly to yes.")
        if kept[1] not in ("", "noeviction"):
            log.warning("Redis drops events when it is full: set maxmemory-policy to noeviction.")

    async def _make(self, subscription: Subscription) -> None:
        try:  # a new listener hears what comes after it
            await self.redis.xgroup_create(
                _stream(subscription), subscription.name, id="$", mkstream=True
            )
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # it is there
                raise

    async def _setting(self, name: str) -> str:
        try:
            return str((await self.redis.config_get(name)).get(name, ""))
        except ResponseError:  # a hosted Redis does not say
            return ""

    async def consume(self) -> None:
        self.running = True
        for subscription in self.subscriptions:
            for _ in range(delivery.AT_ONCE):
                self.tasks.append(asyncio.create_task(self._serve(subscription)))
        self.chores = [asyncio.create_task(self._renew()), asyncio.create_task(self._trim())]

    async def finish(self) -> None:
        self.running = False
        await asyncio.gather(*self.tasks)
        for chore in self.chores:
            chore.cancel()

    async def close(self) -> None:
        await self.redis.aclose()

    async def store(
        self, event_type: str, event_id: str, document: bytes, to: str = "", key: str = ""
    ) -> None:
        fields: dict[Any, Any] = {DOCUMENT: document} | ({TO: to} if to else {})
        try:
            await self.redis.xadd(f"{SERVICE}:{event_type}", fields)
        except AWAY as error:
            raise EventNotStored(f"{self.address}: {type(error).__name__}") from error

    async def answers(self) -> bool:
        try:
            async with asyncio.timeout(2):
                return bool(await self.redis.ping())
        except AWAY:
            return False

    async def _serve(self, subscription: Subscription) -> None:
        """Handle one entry after the other until `finish`."""
        while self.running:
            try:
                async for entry, fields, tried in self._entries(subscription):
                    await self._handle(subscription, entry, fields, tried)
            except AWAY as error:
                log.warning("%s waits for Redis: %s", subscription.name, type(error).__name__)
                await asyncio.sleep(1)
                with suppress(*AWAY):
                    await self._make(subscription)  # if Redis came back empty

    async def _entries(
        self, subscription: Subscription
    ) -> AsyncIterator[tuple[bytes, dict[bytes, bytes], int]]:
        """Yield what is due again and what is new, in turn, so that neither waits for the other."""
        stream, group = _stream(subscription), subscription.name
        loop, look_at = asyncio.get_running_loop(), 0.0
        lease = round(delivery.LEASE * 1000)
        while self.running:
            due = []
            if loop.time() >= look_at:
                due = await self.redis.xpending_range(stream, group, "-", "+", 1, idle=lease)
                look_at = 0.0 if due else loop.time() + LOOK_EVERY
            for each in due:
                entry, tried = each["message_id"], each["times_delivered"]
                taken = await self.redis.xclaim(stream, group, ANYONE, lease, [entry])
                for entry, fields in taken:  # none, if another instance was faster
                    yield entry, fields, tried
            if not self.running:
                return
            new = await self.redis.xreadgroup(
                group, ANYONE, {stream: ">"}, count=1, block=1 if due else 500
            )
            for _, entries in new:
                for entry, fields in entries:
                    yield entry, fields, 0

    async def _handle(
        self, subscription: Subscription, entry: bytes, fields: dict[bytes, bytes], tried: int
    ) -> None:
        stream, group = _stream(subscription), subscription.name
        if fields.get(TO, group.encode()) != group.encode():
            await self.redis.xack(stream, group, entry)
            return
        self.in_hand.add((subscription, entry))
        try:
            outcome = await delivery.attempt(subscription, fields.get(DOCUMENT, b""), tried)
        finally:
            self.in_hand.discard((subscription, entry))
        if outcome is None:
            await self.redis.xack(stream, group, entry)
        elif isinstance(outcome, Letter):
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.xadd(LETTERS, {DOCUMENT: outcome.model_dump_json()})
                pipe.xack(stream, group, entry)
                await pipe.execute()
        else:  # as if it had been idle for so long already that it is due after the wait
            await self._idle(subscription, entry, round((delivery.LEASE - outcome) * 1000))

    async def _idle(self, subscription: Subscription, entry: bytes, idle: int) -> None:
        place = _stream(subscription), subscription.name, ANYONE
        await self.redis.xclaim(*place, 0, [entry], idle=idle, justid=True)

    async def _renew(self) -> None:
        """Tell Redis that what is in hand is being worked on, so that nobody else claims it."""
        while True:
            await asyncio.sleep(delivery.LEASE / 3)
            with suppress(*AWAY):
                for subscription, entry in list(self.in_hand):
                    await self._idle(subscription, entry, 0)

    async def _trim(self) -> None:
        """Take out of each stream what all its groups have had."""
        while True:
            await asyncio.sleep(TRIM_EVERY)
            with suppress(*AWAY):
                for event in delivery.shared_events():
                    await self._trim_one(f"{SERVICE}:{event.__name__}")

    async def _trim_one(self, stream: str) -> None:
        if not await self.redis.exists(stream):
            return
        needed = []
        for group in await self.redis.xinfo_groups(stream):
            pending = await self.redis.xpending(stream, group["name"])
            needed.append(_order(pending["min"] or group["last-delivered-id"]))
        if needed:
            milliseconds, number = min(needed)
            await self.redis.xtrim(stream, minid=f"{milliseconds}-{number}", approximate=True)
        else:  # nobody hears these events
            await self.redis.xtrim(stream, maxlen=0, approximate=False)

    async def letters(self) -> list[tuple[bytes, Letter]]:
        entries = await self.redis.xrange(LETTERS)
        return [(entry, Letter.model_validate_json(fields[DOCUMENT])) for entry, fields in entries]

    async def discard(self, place: bytes) -> None:
        await self.redis.xdel(LETTERS, place)


def describe(
    address: str, events: list[Any], readers: dict[Subscription, Callable[..., Any]]
) -> RedisBroker:
    """Return a broker that is never connected, for FastStream to describe."""
    broker = RedisBroker(address)
    for event in events:
        stream = f"{SERVICE}:{event.__name__}"
        broker.publisher(stream=stream, title=event.__name__, schema=document_of(event))
    for subscription, reader in readers.items():
        group = StreamSub(_stream(subscription), group=subscription.name, consumer=ANYONE)
        broker.subscriber(stream=group, title=subscription.name)(reader)
    return broker


def _stream(subscription: Subscription) -> str:
    return f"{SERVICE}:{subscription.heard}"


def _order(entry: bytes) -> tuple[int, int]:
    milliseconds, number = entry.split(b"-")
    return int(milliseconds), int(number)


if __name__ == "__main__":
    from app.letters import main

    main()
