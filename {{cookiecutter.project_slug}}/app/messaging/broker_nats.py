"""The adapter for NATS: a JetStream stream keeps each event until every consumer acknowledged it.

At NATS, with SERVICE for the name of this service:

- stream SERVICE: events, on disk, in the subjects SERVICE.OrderPlaced and so on. Its retention is
  by interest: an event is deleted when each consumer that wants it has acknowledged it. Before NATS
  2.15 events got lost that way when the server was killed;
- a durable consumer on it for each listener, OrderPlaced-app-handlers-orders-send_receipt;
- stream SERVICE-dead-letters: the dead letters, in a subject for each listener.
"""

import asyncio
import logging
import math
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial

from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker, PullSub
from faststream.nats.message import NatsMessage
from nats.errors import Error, MaxPayloadError
from nats.js import api
from nats.js.errors import NotFoundError

from app.messaging import delivery
from app.messaging.cloudevents import CONTENT_TYPE
from app.messaging.delivery import Backlog, DeadLetter, EventNotStored, EventTooLarge, Subscription
from app.messaging.settings import SERVICE, BrokerUnavailable, address_of, settings

DEAD_LETTERS = f"{SERVICE}-dead-letters"
HEADER = "Dead-Letter"
AWAY = (Error, OSError, TimeoutError)

log = logging.getLogger(__name__)


