"""The adapter for Redis: a stream for each event class, and on it a group for each listener.

Stream SERVICE:OrderPlaced has the events; what all its groups have handled is trimmed. The group
OrderPlaced.app.handlers.orders.send_receipt has what that listener has in hand or has to attempt
again; an entry that's idle for the lease goes to whoever claims it.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

from pydantic_core import from_json
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from app.messaging import delivery
from app.messaging.delivery import Backlog, DeadLetter, EventNotStored, Subscription, safe
from app.messaging.settings import SERVICE, BrokerUnavailable, address_of, settings

DEAD_LETTERS = f"{SERVICE}:dead-letters"
DOCUMENT, LETTER = b"event", b"dead-letter"  # fields
TO = b"listener"  # a field of a replayed event
ANYONE = "service"  # instances need no names: what a killed one held is idle for the lease
POLL = 1.0  # seconds between two looks for what is due again
TRIM = 5  # seconds between two looks for what can be trimmed, and for groups that are missing
AWAY = (RedisError, OSError, RuntimeError)  # the last is uvloop's, for a connection just closed


class Broker:
    max_bytes = 512 * 2**20

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self.address, self.subscriptions = address_of(settings.url), subscriptions
        self.redis: Any = Redis()
        self.reached: dict[bytes, Any] = {}  # the last entry that each group was given
        self.running = True

    async def connect(self) -> None:
        try:
            # A consumer waits half a second for an event; Redis may take longer to say there's none.
            self.redis = Redis.from_url(settings.url, socket_timeout=settings.timeout + 1)
            self.redis.connection_pool.connection_kwargs["decode_responses"] = False  # as a URL may
            await self._make_groups()
            self.reached = {each.name.encode(): "0" for each in self.subscriptions}
            config = {}
            with suppress(ResponseError):  # a hosted Redis doesn't tell
                config = await self.redis.config_get()
            for name, good in (("appendonly", "yes"), ("maxmemory-policy", "noeviction")):
                if (config.get(name) or good) != good:
                    delivery.log.warning("Redis can lose events: set %s to %s.", name, good)
            self.max_bytes = int(config.get("proto-max-bulk-len") or self.max_bytes)
        except Exception as error:  # redis-py raises anything for a URL that it doesn't understand
            said = f"No Redis at {self.address} ({type(error).__name__})"
            raise BrokerUnavailable(f"{said}: start it, or correct BROKER_URL.") from None

    async def _make_groups(self) -> None:
        """Make the groups that aren't there: a new listener's, or all if Redis came back empty."""
        for each in self.subscriptions:
            start = self.reached.get(each.name.encode(), "$")  # new: what comes from now on
            try:
                await self.redis.xgroup_create(_stream(each.type), each.name, start, mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):  # it's there
                    raise

    async def consume(self) -> None:
        in_hand = self.subscriptions * settings.concurrency
        self.tasks = [asyncio.create_task(self._serve(each)) for each in in_hand]
        self.trimming = asyncio.create_task(self._trim())

    async def finish(self) -> None:
        self.running = False
        self.trimming.cancel()
        await asyncio.gather(*self.tasks)

    async def close(self) -> None:
        await self.redis.aclose()

    async def publish(self, event_type: str, event_id: str, document: bytes, key: str) -> None:
        await self._add(_stream(event_type), {DOCUMENT: document})

    async def _add(self, stream: str, fields: dict[Any, Any]) -> None:
        try:
            async with asyncio.timeout(settings.timeout):
                if not await self.redis.xadd(stream, fields, nomkstream=True):
                    await self._make_groups()  # before the first entry, so that none is missed
                    await self.redis.xadd(stream, fields)
        except AWAY as error:
            raise EventNotStored(f"{self.address}: {error!r}") from error

    async def ping(self) -> None:
        await self.redis.ping()

    async def _serve(self, subscription: Subscription) -> None:
        """Handle one entry after another until `finish`."""
        while self.running:
            try:
                async for entry, fields, number in self._entries(subscription):
                    await self._handle(subscription, entry, fields, number)
            except Exception as error:  # whatever it is, a listener must go on
                delivery.log.warning("%s waits for Redis: %r", subscription.name, error)
                with suppress(*AWAY):  # else an idle connection that broke refuses an event later
                    await self.redis.connection_pool.disconnect(inuse_connections=False)
                await asyncio.sleep(1)

    async def _entries(self, subscription: Subscription) -> AsyncIterator[tuple[Any, Any, int]]:
        """Yield what is due again and what is new, in turn, so that neither waits for the other."""
        stream, group, look_at = _stream(subscription.type), subscription.name, 0.0
        lease = round(settings.lease * 1000)
        while self.running:
            due = []
            if time.monotonic() >= look_at:
                due = await self.redis.xpending_range(stream, group, "-", "+", 1, idle=lease)
                look_at = 0.0 if due else time.monotonic() + POLL
            for each in due:
                id, number = each["message_id"], each["times_delivered"] + 1
                for entry, fields in await self.redis.xclaim(stream, group, ANYONE, lease, [id]):
                    yield entry, fields, number  # unless another instance was faster
            if not self.running:
                return
            new = await self.redis.xreadgroup(group, ANYONE, {stream: ">"}, 1, 1 if due else 500)
            for entry, fields in new[0][1] if new else ():
                yield entry, fields, 1

    async def _handle(self, to: Subscription, entry: bytes, fields: Any, number: int) -> None:
        stream, group = _stream(to.type), to.name
        outcome = None
        if fields.get(TO, group.encode()) == group.encode():
            renew = partial(self._set_idle, stream, group, entry)
            outcome = await delivery.attempt(to, fields.get(DOCUMENT, b""), number, renew)
        if isinstance(outcome, float):  # due once it has been idle for the lease
            return await self._set_idle(stream, group, entry, settings.lease - outcome)
        async with self.redis.pipeline(transaction=True) as pipe:
            if outcome:
                letter = outcome.model_dump_json()
                pipe.xadd(DEAD_LETTERS, {LETTER: letter, DOCUMENT: outcome.document})
            pipe.xack(stream, group, entry)
            await pipe.execute()

    async def _set_idle(self, stream: str, group: str, entry: bytes, seconds: float = 0) -> None:
        idle = round(seconds * 1000)
        await self.redis.xclaim(stream, group, ANYONE, 0, [entry], idle=idle, justid=True)

    async def _trim(self) -> None:
        """Remove from each stream what all its groups have handled."""
        while True:
            with suppress(Exception):  # whatever it is, the next time counts
                await self._make_groups()  # else what they need is trimmed
                now, _ = await self.redis.time()  # another process may make a group from now on
                for each in delivery.event_types():
                    await self._trim_stream(_stream(each.__name__), [(now - 2 * TRIM) * 1000, 0])
            await asyncio.sleep(TRIM)

    async def _trim_stream(self, stream: str, newest: list[int]) -> None:
        needed = [newest]
        for group in await self._groups(stream):
            self.reached[group["name"]] = group["last-delivered-id"]
            pending = await self.redis.xpending(stream, group["name"])
            needed.append(_order(pending["min"] or group["last-delivered-id"]))
        await self.redis.xtrim(stream, minid="-".join(map(str, min(needed))), limit=0)  # no limit

    async def _groups(self, stream: str) -> Any:
        return await self.redis.xinfo_groups(stream) if await self.redis.exists(stream) else []

    async def backlog(self, subscription: Subscription) -> Backlog:
        stream, name = _stream(subscription.type), subscription.name.encode()
        for group in await self._groups(stream):
            if group["name"] == name:
                pending, after = await self.redis.xpending(stream, name), group["last-delivered-id"]
                new = await self.redis.xrange(stream, b"(" + after, count=1)
                waiting = group.get("lag") or 0  # None if Redis lost count in trimming
                first = pending["min"] or (new[0][0] if new else None)
                oldest = int(time.time() - _order(first)[0] / 1000) if first else None
                return Backlog(waiting=waiting, oldest=oldest, in_hand=pending["pending"])
        return Backlog()  # no instance has served it yet

    async def dead_letters(self) -> list[tuple[bytes, DeadLetter]]:
        return [
            (entry, DeadLetter(**from_json(each[LETTER]), document=each[DOCUMENT]))
            for entry, each in await self.redis.xrange(DEAD_LETTERS)
        ]

    async def replay(self, place: bytes, letter: DeadLetter) -> None:
        await self._add(_stream(letter.type), {DOCUMENT: letter.document, TO: letter.listener})
        await self.redis.xdel(DEAD_LETTERS, place)


def _stream(event_type: str) -> str:
    return f"{SERVICE}:{safe(event_type)}"


def _order(entry: bytes) -> list[int]:
    return [int(part) for part in entry.split(b"-")]  # milliseconds, and a number
