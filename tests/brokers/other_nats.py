"""A program that knows CloudEvents and NATS, and not us: other_nats.py URL PLACE read|send."""

import asyncio
import sys

import nats


async def main(url: str, service: str, what: str) -> None:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    if what == "read":
        subscription = await jetstream.subscribe(f"{service}.Job")
        print("ready", flush=True)
        message = await subscription.next_msg(timeout=30)
        print(message.data.decode(), flush=True)
    else:
        for line in sys.stdin.buffer.read().split(b"\n"):
            await jetstream.publish(f"{service}.Job", line)
    await client.close()


asyncio.run(main(*sys.argv[1:]))
