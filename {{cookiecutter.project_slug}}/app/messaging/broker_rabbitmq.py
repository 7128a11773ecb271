"""The seam to RabbitMQ: a quorum queue for each listener keeps each event until it is acknowledged.

Places, with SERVICE for the name of this service:

- exchange SERVICE: an event goes to each queue that is bound to its type;
- queue SERVICE.OrderPlaced.app.handlers.orders.send_receipt: one listener's events, on disk;
- exchange and queue SERVICE.wait.1000: an event that failed waits there for 1000 ms, then RabbitMQ
  puts it back into its listener's queue;
- queue SERVICE.letters: the dead letters.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import AMQPError
from faststream import AckPolicy
from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitQueue,
)
from faststream.rabbit.message import RabbitMessage

from app import delivery
from app.cloudevents import CONTENT_TYPE, SERVICE, document_of
from app.delivery import EngineUnusable, EventNotStored, Letter, Subscription

DEFAULT_URL = "amqp://localhost:5672"
EVENTS = RabbitExchange(SERVICE, type=ExchangeType.DIRECT, durable=True)
LETTERS = f"{SERVICE}.letters"
TRIED = "x-tried"  # the header that counts the tries that failed
STORE_TIMEOUT = 5.0  # seconds
AWAY = (AMQPError, OSError, RuntimeError, TimeoutError)  # aio-pika says it in all these ways

log = logging.getLogger(__name__)


class Engine:
    """Keeps events in RabbitMQ and hands them to the listeners of `subscriptions`."""

    def __init__(self, url: str, subscriptions: list[Subscription]) -> None:
        self.address = delivery.address_of(url, DEFAULT_URL)
        self.subscriptions = subscriptions
        self.broker = RabbitBroker(
            url,
            timeout=5,
            reconnect_interval=1,
            default_channel=Channel(prefetch_count=delivery.AT_ONCE),  # for each consumer on it
            graceful_timeout=math.inf,  # what is in hand is finished, however long it takes
            apply_types=False,
            logger=None,
        )

    async def connect(self) -> None:
        # It says with a stack what we say in a sentence.
        logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)
        try:
            self.connection = await self.broker.connect()
            exchange = await self.broker.declare_exchange(EVENTS)
            for subscription in self.subscriptions:
                queue = await self.broker.declare_queue(_queue(_place(subscription)))
                await queue.bind(exchange, subscription.heard)
            for tried in range(1, delivery.TRIES):
                wait = RabbitExchange(_wait(tried), type=ExchangeType.FANOUT, durable=True)
                queue = await self.broker.declare_queue(_wait_queue(tried))
                await queue.bind(await self.broker.declare_exchange(wait))
            await self.broker.declare_queue(_queue(LETTERS))
        except AWAY as error:
            await self.close()
            raise EngineUnusable(
                f"No RabbitMQ answers at {self.address} ({type(error).__name__}): "
                "start it, or correct BROKER_URL."
            ) from None

    async def consume(self) -> None:
        for subscription in self.subscriptions:
            self.broker.subscriber(
                _queue(_place(subscription), subscription.heard),
                EVENTS,
                ack_policy=AckPolicy.MANUAL,
                decoder=_as_it_is,
            )(partial(self._handle, subscription))
        await self.broker.start()

    async def finish(self) -> None:
        for subscriber in self.broker.subscribers:
            subscriber.running = False  # all stop taking at once; then each is waited for
        stops = (subscriber.stop() for subscriber in self.broker.subscribers)
        await asyncio.gather(*stops, return_exceptions=True)  # it may be away

    async def close(self) -> None:
        with suppress(*AWAY):
            await self.broker.stop()

    async def store(
        self, event_type: str, event_id: str, document: bytes, to: str = "", key: str = ""
    ) -> None:
        if to:
            await self._publish(document, queue=f"{SERVICE}.{to}", message_id=event_id)
        else:
            await self._publish(document, EVENTS, routing_key=event_type, message_id=event_id)

    async def _publish(
        self, body: bytes, exchange: RabbitExchange | str | None = None, **options: Any
    ) -> None:
        if not self.connection.connected.is_set():
            raise EventNotStored(f"{self.address} is away")
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                await self.broker.publish(
                    body,
                    exchange=exchange,
                    persist=True,
                    mandatory=False,  # an event that nobody hears is no error
                    content_type=CONTENT_TYPE,
                    **options,
                )
        except AWAY as error:
            raise EventNotStored(f"{self.address}: {type(error).__name__}") from error

    async def answers(self) -> bool:
        if not self.connection.connected.is_set():
            return False
        try:
            async with asyncio.timeout(2), self.connection.channel():
                return True
        except AWAY:
            return False

    async def _handle(self, subscription: Subscription, message: RabbitMessage) -> None:
        raw = message.raw_message
        try:
            failed, lost = raw.headers.get(TRIED, 0), raw.headers.get("x-delivery-count", 0)
            tried = int(str(failed)) + int(str(lost))
            outcome = await delivery.attempt(subscription, raw.body, tried)
            if isinstance(outcome, Letter):
                await self._publish(outcome.model_dump_json().encode(), queue=LETTERS)
            elif outcome is not None:
                await self._publish(
                    raw.body,
                    _wait(tried + 1),
                    routing_key=_place(subscription),
                    headers={TRIED: tried + 1},
                    message_id=raw.message_id,
                )
            await raw.ack()
        except EventNotStored as error:
            log.warning("%s is delivered again: %s", subscription.name, error)
            with suppress(*AWAY):
                await raw.nack(requeue=True)
        except AWAY as error:  # RabbitMQ delivers again what was not acknowledged
            log.warning("%s is delivered again: %s", subscription.name, type(error).__name__)

    async def letters(self) -> list[tuple[AbstractIncomingMessage, Letter]]:
        queue = await self.broker.declare_queue(_queue(LETTERS))
        found: list[tuple[AbstractIncomingMessage, Letter]] = []
        while message := await queue.get(fail=False):  # `close` puts back what is not discarded
            found.append((message, Letter.model_validate_json(message.body)))
        return found

    async def discard(self, place: AbstractIncomingMessage) -> None:
        await place.ack()


def describe(
    address: str, events: list[Any], readers: dict[Subscription, Callable[..., Any]]
) -> RabbitBroker:
    """Return a broker that is never connected, for FastStream to describe."""
    broker = RabbitBroker(address)
    for event in events:
        name = event.__name__
        broker.publisher(
            exchange=EVENTS, routing_key=name, persist=True, title=name, schema=document_of(event)
        )
    for subscription, reader in readers.items():
        queue = _queue(_place(subscription), subscription.heard)
        broker.subscriber(queue, EVENTS, title=subscription.name)(reader)
    return broker


def _place(subscription: Subscription) -> str:
    return f"{SERVICE}.{subscription.name}"


def _queue(name: str, routing_key: str = "", **more: Any) -> RabbitQueue:
    # `attempt` counts; RabbitMQ 4 would drop an event after 20 deliveries
    arguments: Any = {"x-delivery-limit": 2**31 - 1, **more}
    return RabbitQueue(
        name, QueueType.QUORUM, durable=True, routing_key=routing_key, arguments=arguments
    )


def _wait(tried: int) -> str:
    return f"{SERVICE}.wait.{_milliseconds(tried)}"


def _wait_queue(tried: int) -> RabbitQueue:
    arguments: dict[str, Any] = {
        "x-message-ttl": _milliseconds(tried),
        "x-dead-letter-exchange": "",  # by routing key, the name of the listener's queue
        "x-dead-letter-strategy": "at-least-once",  # the default may lose it on the way
        "x-overflow": "reject-publish",  # which that strategy needs
    }
    return _queue(_wait(tried), **arguments)


def _milliseconds(tried: int) -> int:
    return round(delivery.wait_after(tried) * 1000)


async def _as_it_is(message: RabbitMessage) -> RabbitMessage:
    return message


if __name__ == "__main__":
    from app.letters import main

    main()
