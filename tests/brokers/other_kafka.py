"""A program that knows CloudEvents and Kafka, and not us: other_kafka.py URL PLACE read|send."""

import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer


async def main(url: str, service: str, what: str) -> None:
    server, topic = url.removeprefix("kafka://"), f"{service}.Job"
    if what == "read":
        async with AIOKafkaConsumer(topic, bootstrap_servers=server) as consumer:
            await consumer.seek_to_end()
            print("ready", flush=True)
            message = await asyncio.wait_for(consumer.getone(), 30)
            print(message.value.decode(), flush=True)
    else:
        async with AIOKafkaProducer(bootstrap_servers=server) as producer:
            for line in sys.stdin.buffer.read().split(b"\n"):
                await producer.send_and_wait(topic, line)


asyncio.run(main(*sys.argv[1:]))
