"""What it costs to send events through a broker, and how the service grows with it.

    python benchmarks/broker.py [BROKER ...]

For each broker (all, if none is named) this generates a service, starts the broker's own server on a
free port, and lets three run in turn, each in a process of its own: ours, plain FastStream and the
broker's raw client. Each stores the same number of events from ten tasks, while one consumer handles
and acknowledges them one at a time. Both are as durable: on disk before `publish` returns, and
acknowledged once handled. Plain FastStream sends the same: an id, a time and a number. FastStream has no
PostgreSQL; there the others are PgQueuer, which takes a second one in hand (it accepts no fewer), and
procrastinate. All three store with synchronous_commit, and take and delete each event on its own without it.
"""

import asyncio
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, Field

HERE = Path(__file__).resolve()
ROUNDS = 5
EVENTS = 1500
PEERS = {"postgres": ("pgqueuer", "procrastinate")}  # in place of FastStream and the raw client

Publish = Callable[[int], Awaitable[Any]]


class Message(BaseModel):
    """What plain FastStream sends: the fields that our event has."""

    id: str = Field(default_factory=lambda: str(uuid4()))
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    number: int


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
    from app import bus, messaging
    from app.events import IntegrationEvent

    class Ping(IntegrationEvent):
        number: int

    async def handle(event: Ping) -> None:
        race.arrived()

    handle.__qualname__ = "handle"  # a subscription needs a name that stays
    bus.on(Ping)(handle)
    os.environ["BROKER_URL"] = url
    async with messaging.connected(), messaging.consuming():
        return await race.run(lambda number: bus.emit(Ping(number=number)))


