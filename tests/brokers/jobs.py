"""What the brokers' tests add to the generated service: events, listeners, routes.

It's copied to app/handlers/. Each listener writes a line to the file JOBS_LOG when it begins and
when it is done, in one write, so that a line is whole even if the process is killed.
"""

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from app.bus import emit, on
from app.events import IntegrationEvent
from app.messaging.delivery import EventNotStored

router = APIRouter()
log = os.open(os.environ["JOBS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
mended = Path(os.environ["JOBS_LOG"] + ".mended")
ticks: set[str] = set()


class Job(IntegrationEvent):
    """Work to do. Jobs with the same thing belong in order."""

    partition_key = "thing"
    number: int
    how: str = "ok"
    thing: int = 0


class Tick(IntegrationEvent):
    """Hardly any work."""


def note(listener: str, event: Any, what: str) -> None:
    fields = (listener, os.getpid(), event.number, event.id, what, time.monotonic())
    os.write(log, f"{json.dumps(fields)}\n".encode())


@on(Job)
async def first(event: Job) -> None:
    note("first", event, "begins")
    if event.how == "poison":
        raise ValueError("this never works")
    if event.how == "mend" and not mended.exists():  # noqa: ASYNC240
        raise ValueError("not before it's mended")
    if event.how == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep({"brief": 0.02, "slow": 2, "endless": 10, "hung": 3600}.get(event.how, 0))
    note("first", event, "done")


@on(Job)
def second(event: Job) -> None:
    note("second", event, "done")


@on(Tick)
async def count_tick(event: Tick) -> None:
    ticks.discard(event.id)


@router.post("/emit")
async def emit_jobs(
    count: int, start: int = 0, how: str = "ok", width: int = 1, things: int = 2**31
) -> int:
    """Emit jobs, `width` at a time; write each that was accepted; return how many were not."""
    numbers, refused = iter(range(start, start + count)), 0

    async def some() -> None:
        nonlocal refused
        for number in numbers:
            event = Job(number=number, how=how, thing=number % things)
            try:
                await emit(event)
            except EventNotStored:
                refused += 1
                await asyncio.sleep(0.05)
            else:
                note("accepted", event, "done")

    await asyncio.gather(*(some() for _ in range(width)))
    return refused


@router.post("/emit-one")
async def emit_one(number: int = 0, size: int = 0) -> None:
    """Emit a job of `size` bytes at least."""
    event = Job(number=number, how="x" * size)
    await emit(event)
    note("accepted", event, "done")


@router.post("/tick")
async def tick(count: int) -> int:
    """Emit ticks, ten at a time; return how many weren't handled when nothing has moved for 30 s."""
    for _ in range(count // 10):
        events = [Tick() for _ in range(10)]
        ticks.update(event.id for event in events)
        await asyncio.gather(*map(emit, events))
    left, still = len(ticks), 0
    while ticks and still < 300:
        await asyncio.sleep(0.1)
        left, still = len(ticks), still + 1 if len(ticks) == left else 0
    return len(ticks)
