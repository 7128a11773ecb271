"""The adapter for NATS: JetStream keeps each event until all consumers have acknowledged it.

Stream SERVICE has a subject for each event, such as SERVICE.OrderPlaced, and a durable consumer for
each listener. Stream SERVICE-dead-letters has a subject for each listener.
"""

import asyncio
import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from nats.aio.client import Client
from nats.errors import Error
from nats.js.errors import BadRequestError, NotFoundError
from pydantic_core import from_json

from app.messaging import delivery
from app.messaging.cloudevents import CONTENT_TYPE
from app.messaging.delivery import Backlog, DeadLetter, EventNotStored, Subscription, safe
from app.messaging.settings import SERVICE, BrokerUnavailable, address_of, settings

DEAD_LETTERS = f"{SERVICE}-dead-letters"
AWAY = (Error, OSError, TimeoutError)


class Broker:
    max_bytes = property(lambda self: self.client.max_payload)

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self.address, self.subscriptions = address_of(settings.url), subscriptions
        self.client, self.running = Client(), True
        self.jetstream = self.client.jetstream(timeout=settings.timeout)

    async def connect(self) -> None:
        async def ignore(error: Exception) -> None: ...  # else nats-py logs its stack

        options: Any = {"max_reconnect_attempts": -1, "reconnect_time_wait": 1, "error_cb": ignore}
        if login := re.search("//([^/@]*)@", settings.url):  # for each server of a cluster
            user, colon, password = map(unquote, login[1].partition(":"))
            options |= {"user": user, "password": password} if colon else {"token": user}
        try:
            async with asyncio.timeout(settings.timeout):
                await self.client.connect(self.address.split(","), **options)
                version = self.client.connected_server_version
                if (version.major, version.minor) < (2, 15):  # which loses events when it's killed
                    raise BrokerUnavailable(f"{self.address} is NATS {version}: use 2.15 or newer.")
                await self._declare(self.subscriptions)
        except AWAY as error:
            said = f"No NATS with JetStream at {self.address} ({self.client.last_error or error!r})"
            raise BrokerUnavailable(f"{said}: start it, or correct BROKER_URL.") from None

    async def _declare(self, subscriptions: list[Subscription]) -> None:
        for name, keep_for in ((SERVICE, "interest"), (DEAD_LETTERS, "limits")):
            config: Any = {"subjects": [f"{name}.>"], "retention": keep_for}
            with suppress(BadRequestError):  # it exists, and an operator has changed it
                await self.jetstream.add_stream(name=name, **config)
        for each in subscriptions:
            config = {"durable_name": _durable(each), "filter_subjects": _subjects(each)}
            config |= {"deliver_policy": "new", "ack_wait": settings.lease}  # later ones
            await self.jetstream.add_consumer(SERVICE, **config)

    async def consume(self) -> None:
        many = self.subscriptions * settings.concurrency
        self.tasks = [asyncio.create_task(self._serve(each)) for each in many]

    async def finish(self) -> None:
        self.running = False
        await asyncio.gather(*self.tasks)
        with suppress(*AWAY):
            await self.client.flush(1)  # the last acknowledgements

    async def close(self) -> None:
        with suppress(*AWAY, AssertionError):  # it may not have begun to connect
            await self.client.close()

    async def publish(self, event_type: str, event_id: str, document: bytes, key: str) -> None:
        await self._publish(f"{SERVICE}.{safe(event_type)}", document)

    async def _publish(self, subject: str, document: bytes, letter: str = "") -> None:
        headers = {"content-type": CONTENT_TYPE} | ({"dead-letter": letter} if letter else {})
        await self.ping(ask=False)  # else it would wait in a buffer of this process
        try:
            await self.jetstream.publish(subject, document, headers=headers)
        except AWAY as error:
            raise EventNotStored(f"{self.address}: {error!r}") from error

    async def ping(self, ask: bool = True) -> None:
        if not self.client.is_connected:
            raise EventNotStored(f"{self.address} is away")
        if ask:
            await self.jetstream.stream_info(SERVICE)

    async def _serve(self, subscription: Subscription) -> None:
        pull = await self.jetstream.pull_subscribe_bind(_durable(subscription), SERVICE)
        while self.running:
            try:
                with suppress(TimeoutError):  # there's no event
                    [message] = await pull.fetch(1, timeout=1)
                    await self._handle(subscription, message)
            except Exception as error:  # whatever it is, a listener must go on
                delivery.log.warning("%s waits for NATS: %r", subscription.name, error)
                await asyncio.sleep(1)
                with suppress(*AWAY):  # an operator may have deleted them
                    await self._declare(self.subscriptions)

    async def _handle(self, subscription: Subscription, message: Any) -> None:
        """Attempt it; what isn't acknowledged comes again after the lease."""
        number, renew = message.metadata.num_delivered, message.in_progress
        outcome = await delivery.attempt(subscription, message.data, number, renew)
        if isinstance(outcome, DeadLetter):
            await self._declare([])  # an operator may have deleted the stream
            subject = f"{DEAD_LETTERS}.{safe(subscription.name)}"
            await self._publish(subject, message.data, outcome.model_dump_json(ensure_ascii=True))
        await (message.nak(delay=outcome) if isinstance(outcome, float) else message.ack())

    async def backlog(self, subscription: Subscription) -> Backlog:
        found = Backlog()
        with suppress(NotFoundError):  # no instance has served it yet
            info = await self.jetstream.consumer_info(SERVICE, _durable(subscription))
            found.waiting, found.in_hand = info.num_pending or 0, info.num_ack_pending or 0
            first = info.ack_floor.stream_seq + 1 if info.ack_floor else 1
            for subject in _subjects(subscription) if found.waiting or found.in_hand else ():
                with suppress(NotFoundError):  # there's no event, or no replayed one
                    oldest = await self.jetstream.get_msg(SERVICE, first, subject, next=True)
                    age = (datetime.now(UTC) - (oldest.time or datetime.now(UTC))).total_seconds()
                    found.oldest = max(int(age), found.oldest or 0)
        return found

    async def dead_letters(self) -> list[tuple[int, DeadLetter]]:
        found, place, get = [], 0, self.jetstream.get_msg
        with suppress(NotFoundError):  # there are no more
            while True:
                stored: Any = await get(DEAD_LETTERS, place + 1, f"{DEAD_LETTERS}.>", next=True)
                place, header = stored.seq, from_json(stored.headers["dead-letter"])
                found.append((place, DeadLetter(**header, document=stored.data or b"")))
        return found

    async def replay(self, place: int, letter: DeadLetter) -> None:
        [to] = [each for each in delivery.subscriptions() if each.name == letter.listener]
        try:  # without a consumer, the stream keeps no event
            await self.jetstream.consumer_info(SERVICE, _durable(to))
        except NotFoundError:  # an operator has deleted it
            await self._declare([to])
        await self._publish(_subjects(to)[1], letter.document)
        await self.jetstream.delete_msg(DEAD_LETTERS, place)


def _durable(subscription: Subscription) -> str:
    return safe(subscription.name).replace(".", "-")  # NATS allows no dots


def _subjects(subscription: Subscription) -> list[str]:
    return [f"{SERVICE}.{safe(subscription.type)}", f"{SERVICE}.replay.{safe(subscription.name)}"]
