"""The adapter for RabbitMQ: a quorum queue for each listener keeps an event until it's acknowledged.

Exchange SERVICE gives an event to the queues of its type, such as SERVICE.OrderPlaced.LISTENER. In
queue SERVICE.wait.1000 it waits for 1000 ms before its next attempt.
"""

import asyncio
import logging
from contextlib import suppress
from functools import partial
from typing import Any

from aio_pika import Message, RobustConnection
from aio_pika.connection import make_url
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, AMQPError
from pydantic_core import from_json

from app.messaging import delivery
from app.messaging.cloudevents import CONTENT_TYPE
from app.messaging.delivery import Backlog, DeadLetter, EventNotStored, Subscription, safe
from app.messaging.settings import SERVICE, BrokerUnavailable, address_of, settings

DEAD_LETTERS = f"{SERVICE}.dead-letters"
FAILED = "x-failed-attempts"  # a header; RabbitMQ's own counts the attempts that killed the process
LIMIT = 2**31 - 1  # of deliveries; `attempt` counts them, and RabbitMQ 4 drops an event after 20
QUEUE: Any = {"durable": True, "arguments": {"x-queue-type": "quorum", "x-delivery-limit": LIMIT}}
DURABLE: Any = {"durable": True, "robust": False}  # aio-pika remembers what's robust


