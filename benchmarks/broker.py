"""Publish -> handled, durable: ours, plain FastStream and the raw client on one engine, in one run.

    python benchmarks/broker.py nats|rabbitmq|redis|kafka [EVENTS]

Generates a service, starts the engine on a free port, and lets each of the three store EVENTS
events (2000) from ten tasks, while one consumer handles and acknowledges them one
at a time. Events a second, the median of three rounds, and the ratio to ours.
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
ROUNDS = 3

Publish = Callable[[int], Awaitable[Any]]


class Race:
    """Counts what arrives, and ends when all has."""

    def __init__(self, events: int) -> None:
        self.events = events
        self.seen = 0
        self.over = asyncio.Event()

    def arrived(self) -> None:
        self.seen += 1
        if self.seen == self.events:
            self.over.set()

    async def run(self, publish: Publish) -> float:
        """Return events a second from the first publish to the last acknowledgement."""
        numbers = iter(range(self.events))

        async def some() -> None:
            for number in numbers:
                await publish(number)

        start = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(10)))
        await asyncio.wait_for(self.over.wait(), 120)
        return self.events / (time.perf_counter() - start)


async def ours(url: str, name: str, race: Race) -> float:
    from app import bridge, bus
    from app.events import SharedEvent

    class Ping(SharedEvent):
        number: int

    async def handle(event: Ping) -> None:
        race.arrived()

    handle.__qualname__ = "handle"  # a subscription needs a name that stays
    bus.on(Ping)(handle)
    async with bridge.connected(url) as engine:
        await engine.consume()
        result = await race.run(lambda number: bus.emit(Ping(number=number)))
        await engine.finish()
    return result


async def faststream_nats(url: str, name: str, race: Race) -> float:
    from faststream import AckPolicy
    from faststream.nats import JStream, NatsBroker, PullSub
    from pydantic import BaseModel

    class Ping(BaseModel):
        number: int

    broker = NatsBroker(url, logger=None)
    stream = JStream(name)

    @broker.subscriber(
        name, stream=stream, durable="one", pull_sub=PullSub(), ack_policy=AckPolicy.NACK_ON_ERROR
    )
    async def handle(event: Ping) -> None:
        race.arrived()

    await broker.start()
    result = await race.run(
        lambda number: broker.publish(Ping(number=number), name, stream=name, timeout=5)
    )
    await broker.stop()
    return result


async def raw_nats(url: str, name: str, race: Race) -> float:
    import nats

    client = await nats.connect(url)
    jetstream = client.jetstream()
    await jetstream.add_stream(name=name, subjects=[name])
    subscription = await jetstream.pull_subscribe(name, "one", stream=name)

    async def consume() -> None:
        while not race.over.is_set():
            [message] = await subscription.fetch(1, timeout=30)
            await message.ack()
            race.arrived()

    task = asyncio.create_task(consume())
    result = await race.run(lambda number: jetstream.publish(name, b'{"number":%d}' % number))
    await task
    await client.close()
    return result


async def faststream_rabbitmq(url: str, name: str, race: Race) -> float:
    from faststream import AckPolicy
    from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
    from pydantic import BaseModel

    class Ping(BaseModel):
        number: int

    broker = RabbitBroker(url, logger=None, default_channel=Channel(prefetch_count=1))
    queue = RabbitQueue(name, QueueType.QUORUM, durable=True)

    @broker.subscriber(queue, ack_policy=AckPolicy.REJECT_ON_ERROR)
    async def handle(event: Ping) -> None:
        race.arrived()

    await broker.start()
    result = await race.run(lambda number: broker.publish(Ping(number=number), queue, persist=True))
    await broker.stop()
    return result


async def raw_rabbitmq(url: str, name: str, race: Race) -> float:
    import aio_pika

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(1)
        queue = await channel.declare_queue(
            name, durable=True, arguments={"x-queue-type": "quorum"}
        )

        async def handle(message: Any) -> None:
            await message.ack()
            race.arrived()

        await queue.consume(handle)
        return await race.run(
            lambda number: channel.default_exchange.publish(
                aio_pika.Message(b'{"number":%d}' % number, delivery_mode=2), name
            )
        )


async def faststream_redis(url: str, name: str, race: Race) -> float:
    from faststream import AckPolicy
    from faststream.redis import RedisBroker, StreamSub
    from pydantic import BaseModel

    class Ping(BaseModel):
        number: int

    broker = RedisBroker(url, logger=None)

    @broker.subscriber(
        stream=StreamSub(name, group="one", consumer="one", max_records=1),
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def handle(event: Ping) -> None:
        race.arrived()

    await broker.start()
    result = await race.run(lambda number: broker.publish(Ping(number=number), stream=name))
    await broker.stop()
    return result


async def raw_redis(url: str, name: str, race: Race) -> float:
    from redis.asyncio import Redis

    client: Any = Redis.from_url(url)
    await client.xgroup_create(name, "one", mkstream=True)

    async def consume() -> None:
        while not race.over.is_set():
            for _, entries in await client.xreadgroup("one", "one", {name: ">"}, 1, block=1000):
                for entry, _ in entries:
                    await client.xack(name, "one", entry)
                    race.arrived()

    task = asyncio.create_task(consume())
    result = await race.run(lambda number: client.xadd(name, {"event": b'{"number":%d}' % number}))
    await task
    await client.aclose()
    return result


async def make_topic(server: str, name: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic

    admin = AIOKafkaAdminClient(bootstrap_servers=server)
    await admin.start()
    await admin.create_topics([NewTopic(name, 12, 1)])  # as many partitions as ours
    await admin.close()


async def faststream_kafka(url: str, name: str, race: Race) -> float:
    from faststream import AckPolicy
    from faststream.kafka import KafkaBroker
    from pydantic import BaseModel

    class Ping(BaseModel):
        number: int

    server = url.removeprefix("kafka://")
    await make_topic(server, name)
    broker = KafkaBroker(server, acks="all", enable_idempotence=True, logger=None)

    @broker.subscriber(
        name,
        group_id="one",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def handle(event: Ping) -> None:
        race.arrived()

    await broker.start()
    result = await race.run(lambda number: broker.publish(Ping(number=number), name))
    await broker.stop()
    return result


async def raw_kafka(url: str, name: str, race: Race) -> float:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    server = url.removeprefix("kafka://")
    await make_topic(server, name)
    consumer = AIOKafkaConsumer(
        name,
        bootstrap_servers=server,
        group_id="one",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    producer = AIOKafkaProducer(bootstrap_servers=server, acks="all", enable_idempotence=True)
    await consumer.start()
    await producer.start()

    async def consume() -> None:
        while not race.over.is_set():
            await consumer.getone()
            await consumer.commit()
            race.arrived()

    task = asyncio.create_task(consume())
    result = await race.run(lambda number: producer.send_and_wait(name, b'{"number":%d}' % number))
    await task
    await producer.stop()
    await consumer.stop()
    return result


def measure(engine: str, url: str, events: int, python: str, project: Path) -> None:
    """Let the three run in turn, each in a process of its own, and print what came out."""
    rates: dict[str, list[float]] = {"ours": [], "faststream": [], "raw": []}
    for turn in range(ROUNDS):
        for who, results in rates.items():
            runner = who if who == "ours" else f"{who}_{engine}"
            command = [python, str(HERE), "run", runner, url, f"bench{turn}-{who}", str(events)]
            environment = os.environ | {"PYTHONPATH": str(project)}
            done = subprocess.run(command, env=environment, check=True, capture_output=True)
            results.append(float(done.stdout))
    mine = statistics.median(rates["ours"])
    for who, results in rates.items():
        middle = statistics.median(results)
        print(f"{engine:9} {who:11} {middle:6.0f} events/s   ours is {mine / middle:.2f} of it")


def main(engine: str, events: str = "2000") -> None:
    """Generate the service and start the engine, then measure in the service's environment."""
    sys.path.insert(0, str(HERE.parents[1] / "tests" / "brokers"))
    from cookiecutter.main import cookiecutter
    from engines import running

    folder = Path(tempfile.mkdtemp())
    try:
        answers = {"project_slug": "demo", "broker": engine, "lesson": "none"}
        cookiecutter(
            str(HERE.parents[1]), no_input=True, output_dir=str(folder), extra_context=answers
        )
        project = folder / "demo"
        without = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        subprocess.run(["uv", "sync", "-q", "--no-dev"], cwd=project, env=without, check=True)
        with running(engine, folder / "server") as server:
            python = str(project / ".venv" / "bin" / "python")
            measure(engine, server.url, int(events), python, project)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1] == "run":
        _, _, runner, url, name, events = sys.argv
        print(asyncio.run(globals()[runner](url, name, Race(int(events)))))
    else:
        main(*sys.argv[1:])
