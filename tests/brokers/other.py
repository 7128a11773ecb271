"""A program that knows CloudEvents and a broker's own client, and not us.

python other.py BROKER URL SERVICE read, prints "ready", then the next Job;
python other.py BROKER URL SERVICE send FILE, sends each line of the file.
"""

import asyncio
import sys
from pathlib import Path


def say(what: str | bytes) -> None:
    print(what if isinstance(what, str) else what.decode(), flush=True)


async def nats(url: str, service: str, lines: list[bytes]) -> None:
    import nats

    client = await nats.connect(url)
    jetstream = client.jetstream()
    if not lines:
        subscription = await jetstream.subscribe(f"{service}.Job")
        say("ready")
        say((await subscription.next_msg(timeout=30)).data)
    for line in lines:
        await jetstream.publish(f"{service}.Job", line)
    await client.close()


async def rabbitmq(url: str, service: str, lines: list[bytes]) -> None:
    import aio_pika

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(service)
        if not lines:
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, "Job")
            say("ready")
            async with queue.iterator(timeout=30) as messages:
                say((await anext(messages)).body)
        for line in lines:
            await exchange.publish(aio_pika.Message(line, delivery_mode=2), "Job")


async def redis(url: str, service: str, lines: list[bytes]) -> None:
    from redis.asyncio import Redis

    async with Redis.from_url(url, socket_timeout=35) as client:
        stream = f"{service}:Job"
        if not lines:
            await client.xgroup_create(stream, "other", id="$")
            say("ready")
            group = ("other", "other")
            [[_, [[_, fields]]]] = await client.xreadgroup(*group, {stream: ">"}, block=30000)
            say(fields[b"event"])
            await client.xgroup_destroy(stream, "other")
        for line in lines:
            await client.xadd(stream, {"event": line})


async def kafka(url: str, service: str, lines: list[bytes]) -> None:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

    server, topic = url.removeprefix("kafka://"), f"{service}.Job"
    if not lines:
        async with AIOKafkaConsumer(topic, bootstrap_servers=server) as consumer:
            await consumer.seek_to_end()
            say("ready")
            say((await asyncio.wait_for(consumer.getone(), 30)).value)
    async with AIOKafkaProducer(bootstrap_servers=server) as producer:
        for line in lines:
            await producer.send_and_wait(topic, line)


async def postgres(url: str, service: str, lines: list[bytes]) -> None:
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute(f"SET search_path = mq_{service}")
    if not lines:
        news = asyncio.Event()
        await connection.add_listener(f"mq_{service}", lambda *_: news.set())
        await connection.execute("INSERT INTO subscriptions VALUES ('other', 'Job')")
        say("ready")
        await asyncio.wait_for(news.wait(), 30)
        take = "DELETE FROM events WHERE listener = 'other' RETURNING document"
        say(await connection.fetchval(take))
    for line in lines:
        try:
            await connection.execute("SELECT publish('Job', $1)", line.decode())
        except ValueError:  # the function takes text only; a table takes what it gets
            insert = "INSERT INTO events (listener, document) SELECT listener, $1"
            await connection.execute(f"{insert} FROM subscriptions WHERE type = 'Job'", line)
    await connection.close()


broker, url, service, _, *files = sys.argv[1:]
lines = [line for file in files for line in Path(file).read_bytes().split(b"\n")]
asyncio.run(globals()[broker](url, service, lines))
