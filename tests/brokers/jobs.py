"""What the brokers' tests add to the generated service: an event, two listeners, a route.

It is copied to app/handlers/. Each listener writes a line to the file JOBS_LOG when it begins and
when it is done, in one write, so that a line is whole even if the process is killed.
"""

import asyncio
import os
import signal
from pathlib import Path

from fastapi import APIRouter

from app.bus import emit, on
from app.events import IntegrationEvent
from app.messaging.delivery import EventNotStored

router = APIRouter()

mended = Path(os.environ["JOBS_LOG"] + ".mended")
log = os.open(os.environ["JOBS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)


class Job(IntegrationEvent):
    """Work to do."""

    number: int
    how: str = "ok"


class LargeJob(Job):
    """More work, for whoever listens to Job too."""


def note(listener: str, event: "Job | Step", what: str) -> None:
    os.write(log, f"{listener} {os.getpid()} {event.number} {event.id} {what}\n".encode())


def is_mended() -> bool:
    return mended.exists()


@on(Job)
async def first(event: Job) -> None:
    note("first", event, "begins")
    if event.how == "poison":
        raise ValueError("this never works")
    if event.how == "mend" and not is_mended():
        raise ValueError("this works when it is mended")
    if event.how == "deadly":
        os.kill(os.getpid(), signal.SIGKILL)
    if event.how == "slow":
        await asyncio.sleep(2)
    if event.how == "endless":
        await asyncio.sleep(8)
    await asyncio.sleep(0)
    note("first", event, "done")


@on(Job)
def second(event: Job) -> None:
    note("second", event, "done")


@router.post("/emit")
async def emit_jobs(count: int, start: int = 0, how: str = "ok", width: int = 1) -> int:
    """Emit jobs, `width` at a time; write each that was accepted; return how many were not."""
    numbers = iter(range(start, start + count))
    refused = 0

    async def some() -> None:
        nonlocal refused
        for number in numbers:
            event = Job(number=number, how=how)
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
async def emit_one(number: int, how: str = "ok") -> str:
    event = Job(number=number, how=how)
    await emit(event)
    note("accepted", event, "done")
    return event.id


@router.post("/emit-large")
async def emit_large(size: int) -> None:
    """Emit a job of so many bytes."""
    event = Job(number=0, how="x" * size)
    await emit(event)
    note("accepted", event, "done")


@router.post("/emit-in-a-thread")
def emit_in_a_thread(number: int) -> None:
    """Emit a job in an event loop that isn't the service's."""
    event = Job(number=number)
    asyncio.run(emit(event))
    note("accepted", event, "done")


class Step(IntegrationEvent):
    """One of several steps with the same thing; they belong in order."""

    partition_key = "thing"

    thing: int
    number: int


@on(Step)
async def step(event: Step) -> None:
    await asyncio.sleep(0)
    note("step", event, "done")


@router.post("/steps")
async def take_steps(count: int, start: int, things: int) -> None:
    """Emit `count` steps one after the other, with each of `things` in turn."""
    for number in range(start, start + count):
        event = Step(thing=number % things, number=number)
        await emit(event)
        note("accepted", event, "done")


class Tick(IntegrationEvent):
    """Hardly any work."""


ticks: set[str] = set()


@on(Tick)
async def count_tick(event: Tick) -> None:
    ticks.discard(event.id)


@router.post("/tick")
async def tick(count: int, width: int = 10) -> int:
    """Emit ticks and wait until each was handled; return how many were not if nothing moves."""
    numbers = iter(range(count))

    async def some() -> None:
        for _ in numbers:
            event = Tick()
            ticks.add(event.id)
            await emit(event)

    await asyncio.gather(*(some() for _ in range(width)))
    left, still = len(ticks), 0
    while ticks and still < 300:
        await asyncio.sleep(0.1)
        left, still = len(ticks), still + 1 if len(ticks) == left else 0
    return len(ticks)
