"""A program that knows CloudEvents and RabbitMQ, not us: other_rabbitmq.py URL PLACE read|send."""

import asyncio
import sys

import aio_pika


async def main(url: str, service: str, what: str) -> None:
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(service)
        if what == "read":
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, "Job")
            print("ready", flush=True)
            async with queue.iterator(timeout=30) as messages:
                async for message in messages:
                    print(message.body.decode(), flush=True)
                    break
        else:
            for line in sys.stdin.buffer.read().split(b"\n"):
                await exchange.publish(aio_pika.Message(line, delivery_mode=2), "Job")


asyncio.run(main(*sys.argv[1:]))