class Broker:
    """Keeps events in NATS and hands them to their listeners."""

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self.address = address_of(settings.url)
        self.subscriptions = subscriptions
        self.max_bytes: int | None = None
        self.refused: list[Exception] = []
        self.broker = NatsBroker(
            settings.url,
            connect_timeout=3,
            error_cb=self._keep_error,
            max_reconnect_attempts=-1,  # for ever
            reconnect_time_wait=1,
            graceful_timeout=math.inf,  # what is in hand is finished, however long it takes
            apply_types=False,
            logger=None,
        )

    async def _keep_error(self, error: Exception) -> None:
        self.refused = [error]

    async def connect(self) -> None:
        try:
            async with asyncio.timeout(settings.timeout):
                self.client = await self.broker.connect()
                self.jetstream = self.client.jetstream(timeout=settings.timeout)
                version = self.client.connected_server_version
                if (version.major, version.minor) < (2, 15):
                    raise BrokerUnavailable(f"{self.address} is NATS {version}: 2.15 is needed.")
                await self._make_stream(SERVICE, api.RetentionPolicy.INTEREST, ".>")
                await self._make_stream(DEAD_LETTERS, api.RetentionPolicy.LIMITS, ".>")
                for each in self.subscriptions:
                    await self.jetstream.add_consumer(SERVICE, _consumer(each))
        except AWAY as error:
            reason = (self.refused or [error])[-1]
            raise BrokerUnavailable(
                f"No NATS with JetStream answers at {self.address} ({type(reason).__name__}): "
                "start it, or correct BROKER_URL."
            ) from None
        self.max_bytes = self.client.max_payload

    async def _make_stream(self, name: str, retention: api.RetentionPolicy, subjects: str) -> None:
        try:
            await self.jetstream.stream_info(name)  # made before, perhaps changed by an operator
        except NotFoundError:
            config = api.StreamConfig(name, subjects=[name + subjects], retention=retention)
            await self.jetstream.add_stream(config)

    async def consume(self) -> None:
        for each in self.subscriptions:
            for _ in range(settings.concurrency):
                self.broker.subscriber(
                    f"{SERVICE}.>",
                    stream=JStream(SERVICE, declare=False),
                    durable=_durable(each),
                    config=_consumer(each),
                    pull_sub=PullSub(timeout=1),
                    ack_policy=AckPolicy.MANUAL,
                    decoder=_as_it_is,
                )(partial(self._handle, each))
        await self.broker.start()

    async def finish(self) -> None:
        for subscriber in self.broker.subscribers:
            subscriber.running = False  # all stop taking at once; then each is waited for
        stops = (subscriber.stop() for subscriber in self.broker.subscribers)
        await asyncio.gather(*stops, return_exceptions=True)  # NATS may be away

    async def close(self) -> None:
        with suppress(*AWAY):
            await self.broker.stop()

    async def publish(self, event_type: str, event_id: str, document: bytes, key: str) -> None:
        await self._publish(f"{SERVICE}.{delivery.safe(event_type)}", document)

    async def _publish(self, subject: str, document: bytes, **headers: str) -> None:
        if not self.client.is_connected:  # else it would wait in a buffer of this process
            raise EventNotStored(f"{self.address} is away")
        try:
            headers = {"content-type": CONTENT_TYPE} | headers
            await self.jetstream.publish(subject, document, headers=headers)
        except MaxPayloadError as error:
            raise EventTooLarge(f"{len(document)} bytes; the limit is {self.max_bytes}.") from error
        except AWAY as error:
            raise EventNotStored(f"{self.address}: {error!r}") from error

    async def ping(self) -> None:
        if not self.client.is_connected:
            raise EventNotStored(f"{self.address} is away")
        await self.jetstream.stream_info(DEAD_LETTERS)

    async def _handle(self, subscription: Subscription, message: NatsMessage) -> None:
        raw = message.raw_message
        try:
            number = raw.metadata.num_delivered
            outcome = await delivery.attempt(subscription, raw.data, number, raw.in_progress)
            if isinstance(outcome, float):
                await raw.nak(delay=outcome)
                return
            if outcome is not None:
                subject = f"{DEAD_LETTERS}.{delivery.safe(subscription.name)}"
                await self._publish(subject, raw.data, **{HEADER: outcome.header()})
            await raw.ack()
        except (*AWAY, EventNotStored, EventTooLarge) as error:  # after the lease
            log.warning("%s will get an event again: %r", subscription.name, error)

    async def backlog(self, subscription: Subscription) -> Backlog:
        try:
            info = await self.jetstream.consumer_info(SERVICE, _durable(subscription))
        except NotFoundError:
            return Backlog()
        found = Backlog(waiting=info.num_pending or 0, in_hand=info.num_ack_pending or 0)
        if found.waiting or found.in_hand:
            after = info.ack_floor.stream_seq + 1 if info.ack_floor else 1
            subject = f"{SERVICE}.{delivery.safe(subscription.type)}"
            with suppress(NotFoundError):
                oldest = await self.jetstream.get_msg(SERVICE, after, subject, next=True)
                if oldest.time:
                    found.oldest = (datetime.now(UTC) - oldest.time).total_seconds()
        return found

    async def dead_letters(self) -> list[tuple[int, DeadLetter]]:
        found = []
        state = (await self.jetstream.stream_info(DEAD_LETTERS)).state
        for place in range(max(1, state.first_seq), state.last_seq + 1):
            with suppress(NotFoundError):  # replayed
                message = await self.jetstream.get_msg(DEAD_LETTERS, place)
                letter = DeadLetter.model_validate_json((message.headers or {})[HEADER])
                found.append((place, letter.model_copy(update={"document": message.data or b""})))
        return found

    async def replay(self, place: int, letter: DeadLetter) -> None:
        await self._publish(f"{SERVICE}.replay.{delivery.safe(letter.listener)}", letter.document)
        await self.jetstream.delete_msg(DEAD_LETTERS, place)


def _durable(subscription: Subscription) -> str:
    return delivery.safe(subscription.name).replace(".", "-")  # NATS allows no dots


def _consumer(subscription: Subscription) -> api.ConsumerConfig:
    return api.ConsumerConfig(
        durable_name=_durable(subscription),
        filter_subjects=[
            f"{SERVICE}.{delivery.safe(subscription.type)}",
            f"{SERVICE}.replay.{delivery.safe(subscription.name)}",
        ],
        deliver_policy=api.DeliverPolicy.NEW,  # a new listener gets what comes after it
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=settings.lease,
        max_deliver=-1,  # NATS would drop it after the last; `attempt` counts instead
    )


async def _as_it_is(message: NatsMessage) -> NatsMessage:
    return message
