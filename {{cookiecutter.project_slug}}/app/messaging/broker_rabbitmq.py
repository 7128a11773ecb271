"""The adapter for RabbitMQ: a quorum queue for each listener keeps an event until it's acknowledged.

Exchange SERVICE gives an event to the queues bound to its type, such as SERVICE.OrderPlaced.LISTENER.
In queue SERVICE.wait.1000 it waits for 1000 ms before its next attempt.
"""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Any

from aio_pika import Message, connect_robust
from aio_pika.exceptions import AMQPError, ChannelPreconditionFailed
from pydantic_core import from_json

from app.messaging import delivery
from app.messaging.cloudevents import CONTENT_TYPE
from app.messaging.delivery import Backlog, DeadLetter, EventNotStored, Subscription, safe
from app.messaging.settings import SERVICE, BrokerUnavailable, address_of, settings

DEAD_LETTERS = f"{SERVICE}.dead-letters"
FAILED = "x-failed-attempts"  # a header; RabbitMQ's own counts the attempts that killed the process
AWAY = (AMQPError, OSError, RuntimeError, TimeoutError)  # aio-pika raises all of these


class Broker:
    max_bytes = 16 * 2**20  # the default of RabbitMQ 4; raise it together with max_message_size

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self.address, self.subscriptions = address_of(settings.url), subscriptions
        self.in_hand: set[Any] = set()
        self.connection: Any = None
        self.held: dict[Any, Any] = {}

    async def connect(self) -> None:
        logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)  # it logs stacks
        try:
            self.connection = await connect_robust(settings.url, timeout=5, reconnect_interval=1)
            self.channel = await self.connection.channel()
            self.exchange = await self.channel.declare_exchange(SERVICE, durable=True)
            for each in self.subscriptions:
                queue = await self._declare_queue(_queue(each.name))
                await queue.bind(self.exchange, each.type)
            for number in range(1, settings.max_attempts):
                # It returns to the listener's queue by routing key, and can't be lost on the way.
                name = _queue(f"wait.{(milliseconds := round(delivery.backoff(number) * 1000))}")
                more = {"x-message-ttl": milliseconds, "x-dead-letter-exchange": ""}
                more |= {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}
                queue = await self._declare_queue(name, **more)
                await queue.bind(await self.channel.declare_exchange(name, "fanout", durable=True))
            await self._declare_queue(DEAD_LETTERS)
        except AWAY as error:
            said = f"No RabbitMQ at {self.address} ({type(error).__name__})"
            raise BrokerUnavailable(f"{said}: start it, or correct BROKER_URL.") from None

    async def _declare_queue(self, name: str, **more: Any) -> Any:
        # The limit is high because `attempt` counts: RabbitMQ 4 drops an event after 20 deliveries.
        more |= {"x-queue-type": "quorum", "x-delivery-limit": 2**31 - 1}
        return await self.channel.declare_queue(name, durable=True, arguments=more)

    async def consume(self) -> None:
        self.consumers = []
        for each in self.subscriptions:
            channel = await self.connection.channel()
            await channel.set_qos(settings.concurrency)
            queue = await channel.get_queue(_queue(each.name))
            self.consumers.append((queue, await queue.consume(partial(self._handle, each))))

    async def finish(self) -> None:
        cancelled = (queue.cancel(tag, timeout=1) for queue, tag in self.consumers)
        await asyncio.gather(*cancelled, return_exceptions=True)  # RabbitMQ may be away
        while self.in_hand:
            await asyncio.gather(*self.in_hand, return_exceptions=True)

    async def close(self) -> None:
        with suppress(*AWAY, AttributeError):  # there may be no connection
            await self.connection.close()

    async def publish(self, event_type: str, event_id: str, document: bytes, key: str) -> None:
        await self._publish(document, self.exchange, event_type, message_id=event_id)

    async def _publish(self, body: bytes, exchange: Any, place: str, **more: Any) -> None:
        await self.ping(ask=False)
        message = Message(body, content_type=CONTENT_TYPE, delivery_mode=2, **more)
        try:  # an event without listeners isn't an error, so it isn't mandatory
            async with asyncio.timeout(settings.timeout):
                await self.channel.ready()  # this takes longer than reconnecting
                await (exchange or self.channel.default_exchange).publish(
                    message, place, mandatory=False
                )
        except AWAY as error:
            if isinstance(error, ChannelPreconditionFailed) and "larger than" in str(error):
                raise delivery.EventTooLarge(f"{self.address}: {error}") from error
            raise EventNotStored(f"{self.address}: {error!r}") from error

    async def ping(self, ask: bool = True) -> None:
        if not self.connection.connected.is_set():
            raise EventNotStored(f"{self.address} is away")
        if ask:
            async with self.connection.channel():
                pass

    async def _handle(self, subscription: Subscription, message: Any) -> None:
        self.in_hand.add(task := asyncio.current_task())
        counts = (message.headers.get(name) for name in (FAILED, "x-delivery-count"))
        number = 1 + sum(count for count in counts if isinstance(count, int))
        try:
            outcome = await delivery.attempt(subscription, message.body, number)
            if isinstance(outcome, DeadLetter):
                headers: Any = {"dead-letter": outcome.model_dump_json()}
                await self._publish(message.body, None, DEAD_LETTERS, headers=headers)
            elif outcome is not None:
                wait = await self.channel.get_exchange(_queue(f"wait.{round(outcome * 1000)}"))
                more = {"headers": {FAILED: number}, "message_id": message.message_id}
                await self._publish(message.body, wait, _queue(subscription.name), **more)
            await message.ack()
        except Exception as error:  # whatever it is, it's delivered again
            delivery.log.warning("%s waits for RabbitMQ: %r", subscription.name, error)
            with suppress(*AWAY):
                await message.nack(requeue=True)
        finally:
            self.in_hand.discard(task)

    async def backlog(self, subscription: Subscription) -> Backlog:
        with suppress(AMQPError):  # no instance has served it yet
            async with self.connection.channel() as channel:
                queue = await channel.declare_queue(_queue(subscription.name), passive=True)
            # RabbitMQ tells its clients neither what's in hand nor how old it is.
            return Backlog(waiting=queue.declaration_result.message_count, in_hand=None)
        return Backlog()

    async def dead_letters(self) -> list[tuple[Any, DeadLetter]]:
        async with self.connection.channel() as channel:  # at its end they're put back
            found = await self._get_dead_letters(channel)
            return [
                (header, DeadLetter(**from_json(header), document=each.body))
                for header, each in found.items()
            ]

    async def _get_dead_letters(self, channel: Any) -> dict[Any, Any]:
        queue, found = await channel.get_queue(DEAD_LETTERS), {}
        while message := await queue.get(fail=False):
            found[message.headers["dead-letter"]] = message
        return found

    async def replay(self, place: Any, letter: DeadLetter) -> None:
        self.held = self.held or await self._get_dead_letters(await self.connection.channel())
        await self._publish(letter.document, None, _queue(letter.listener), message_id=letter.id)
        await self.held.pop(place).ack()


def _queue(listener: str) -> str:
    return f"{SERVICE}.{safe(listener)}"