class Broker:
    max_bytes = 16 * 2**20  # the default of RabbitMQ 4; raise it together with max_message_size

    def __init__(self, subscriptions: list[Subscription]) -> None:
        self.address, self.subscriptions = address_of(settings.url), subscriptions
        self.queues, self.in_hand = list[Any](), set[Any]()
        self.connection: Any = None

    async def connect(self) -> None:
        logging.getLogger("aiormq.connection").setLevel(logging.CRITICAL)  # it logs stacks
        try:  # aio-pika would try some hosts for ever, such as a..b
            async with asyncio.timeout(settings.timeout):
                self.connection = RobustConnection(make_url(settings.url), reconnect_interval=1)
                await self.connection.connect(settings.timeout)
                self.channel = await self.connection.channel(on_return_raises=True)
                self.exchange = await self.channel.declare_exchange(SERVICE, durable=True)
                for each in self.subscriptions:
                    channel = await self.connection.channel()
                    await channel.set_qos(settings.concurrency)
                    queue = await channel.declare_queue(_queue(each.name), **QUEUE)
                    await queue.bind(self.exchange, each.type)
                    self.queues.append((queue, partial(self._handle, each)))
                await self.channel.declare_queue(DEAD_LETTERS, **QUEUE)
        except (*CONNECTION_EXCEPTIONS, ValueError) as error:
            said = f"No RabbitMQ at {self.address} ({type(error).__name__})"
            raise BrokerUnavailable(f"{said}: start it, or correct BROKER_URL.") from None

    async def consume(self) -> None:
        self.consumers = [(queue, await queue.consume(handle)) for queue, handle in self.queues]

    async def finish(self) -> None:
        cancelled = (queue.cancel(tag, timeout=1) for queue, tag in self.consumers)
        await asyncio.gather(*cancelled, return_exceptions=True)  # RabbitMQ may be away
        while self.in_hand:
            await asyncio.gather(*self.in_hand, return_exceptions=True)

    async def close(self) -> None:
        with suppress(*CONNECTION_EXCEPTIONS, AttributeError):  # there may be no connection
            await self.connection.close()

    async def publish(self, event_type: str, event_id: str, document: bytes, key: str) -> None:
        await self._store(document, event_type, None, {}, message_id=event_id)

    async def _store(self, body: bytes, key: str, wait: Any, headers: Any, **more: Any) -> None:
        """Publish an event or, unless `wait` is None, give it to queue `key` after so many seconds."""
        await self.ping(ask=False)
        more |= {"content_type": CONTENT_TYPE, "delivery_mode": 2, "headers": headers}
        try:
            async with asyncio.timeout(settings.timeout):
                await self.channel.ready()  # this takes longer than reconnecting
                exchange = self.exchange if wait is None else self.channel.default_exchange
                if wait:
                    # It returns to queue `key` by routing key, and can't be lost on the way.
                    name = f"{SERVICE}.wait.{(ms := round(wait * 1000))}"
                    how = QUEUE["arguments"] | {"x-message-ttl": ms, "x-overflow": "reject-publish"}
                    how |= {"x-dead-letter-strategy": "at-least-once", "x-dead-letter-exchange": ""}
                    queue = await self.channel.declare_queue(name, arguments=how, **DURABLE)
                    exchange = await self.channel.declare_exchange(name, "fanout", **DURABLE)
                    await queue.bind(exchange)
                elif wait == 0:  # an operator may have deleted the queue
                    await self.channel.declare_queue(key, **QUEUE, robust=False)
                # Only an event may have no queue, because nobody listens to it.
                await exchange.publish(Message(body, **more), key, mandatory=wait is not None)
        except CONNECTION_EXCEPTIONS as error:
            kind = delivery.EventTooLarge if "larger than" in str(error) else EventNotStored
            raise kind(f"{self.address}: {error!r}") from error

    async def ping(self, ask: bool = True) -> None:
        if not self.connection.connected.is_set():
            raise EventNotStored(f"{self.address} is away")
        if ask:
            await (await self.connection.channel()).close()

    async def _handle(self, subscription: Subscription, message: Any) -> None:
        self.in_hand.add(task := asyncio.current_task())
        counts = (message.headers.get(name) for name in (FAILED, "x-delivery-count"))
        number = 1 + sum(count for count in counts if isinstance(count, int))
        try:
            body, queue = message.body, _queue(subscription.name)
            outcome = await delivery.attempt(subscription, body, number)
            if isinstance(outcome, DeadLetter):
                await self._store(body, DEAD_LETTERS, 0, {"dead-letter": outcome.model_dump_json()})
            elif outcome is not None:
                await self._store(body, queue, outcome, {FAILED: number})
            await message.ack()
        except Exception as error:  # whatever it is, it's delivered again
            delivery.log.warning("%s waits for RabbitMQ: %r", subscription.name, error)
            await asyncio.sleep(1)
            with suppress(*CONNECTION_EXCEPTIONS):
                await message.nack(requeue=True)
        finally:
            self.in_hand.discard(task)

    async def backlog(self, subscription: Subscription) -> Backlog:
        with suppress(AMQPError):  # no instance has served it yet
            async with self.connection.channel() as channel:
                queue = await channel.declare_queue(_queue(subscription.name), passive=True)
            return Backlog(waiting=queue.declaration_result.message_count, in_hand=None)  # unknown
        return Backlog()

    async def dead_letters(self) -> list[tuple[Any, DeadLetter]]:
        """Until the channel is closed, nobody else sees what it gets, so readers take turns."""
        channel, found = await self.connection.channel(), []
        try:
            for _ in range(100):
                with suppress(*CONNECTION_EXCEPTIONS):  # it's another reader's turn
                    turn = await channel.declare_queue(f"{SERVICE}.turn", **DURABLE)
                    await turn.consume(print, exclusive=True, robust=False)  # nothing will come
                    break
                await asyncio.sleep(settings.timeout / 100)
            else:
                raise EventNotStored("Another process is reading the dead letters: try again.")
            queue = await channel.declare_queue(DEAD_LETTERS, **QUEUE, robust=False)
            while message := await queue.get(fail=False):
                letter = from_json(message.headers["dead-letter"])
                found.append((message, DeadLetter(**letter, document=message.body)))
            return found
        finally:
            if hasattr(self, "consumers"):  # the command line has its turn until its end
                await channel.close()

    async def replay(self, place: Any, letter: DeadLetter) -> None:
        await self._store(letter.document, _queue(letter.listener), 0, {})
        await place.ack()


def _queue(listener: str) -> str:
    return f"{SERVICE}.{safe(listener)}"
