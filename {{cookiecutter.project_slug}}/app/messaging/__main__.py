"""The broker from the command line: python -m app.messaging dead-letters | replay [ID ...] | status."""

import argparse
import asyncio
import sys

import app.main  # noqa: F401  (registers the listeners)
from app.messaging import connected, delivery
from app.messaging.settings import EXAMPLE_URL, BrokerUnavailable

parser = argparse.ArgumentParser("python -m app.messaging", description="What the broker has.")
parser.add_argument("command", choices=["dead-letters", "replay", "status"])
parser.add_argument("ids", metavar="ID", nargs="*", help="of the dead letters to replay; none: all")


async def main(command: str, ids: list[str]) -> None:
    async with connected(subscribe=False):
        if delivery.broker is None:
            sys.exit(f"Set BROKER_URL to the broker's address, for example {EXAMPLE_URL}.")
        if command == "status":
            for name, backlog in (await delivery.status()).items():
                print(name, *(f"{key}: {value}" for key, value in backlog), sep="  ")
            return
        letters = await delivery.broker.dead_letters()
        if command == "dead-letters":
            for _, each in letters:
                print(each.id, each.listener, f"{each.time:%Y-%m-%dT%H:%M:%S%z}", end="  ")
                print(f"attempts: {each.attempts}\n    {each.error}")
            print(f"Dead letters: {len(letters)}")
            return
        if unknown := set(ids) - {each.id for _, each in letters}:
            sys.exit(f"Nothing was replayed: no dead letter has the id {', '.join(unknown)}.")
        known, replayed = {each.name for each in delivery.subscriptions()}, 0
        for place, each in letters:
            if each.listener not in known:
                print(f"{each.id} stays: there's no listener {each.listener} any more.")
            elif not ids or each.id in ids:
                await delivery.broker.replay(place, each)
                replayed += 1
        print(f"Replayed: {replayed}")


if __name__ == "__main__":
    try:
        asyncio.run(main(**vars(parser.parse_args())))
    except (BrokerUnavailable, delivery.EventNotStored, ValueError) as error:
        sys.exit(str(error))
