"""The dead letters, from the command line: python -m app.broker letters, or replay [ID ...]."""

import argparse
import asyncio
import os
import sys

from app import delivery
from app.broker import DEFAULT_URL, Engine
from app.delivery import EngineUnusable, EventNotStored


def main() -> None:
    """List the dead letters, or send some again; exit with one sentence if that cannot be."""
    parser = argparse.ArgumentParser("python -m app.broker", description="The dead letters.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("letters", help="list them")
    replay = commands.add_parser("replay", help="hand them to the listeners that failed, again")
    replay.add_argument("ids", metavar="ID", nargs="*", help="only these; all, if none is given")
    arguments = parser.parse_args()
    if not (url := os.environ.get("BROKER_URL")):
        sys.exit(f"Set BROKER_URL to the engine's address, such as {DEFAULT_URL}.")
    try:
        asyncio.run(run(url, None if arguments.command == "letters" else arguments.ids))
    except (EngineUnusable, EventNotStored) as error:
        sys.exit(str(error))


async def run(url: str, ids: list[str] | None) -> None:
    """List the letters if `ids` is None; else replay those with one of the ids, or all."""
    import app.main  # noqa: F401  (registers the listeners)

    names = {subscription.name for subscription in delivery.subscriptions()}
    engine: delivery.Engine = Engine(url, [])
    await engine.connect()
    try:
        letters = await engine.letters()
        if ids is None:
            for _, letter in letters:
                when = letter.time.isoformat(timespec="seconds")
                print(f"{letter.id}  {letter.listener}  {when}  tries: {letter.tries}")
                print(f"    {letter.error}")
            print(f"Dead letters: {len(letters)}")
            return
        if unknown := set(ids) - {letter.id for _, letter in letters}:
            sys.exit(f"No dead letter has the id {', '.join(sorted(unknown))}: nothing was sent.")
        sent = 0
        for place, letter in letters:
            if ids and letter.id not in ids:
                continue
            if letter.listener not in names:
                print(f"{letter.id} stays: no listener is called {letter.listener} any more.")
                continue
            await engine.store(letter.type, letter.id, letter.content, to=letter.listener)
            await engine.discard(place)
            sent += 1
        print(f"Sent again: {sent}")
    finally:
        await engine.close()
