"""The broker from the command line: python -m app.messaging dead-letters | replay [ID ...] | status."""

import argparse
import asyncio
import sys

import app.main  # noqa: F401  (registers the listeners)
from app.messaging import BrokerUnavailable, EventNotStored, connected, delivery
from app.messaging.settings import EXAMPLE_URL

parser = argparse.ArgumentParser("python -m app.messaging", description="What the broker has.")
commands = parser.add_subparsers(dest="command", required=True)
commands.add_parser("dead-letters", help="list the events that a listener couldn't handle")
replay = commands.add_parser("replay", help="give dead letters to their listeners again")
replay.add_argument("ids", metavar="ID", nargs="*", help="only these; without an ID: all")
commands.add_parser("status", help="say what each listener has to do")


async def main(command: str, ids: list[str] | None = None) -> None:
    """Run a command; exit with one sentence if that's impossible."""
    async with connected(subscribe=False):
        if delivery.broker is None:
            sys.exit(f"Set BROKER_URL to the broker's address, for example {EXAMPLE_URL}.")
        if command == "status":
            for name, each in (await delivery.status()).items():
                age = "unknown" if each.oldest is None else f"{each.oldest:.0f} s old"
                print(f"{name}\n    waiting: {each.waiting} (the oldest: {age}), ", end="")
                print(f"in hand: {each.in_hand}, dead letters: {each.dead_letters}")
            return
        letters = await delivery.broker.dead_letters()
        if command == "dead-letters":
            for _, each in letters:
                when = each.time.isoformat(timespec="seconds")
                print(f"{each.id}  {each.listener}  {when}  attempts: {each.attempts}")
                print(f"    {each.error}")
            print(f"Dead letters: {len(letters)}")
            return
        if unknown := set(ids or ()) - {each.id for _, each in letters}:
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
    except (BrokerUnavailable, EventNotStored) as error:
        sys.exit(str(error))
