"""What the page shows: more listeners than the project has, a chain, a slow route, a failure."""

import asyncio
import os
from pathlib import Path

from app.bus import emit, on
from app.events import Event, OrderPlaced
from app.main import app as inner
from lesson import live

live.PATIENCE = float(os.environ.get("PATIENCE", "60"))  # seconds


class ShelfEmptied(Event):
    """A shelf is empty."""

    item: str
    left: int = 0
    note: str | None = None


class Spoiled(Event):
    """Something went bad."""


@on(OrderPlaced)
def count_order(event: OrderPlaced) -> None:
    if event.quantity > 5:
        raise ValueError("only five on the shelf")


@on(ShelfEmptied)
async def refill(event: ShelfEmptied) -> str:
    await emit(Spoiled())
    return "Refilled"


@inner.get("/slow")
async def slow() -> str:
    while not Path(__file__).with_name("go").exists():  # noqa: ASYNC110 - another process makes it
        await asyncio.sleep(0.02)
    return "slow"


@inner.get("/{path:path}")
async def anything(path: str) -> str:
    return path


app = live.Watched(inner, Path(__file__).parent / "steps")
