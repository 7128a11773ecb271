"""What benchmarks/broker_growth.py adds to the generated service; it is copied to app/handlers/.

Each listener writes a byte to the file BENCH_NOTES when it has handled an event. It does not begin
before the file beside it, .open, is there: so all events are stored before the first is handled.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from app.bus import emit, on
from app.events import IntegrationEvent

router = APIRouter()
NOTES = os.open(os.environ["BENCH_NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
GATE = Path(os.environ["BENCH_NOTES"] + ".open")


class Ping(IntegrationEvent):
    """Work to do, which is to wait, as for a database."""

    seconds: float


def is_open() -> bool:
    return GATE.exists()


def listener(number: int) -> Callable[[Ping], Coroutine[Any, Any, None]]:
    async def listen(event: Ping) -> None:
        while not is_open():  # noqa: ASYNC110  (another process opens it)
            await asyncio.sleep(0.005)
        if event.seconds:
            await asyncio.sleep(event.seconds)
        os.write(NOTES, b".")

    listen.__qualname__ = f"listen_{number}"
    return listen


for number in range(int(os.environ["BENCH_LISTENERS"])):
    on(Ping)(listener(number))


@router.post("/store")
async def store(count: int, seconds: float) -> None:
    numbers = iter(range(count))

    async def some() -> None:
        for _ in numbers:
            await emit(Ping(seconds=seconds))

    await asyncio.gather(*(some() for _ in range(10)))
