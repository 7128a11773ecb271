"""Show what the broker has, and replay dead letters: python -m app.messaging --help."""

import argparse
import asyncio
import sys

import app.main  # noqa: F401  (registers the listeners)
from app.messaging import connected, delivery
from app.messaging.settings import EXAMPLE_URL, BrokerUnavailable

parser = argparse.ArgumentParser("python -m app.messaging", description=__doc__.partition(":")[0])
parser.add_argument("command", choices=["dead-letters", "replay", "status"])
parser.add_argument("ids", metavar="ID", nargs="*", default=[], help="to replay; without any, all")


async def main(command: str, ids: list[str]) -> None:
    if ids and command != "replay":
        parser.error("only replay takes an ID")
    async with connected(subscribe=False):
        if not (broker := delivery.broker):
            sys.exit(f"Set BROKER_URL to the broker's address, for example {EXAMPLE_URL}.")
        if command == "status":
            for name, backlog in (await delivery.status()).items():
                said = (f"{key}: {'-' if value is None else value}" for key, value in backlog)
                print(name, *said, sep="  ")
            return
        letters = [each for each in await broker.dead_letters() if not ids or each[1].id in ids]
        if unknown := set(ids) - {each.id for _, each in letters}:
            sys.exit(f"Nothing was replayed: no dead letter has the id {', '.join(unknown)}.")
        known, replayed = {each.name for each in delivery.subscriptions()}, 0
        for place, each in letters:
            if command == "dead-letters":
                print(each.id, each.listener, f"{each.time:%Y-%m-%dT%H:%M:%S%z}", end="  ")
                print(f"attempts: {each.attempts}\n    {each.error}")
            elif each.listener in known:
                await broker.replay(place, each)
                replayed += 1
            else:
                print(f"{each.id} stays: there's no listener {each.listener} any more.")
        print(f"Replayed: {replayed}" if command == "replay" else f"Dead letters: {len(letters)}")


if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # of any code page
    try:
        asyncio.run(main(**vars(parser.parse_args())))
    except (BrokerUnavailable, delivery.EventNotStored, ValueError) as error:
        sys.exit(str(error))
