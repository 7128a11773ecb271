"""A program that knows CloudEvents and Redis, and not us: other_redis.py URL PLACE read|send."""

import sys

import redis


def main(url: str, service: str, what: str) -> None:
    client = redis.Redis.from_url(url)
    if what == "read":
        client.xgroup_create(f"{service}:Job", "other", id="$")
        print("ready", flush=True)
        [[_, [[_, fields]]]] = client.xreadgroup(
            "other", "other", {f"{service}:Job": ">"}, count=1, block=30000
        )
        print(fields[b"event"].decode(), flush=True)
        client.xgroup_destroy(f"{service}:Job", "other")
    else:
        for line in sys.stdin.buffer.read().split(b"\n"):
            client.xadd(f"{service}:Job", {"event": line})


main(*sys.argv[1:])
