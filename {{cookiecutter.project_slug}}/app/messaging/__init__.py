"""Events between processes: with BROKER_URL set, `emit` publishes integration events to a broker.

Which broker, only broker.py knows; what holds for all of them is in delivery.py.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app import bus
from app.events import IntegrationEvent
from app.messaging import delivery
from app.messaging.cloudevents import encode
from app.messaging.delivery import EventNotStored, EventTooLarge
from app.messaging.settings import EXAMPLE_URL, BrokerUnavailable, load, settings

__all__ = ["BrokerUnavailable", "EventNotStored", "EventTooLarge", "connected", "consuming"]

RESERVED = 16 * 1024  # bytes that a broker, and a dead letter's error, may need beside a document


@asynccontextmanager
async def connected(subscribe: bool = True) -> AsyncIterator[None]:
    """Let `emit` publish integration events while the block runs, if BROKER_URL is set.

    With `subscribe=False` the listeners get no subscriptions. Raises BrokerUnavailable.
    """
    load()
    if not settings.url:
        yield
        return
    from app.messaging.broker import Broker  # not needed, and not loaded, without BROKER_URL

    event_types, loop = set(delivery.event_types()), asyncio.get_running_loop()
    subscriptions = delivery.subscriptions()

    async def publish(event: IntegrationEvent) -> None:
        if asyncio.get_running_loop() is not loop:  # asyncio.run(emit(...)) in a thread
            there = asyncio.run_coroutine_threadsafe(publish(event), loop)
            return await asyncio.wrap_future(there)
        name, document = type(event).__name__, encode(event)
        if type(event) not in event_types:
            raise TypeError(f"{name} didn't exist at the start: define it in a module, as a class.")
        if broker.max_bytes and len(document) > broker.max_bytes - RESERVED:
            raise EventTooLarge(f"{name}: {len(document)} bytes; the limit is {broker.max_bytes}.")
        key = str(getattr(event, event.partition_key)) if event.partition_key else ""
        await broker.publish(name, event.id, document, key)

    broker = Broker(subscriptions if subscribe else [])
    try:
        await broker.connect()
        delivery.broker, bus.publish = broker, publish
        yield
    finally:
        delivery.broker = bus.publish = None
        await broker.close()


@asynccontextmanager
async def consuming() -> AsyncIterator[None]:
    """Let this process handle events while the block runs; at its end, finish what's in hand."""
    if delivery.broker is None:
        yield
        return
    await delivery.broker.consume()
    try:
        yield
    finally:
        await delivery.broker.finish()