async def faststream_nats(url: str, name: str, race: Race) -> float:
    from faststream import AckPolicy
    from faststream.nats import JStream, NatsBroker, PullSub

    broker = NatsBroker(url, logger=None)
    stream = JStream(name)

    @broker.subscriber(
        name, stream=stream, durable="one", pull_sub=PullSub(), ack_policy=AckPolicy.NACK_ON_ERROR
    )
    async def handle(event: Message) -> None:
        race.arrived()

    await broker.start()
    result = await race.run(
        lambda number: broker.publish(Message(number=number), name, stream=name, timeout=5)
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

    broker = RabbitBroker(url, logger=None, default_channel=Channel(prefetch_count=1))
    queue = RabbitQueue(name, QueueType.QUORUM, durable=True)

    @broker.subscriber(queue, ack_policy=AckPolicy.REJECT_ON_ERROR)
    async def handle(event: Message) -> None:
        race.arrived()

    await broker.start()
    result = await race.run(
        lambda number: broker.publish(Message(number=number), queue, persist=True)
    )
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

    broker = RedisBroker(url, logger=None)

    @broker.subscriber(
        stream=StreamSub(name, group="one", consumer="one", max_records=1),
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def handle(event: Message) -> None:
        race.arrived()

    await broker.start()
    result = await race.run(lambda number: broker.publish(Message(number=number), stream=name))
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

    server = url.removeprefix("kafka://")
    await make_topic(server, name)
    broker = KafkaBroker(server, acks="all", enable_idempotence=True, logger=None)

    @broker.subscriber(
        name,
        group_id="one",
        auto_offset_reset="earliest",
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def handle(event: Message) -> None:
        race.arrived()

    await broker.start()
    result = await race.run(lambda number: broker.publish(Message(number=number), name))
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


async def pgqueuer(url: str, name: str, race: Race) -> float:
    import asyncpg
    from pgqueuer import AsyncpgPoolDriver, PgQueuer, Queries

    settings = {"synchronous_commit": "off"}  # of what consumes, as ours
    async with (
        asyncpg.create_pool(url, min_size=2, max_size=10) as pool,
        asyncpg.create_pool(url, min_size=2, max_size=6, server_settings=settings) as consuming,
    ):
        queries = Queries(AsyncpgPoolDriver(pool))
        if not await queries.has_table("pgqueuer"):
            await queries.install()
        worker = PgQueuer(AsyncpgPoolDriver(consuming))

        @worker.entrypoint(name)
        async def handle(job: Any) -> None:
            race.arrived()

        task = asyncio.create_task(worker.run(batch_size=1, max_concurrent_tasks=2))
        result = await race.run(lambda number: queries.enqueue(name, b'{"number":%d}' % number))
        worker.shutdown.set()
        await task
    return result


async def procrastinate(url: str, name: str, race: Race) -> float:
    from procrastinate import App, PsycopgConnector

    app = App(connector=PsycopgConnector(conninfo=url, max_size=10))
    settings = {"options": "-c synchronous_commit=off"}  # of what consumes, as ours
    worker = app.with_connector(PsycopgConnector(conninfo=url, max_size=6, kwargs=settings))

    @app.task(name=name, queue=name)
    async def handle(number: int) -> None:
        race.arrived()

    async with app.open_async(), worker.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        options = {"concurrency": 1, "delete_jobs": "always", "install_signal_handlers": False}
        task = asyncio.create_task(worker.run_worker_async(queues=[name], **options))
        result = await race.run(lambda number: handle.defer_async(number=number))
        task.cancel()
        await asyncio.wait([task])
    return result


async def in_process() -> float:
    """Return the microseconds of an `emit` without a broker, to one listener."""
    import app.main  # noqa: F401  (with all that it brings)
    from app import bus, events

    class Ping(getattr(events, "IntegrationEvent", events.Event)):  # type: ignore[misc]
        number: int

    async def handle(event: Ping) -> None: ...

    bus.on(Ping)(handle)
    event, best = Ping(number=1), math.inf
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(2000):
            await bus.emit(event)
        best = min(best, time.perf_counter() - start)
    return best / 2000 * 1e6


class Generated:
    """A service that the template made, with an environment of its own."""

    def __init__(self, folder: Path, broker: str) -> None:
        from support.template import generate

        self.project = generate(folder / broker, broker=broker, lesson="none")
        self.python = str(self.project / ".venv" / "bin" / "python")
        without = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        command = ["uv", "sync", "--quiet", "--no-dev"]
        subprocess.run(command, cwd=self.project, env=without, check=True)
        peers = ["faststream[nats,rabbit,redis,kafka]>=0.7,<0.8"]
        if broker == "postgres":
            peers = [
                "pgqueuer[asyncpg]>=1.6,<2",
                "procrastinate>=3.10,<4",
                "psycopg[binary]>=3.3,<4",
            ]
        command = ["uv", "pip", "install", "--quiet", "--python", self.python, *peers]
        subprocess.run(command, env=without, check=True)

    def run(self, runner: str, *arguments: str) -> float:
        """Run a function of this file in a new process of the service; return its result."""
        command = [self.python, str(HERE), "run", runner, *arguments]
        environment = os.environ | {"PYTHONPATH": str(self.project)}
        environment.pop("BROKER_URL", None)
        done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
        return float(done.stdout)


def compared(service: Generated, broker: str, url: str) -> list[str]:
    """Return the cells of plain FastStream, ours and the raw client, then our events a second."""
    others = PEERS.get(broker, (f"faststream_{broker}", f"raw_{broker}"))
    rates: dict[str, list[float]] = {others[0]: [], "ours": [], others[1]: []}
    for turn in range(ROUNDS):
        for runner, results in rates.items():
            results.append(service.run(runner, url, f"bench{turn}-{runner}", str(EVENTS)))
    plain, ours, raw = rates.values()
    ratios = [
        statistics.median(one / other for one, other in zip(each, plain, strict=True))
        for each in (plain, ours, raw)
    ]
    return [*(f"{ratio:.2f}" for ratio in ratios), f"{statistics.median(ours):,.0f}"]


def unset(service: Generated, without: Generated) -> str:
    """Return what an `emit` with BROKER_URL unset costs, in emits of a service without brokers."""
    turns = [(service.run("in_process"), without.run("in_process")) for _ in range(ROUNDS)]
    return f"{statistics.median(one / other for one, other in turns):.2f}"


def measure(brokers: Sequence[str] = ()) -> str:
    """Return the tables of `brokers`, of all if there are none, as Markdown."""
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    import broker_growth
    import pytest

    from support.brokers import SERVERS, running

    redis = SERVERS["redis"]
    redis.options = (*redis.options, "--appendfsync", "everysec")  # as by default; tests differ

    head = "| broker | plain FastStream | **evtemplate** | raw client | events/s | `emit`, no URL |"
    tables = [
        [head, "|---|---|---|---|---|---|"],
        [broker_growth.INSTANCES, "|---|---|---|---|---|---|---|"],
        [broker_growth.LISTENERS, "|---|---|---|---|---|"],
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        without = Generated(folder, "none")
        for broker in brokers or SERVERS:
            try:
                with running(broker, folder / f"{broker}-server") as server:
                    service = Generated(folder, broker)
                    costs = [*compared(service, broker, server.url), unset(service, without)]
                    shown = "".join(f" ({each})" for each in PEERS.get(broker, ())[:1])
                    last = "".join(f" ({each})" for each in PEERS.get(broker, ())[1:])
                    costs[0], costs[2] = costs[0] + shown, costs[2] + last
                    tables[0].append(f"| {broker} | {' | '.join(costs)} |")
                    instances, listeners = broker_growth.measure(service, broker, server.url)
                    tables[1] += instances
                    tables[2] += listeners
            except pytest.skip.Exception as absent:
                tables[0].append(f"| {broker} | not measured: {absent} | | | | |")
    return "\n\n".join("\n".join(table) for table in tables)


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        _, _, runner, *arguments = sys.argv
        if arguments:
            url, name, events = arguments
            print(asyncio.run(globals()[runner](url, name, Race(int(events)))))
        else:
            print(asyncio.run(globals()[runner]()))
    else:
        print(measure(sys.argv[1:]))
