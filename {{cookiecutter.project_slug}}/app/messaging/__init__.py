"""With BROKER_URL set, `emit` publishes integration events. Only broker.py knows which broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app import bus
from app.events import IntegrationEvent
from app.messaging import cloudevents, delivery, settings


@asynccontextmanager
async def connected(subscribe: bool = True) -> AsyncIterator[None]:
    """With BROKER_URL set, let `emit` publish in the block; raise BrokerUnavailable if it can't."""
    settings.load()
    if not settings.settings.url:
        yield
        return
    from app.messaging.broker import Broker  # nothing is loaded while BROKER_URL is unset

    loop, event_types = asyncio.get_running_loop(), delivery.event_types()
    broker = Broker(delivery.subscriptions() if subscribe else [])

    async def publish(event: IntegrationEvent) -> None:
        if asyncio.get_running_loop() is not loop:  # asyncio.run(emit(event)) in a thread
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(publish(event), loop))
        name, document = type(event).__name__, cloudevents.encode(event)
        if type(event) not in event_types:
            raise TypeError(f"{name} didn't exist at the start: define it in app/events.py.")
        # % if cookiecutter.broker != "postgres"
        if 0 < broker.max_bytes < (size := len(document) + 16_384):  # what a dead letter adds
            raise delivery.EventTooLarge(f"{name}: {size} bytes, of {broker.max_bytes}")
        # % endif
        key = "" if (value := getattr(event, event.partition_key, None)) is None else str(value)
        await broker.publish(name, event.id, document, key)

    try:
        await broker.connect()
        delivery.broker, bus.publish = broker, publish
        yield
    finally:
        delivery.broker = bus.publish = None
        await broker.close()


@asynccontextmanager
async def consuming() -> AsyncIterator[None]:
    """Let this process handle events while the block runs; then finish what's in hand."""
    if not (broker := delivery.broker):
        yield
        return
    await broker.consume()
    try:
        yield
    finally:
        finishing = asyncio.create_task(broker.finish())
        await asyncio.wait([finishing], timeout=settings.settings.shutdown_timeout)
        if finishing.cancel():  # it wasn't done
            delivery.log.warning("Some listeners still run: their events will be delivered again.")
            await asyncio.wait([finishing], timeout=settings.settings.timeout)  # a thread goes on
