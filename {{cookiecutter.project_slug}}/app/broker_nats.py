"""The seam to NATS: JetStream keeps each event until every listener's consumer has acknowledged it.

Places, with SERVICE for the name of this service:

- stream SERVICE-OrderPlaced, subject SERVICE.OrderPlaced: the events, on disk;
- a durable consumer on it for each listener, OrderPlaced-app-handlers-orders-send_receipt;
- stream SERVICE-letters: the dead letters.

`_trim` takes out of a stream what all its consumers have had. With nats-server 2.9 NATS's own ways to
do that left events unhandled: retention by interest when the server was killed
(test_the_engine_killed_and_started_again_under_load), and a purge by subject what a killed instance
had in hand (test_kill_9_in_the_middle_of_10000_events). Hence a stream for each class of event.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import nats
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.message import NatsMessage
from nats.aio.client import Client
from nats.errors import Error
from nats.js import api
from nats.js.errors import NotFoundError

from app import delivery
from app.cloudevents import CONTENT_TYPE, SERVICE, document_of
from app.delivery import EngineUnusable, EventNotStored, Letter, Subscription

DEFAULT_URL = "nats://localhost:4222"
LETTERS = f"{SERVICE}-letters"
TO = "Listener"  # the header of a copy that is for one listener only
STORE_TIMEOUT = 5.0  # seconds
TRIM_EVERY = 5.0  # seconds

log = logging.getLogger(__name__)


class Engine:
    """Keeps events in NATS and hands them to the listeners of `subscriptions`."""

    def __init__(self, url: str, subscriptions: list[Subscription]) -> None:
        self.url = url
        self.address = delivery.address_of(url, DEFAULT_URL)
        self.subscriptions = subscriptions
        self.in_hand: set[NatsMessage] = set()
        self.chores: list[asyncio.Task[None]] = []
        self.broker = NatsBroker(
            url,
            max_reconnect_attempts=-1,  # for ever
            reconnect_time_wait=1,
            graceful_timeout=math.inf,  # what is in hand is finished, however long it takes
            apply_types=False,
            logger=None,
        )

    async def connect(self) -> None:
        try:
            await self._try_once()
            self.client: Client = await self.broker.connect()
            self.jetstream = self.client.jetstream(timeout=STORE_TIMEOUT)
            await self._make(LETTERS, f"{LETTERS}.*")
            for event in delivery.shared_events():
                await self._make(_stream(event.__name__), _subject(event.__name__))
            for subscription in self.subscriptions:
                stream = _stream(subscription.heard)
                await self.jetstream.add_consumer(stream, _consumer(subscription))
        except (Error, OSError, TimeoutError) as error:
            await self.broker.stop()
            raise EngineUnusable(
                f"No NATS with JetStream answers at {self.address} ({type(error).__name__}): "
                "start it, or correct BROKER_URL."
            ) from None

    async def _try_once(self) -> None:
        """Raise the reason if the server is not there; `broker.connect` would wait for ever."""
        reasons: list[Exception] = []

        async def keep(reason: Exception) -> None:
            reasons.append(reason)

        once: dict[str, Any] = {"max_reconnect_attempts": 1, "reconnect_time_wait": 0}
        try:
            await (await nats.connect(self.url, connect_timeout=3, error_cb=keep, **once)).close()
        except (Error, OSError) as error:
            raise reasons[-1] if reasons else error from None

    async def _make(self, stream: str, subject: str) -> None:
        try:
            await self.jetstream.stream_info(stream)  # made before, perhaps changed by its keeper
        except NotFoundError:
            await self.jetstream.add_stream(api.StreamConfig(stream, subjects=[subject]))

    async def consume(self) -> None:
        for subscription in self.subscriptions:
            for _ in range(delivery.AT_ONCE):
                self.broker.subscriber(
                    _subject(subscription.heard),
                    stream=JStream(_stream(subscription.heard), declare=False),
                    durable=_durable(subscription),
                    config=_consumer(subscription),
                    pull_sub=PullSub(timeout=1),
                    ack_policy=AckPolicy.MANUAL,
                    decoder=_as_it_is,
                )(partial(self._handle, subscription))
        await self.broker.start()
        self.chores = [asyncio.create_task(self._renew()), asyncio.create_task(self._trim())]

    async def finish(self) -> None:
        for subscriber in self.broker.subscribers:
            subscriber.running = False  # all stop taking at once; then each is waited for
        stops = (subscriber.stop() for subscriber in self.broker.subscribers)
        await asyncio.gather(*stops, return_exceptions=True)  # it may be away
        for chore in self.chores:
            chore.cancel()

    async def close(self) -> None:
        with suppress(Error, OSError):
            await self.broker.stop()

    async def store(
        self, event_type: str, event_id: str, document: bytes, to: str = "", key: str = ""
    ) -> None:
        headers = {"content-type": CONTENT_TYPE} | ({TO: to} if to else {})
        await self._publish(_subject(event_type), _stream(event_type), document, headers)

    async def _publish(
        self, subject: str, stream: str, body: bytes, headers: dict[str, str]
    ) -> None:
        if not self.client.is_connected:  # else it would wait in a buffer of this process
            raise EventNotStored(f"{self.address} is away")
        try:
            await self.broker.publish(body, subject, headers, stream=stream, timeout=STORE_TIMEOUT)
        except (Error, OSError) as error:
            raise EventNotStored(f"{self.address}: {error}") from error

    async def answers(self) -> bool:
        if not self.client.is_connected:
            return False
        try:
            await self.client.jetstream(timeout=2).stream_info(LETTERS)
        except (Error, OSError):
            return False
        return True

    async def _handle(self, subscription: Subscription, message: NatsMessage) -> None:
        raw = message.raw_message
        if (raw.headers or {}).get(TO, subscription.name) != subscription.name:
            await raw.ack()
            return
        self.in_hand.add(message)
        try:
            tried = raw.metadata.num_delivered - 1
            outcome = await delivery.attempt(subscription, raw.data, tried)
            if outcome is None:
                await raw.ack()
            elif isinstance(outcome, Letter):
                subject = f"{LETTERS}.{subscription.heard}"
                await self._publish(subject, LETTERS, outcome.model_dump_json().encode(), {})
                await raw.ack()
            else:
                await raw.nak(delay=outcome)
        except (Error, OSError, EventNotStored) as error:
            log.warning("%s is delivered again: %s", subscription.name, error)
        finally:
            self.in_hand.discard(message)

    async def _renew(self) -> None:
        """Tell the engine that what is in hand is being worked on, so that nobody else gets it."""
        while True:
            await asyncio.sleep(delivery.LEASE / 3)
            for message in list(self.in_hand):
                with suppress(Error, OSError):
                    await message.raw_message.in_progress()

    async def _trim(self) -> None:
        """Take out of the stream what all its consumers have had."""
        while True:
            await asyncio.sleep(TRIM_EVERY)
            with suppress(Error, OSError):
                for event in delivery.shared_events():
                    await self._trim_one(_stream(event.__name__))

    async def _trim_one(self, stream: str) -> None:
        last = (await self.jetstream.stream_info(stream)).state.last_seq
        consumers: list[api.ConsumerInfo] = []
        while page := await self.jetstream.consumers_info(stream, len(consumers)):
            consumers += page
        had = [each.ack_floor.stream_seq if each.ack_floor else 0 for each in consumers]
        if upto := min(had, default=last):  # "up to 1" would mean all
            await self.jetstream.purge_stream(stream, seq=upto + 1)

    async def letters(self) -> list[tuple[int, Letter]]:
        found = []
        state = (await self.jetstream.stream_info(LETTERS)).state
        for place in range(max(1, state.first_seq), state.last_seq + 1):
            with suppress(NotFoundError):  # taken out
                message = await self.jetstream.get_msg(LETTERS, place)
                found.append((place, Letter.model_validate_json(message.data or b"")))
        return found

    async def discard(self, place: int) -> None:
        await self.jetstream.delete_msg(LETTERS, place)


def describe(
    address: str, events: list[Any], readers: dict[Subscription, Callable[..., Any]]
) -> NatsBroker:
    """Return a broker that is never connected, for FastStream to describe."""
    broker = NatsBroker(address)
    for event in events:
        name = event.__name__
        schema = document_of(event)
        broker.publisher(_subject(name), stream=_stream(name), title=name, schema=schema)
    for subscription, reader in readers.items():
        subject, stream = _subject(subscription.heard), _stream(subscription.heard)
        broker.subscriber(subject, stream=stream, title=subscription.name)(reader)
    return broker


def _stream(event_type: str) -> str:
    return f"{SERVICE}-{event_type}"


def _subject(event_type: str) -> str:
    return f"{SERVICE}.{event_type}"


def _durable(subscription: Subscription) -> str:
    return subscription.name.replace(".", "-")  # NATS allows no dots; no two names become one


def _consumer(subscription: Subscription) -> api.ConsumerConfig:
    return api.ConsumerConfig(
        durable_name=_durable(subscription),
        filter_subject=_subject(subscription.heard),
        deliver_policy=api.DeliverPolicy.NEW,  # a new listener hears what comes after it
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=delivery.LEASE,
        max_deliver=-1,  # NATS would drop it after the last; `attempt` counts instead
    )


async def _as_it_is(message: NatsMessage) -> NatsMessage:
    return message


if __name__ == "__main__":
    from app.letters import main

    main()
