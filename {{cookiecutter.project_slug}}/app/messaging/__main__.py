"""The broker from the command line: python -m app.messaging dead-letters | replay [ID ...] | status."""

import argparse
import asyncio
import sys

import app.main  # noqa: F401  (registers the listeners)
from app.messaging import connected, delivery
from app.messaging.delivery import EventNotStored
from app.messaging.settings import EXAMPLE_URL, BrokerUnavailable


def main() -> None:
    """Do what the command line asks; exit with one sentence if that's impossible."""
    parser = argparse.ArgumentParser("python -m app.messaging", description="What the broker has.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("dead-letters", help="list the events that a listener couldn't handle")
    replay = commands.add_parser("replay", help="give dead letters to their listeners again")
    replay.add_argument("ids", metavar="ID", nargs="*", help="only these; default: all")
    commands.add_parser("status", help="say what each listener has to do")
    arguments = parser.parse_args()
    try:
        asyncio.run(run(arguments.command, set(getattr(arguments, "ids", ()))))
    except (BrokerUnavailable, EventNotStored) as error:
        sys.exit(str(error))


async def run(command: str, ids: set[str]) -> None:
    """Run `command`; `ids` are those of the dead letters to replay, all if it's empty."""
    async with connected(subscribe=False):
        if delivery.broker is None:
            sys.exit(f"Set BROKER_URL to the broker's address, for example {EXAMPLE_URL}.")
        if command == "status":
            for name, backlog in (await delivery.status()).items():
                age = "-" if backlog.oldest is None else f"{backlog.oldest:.0f} s"
                print(
                    f"{name}\n    waiting: {backlog.waiting}  oldest: {age}  "
                    f"in hand: {backlog.in_hand}  dead letters: {backlog.dead_letters}"
                )
            return
        letters = await delivery.broker.dead_letters()
        if command == "dead-letters":
            for _, letter in letters:
                when = letter.time.isoformat(timespec="seconds")
                print(f"{letter.id}  {letter.listener}  {when}  attempts: {letter.attempts}")
                print(f"    {letter.error}")
            print(f"Dead letters: {len(letters)}")
            return
        if unknown := ids - {letter.id for _, letter in letters}:
            sys.exit(f"No dead letter has the id {', '.join(sorted(unknown))}: nothing was replayed.")
        known, replayed = {each.name for each in delivery.subscriptions()}, 0
        for place, letter in letters:
            if letter.listener not in known:
                print(f"{letter.id} stays: there's no listener {letter.listener} any more.")
            elif not ids or letter.id in ids:
                await delivery.broker.replay(place, letter)
                replayed += 1
        print(f"Replayed: {replayed}")


if __name__ == "__main__":
    main()
