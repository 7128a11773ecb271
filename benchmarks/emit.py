"""What an emit costs beside its peers, and beside the least that any emit must do.

Each contender is an async context manager that yields a function, which emits as many events as it
is told to, each once all listeners of the one before have run. Slices of all contenders take turns,
so that whatever else the machine does hits all of them alike; the ratio is that of the medians.
"""

import asyncio
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from itertools import count
from typing import Any

from fastapi.concurrency import run_in_threadpool

from app.bus import emit, on
from app.events import Event

Repeat = Callable[[int], Awaitable[Any]]  # emits that many events
Contender = Callable[[int], AbstractAsyncContextManager[Repeat]]  # takes the number of listeners
numbers = count()


def new_event_class() -> type[Event]:
    return type(f"Event{next(numbers)}", (Event,), {})


def new_listener(done: Callable[[], None] | None = None) -> Callable[..., Awaitable[int]]:
    async def listener(*_: object, **__: object) -> int:
        return 1

    async def reporting_listener(*_: object, **__: object) -> int:
        done()
        return 1

    return reporting_listener if done else listener


def repeated(call: Callable[[], Awaitable[Any]]) -> Repeat:
    async def repeat(times: int) -> None:
        for _ in range(times):
            await call()

    return repeat


class Countdown:
    """Tells a peer that does not wait for its listeners when the last of them has run."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.left = 0

    def done(self) -> None:
        self.left -= 1
        if not self.left:
            self.finished.set_result(None)

    def start(self) -> asyncio.Future[None]:
        self.left = self.number
        self.finished = asyncio.get_running_loop().create_future()
        return self.finished


async def least_emit(listeners: list[Callable[..., Awaitable[int]]], event: Event) -> list[int]:
    outputs = []
    for listener in listeners:
        outputs.append(await listener(event))
    return outputs


@asynccontextmanager
async def least(number: int) -> AsyncIterator[Repeat]:
    listeners, event = [new_listener() for _ in range(number)], new_event_class()()

    async def repeat(times: int) -> None:
        for _ in range(times):
            await least_emit(listeners, event)

    yield repeat


@asynccontextmanager
async def ours(number: int) -> AsyncIterator[Repeat]:
    event_class = new_event_class()
    for _ in range(number):
        on(event_class)(new_listener())
    event = event_class()

    async def repeat(times: int) -> None:
        for _ in range(times):
            await emit(event)

    yield repeat


@asynccontextmanager
async def gather(number: int) -> AsyncIterator[Repeat]:
    listeners, event = [new_listener() for _ in range(number)], new_event_class()()
    yield repeated(lambda: asyncio.gather(*[listener(event) for listener in listeners]))


@asynccontextmanager
async def task_group(number: int) -> AsyncIterator[Repeat]:
    listeners, event = [new_listener() for _ in range(number)], new_event_class()()

    async def call() -> list[int]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(listener(event)) for listener in listeners]  # type: ignore[arg-type]
        return [task.result() for task in tasks]

    yield repeated(call)


@asynccontextmanager
async def blinker(number: int) -> AsyncIterator[Repeat]:
    from blinker import Signal

    signal = Signal()
    listeners = [new_listener() for _ in range(number)]
    for listener in listeners:
        signal.connect(listener)
    yield repeated(lambda: signal.send_async(None))


@asynccontextmanager
async def pyee(number: int) -> AsyncIterator[Repeat]:
    from pyee.asyncio import AsyncIOEventEmitter

    emitter, countdown = AsyncIOEventEmitter(), Countdown(number)
    for _ in range(number):
        emitter.add_listener("event", new_listener(countdown.done))

    def call() -> Awaitable[None]:
        finished = countdown.start()
        emitter.emit("event", None)
        return finished

    yield repeated(call)


@asynccontextmanager
async def django(number: int) -> AsyncIterator[Repeat]:
    from django.dispatch import Signal

    signal = Signal()
    listeners = [new_listener() for _ in range(number)]
    for listener in listeners:
        signal.connect(listener)
    yield repeated(lambda: signal.asend(None))


@asynccontextmanager
async def litestar(number: int) -> AsyncIterator[Repeat]:
    from litestar.events import SimpleEventEmitter
    from litestar.events import listener as listens_to

    countdown = Countdown(number)
    listeners = [listens_to("event")(new_listener(countdown.done)) for _ in range(number)]
    async with SimpleEventEmitter(listeners) as emitter:

        def call() -> Awaitable[None]:
            finished = countdown.start()
            emitter.emit("event", None)
            return finished

        yield repeated(call)


@asynccontextmanager
async def fastapi_events(number: int) -> AsyncIterator[Repeat]:
    from fastapi_events import handler_store, middleware_identifier
    from fastapi_events.dispatcher import dispatch
    from fastapi_events.handlers.local import LocalHandler

    handler, countdown = LocalHandler(), Countdown(number)
    for _ in range(number):

        @handler.register(event_name="event")
        async def listener(event: object) -> None:
            countdown.done()

    identifier = next(numbers)
    handler_store[identifier] = [handler]
    middleware_identifier.set(identifier)

    def call() -> Awaitable[None]:
        middleware_identifier.set(identifier)
        finished = countdown.start()
        dispatch("event", payload={})
        return finished

    yield repeated(call)


@asynccontextmanager
async def bubus(number: int) -> AsyncIterator[Repeat]:
    os.environ.setdefault("BUBUS_LOGGING_LEVEL", "ERROR")
    from bubus import BaseEvent, EventBus

    class SomethingHappened(BaseEvent[int]):
        pass

    bus = EventBus(name=f"Bus{next(numbers)}", max_history_size=10)
    for position in range(number):
        listener = new_listener()
        listener.__name__ = f"listener{position}"  # it refuses to tell two of one name apart
        bus.on(SomethingHappened, listener)
    try:
        yield repeated(lambda: bus.dispatch(SomethingHappened()))
    finally:
        await bus.stop()


PEERS: dict[str, Contender] = {
    "asyncio.gather": gather,
    "asyncio.TaskGroup": task_group,
    f"blinker {version('blinker')}": blinker,
    f"pyee {version('pyee')}": pyee,
    f"Django signals {version('django')}": django,
    f"Litestar {version('litestar')}": litestar,
    f"fastapi-events {version('fastapi-events')}": fastapi_events,
    f"bubus {version('bubus')}": bubus,
}


async def medians(
    contenders: dict[str, Repeat], rounds: int, seconds: float = 0.002
) -> dict[str, float]:
    """Return the median time of one emit in seconds, from slices that take turns.

    `seconds` is about what a slice lasts, `rounds` how many slices each contender gets.
    """
    times = {}
    for name, repeat in contenders.items():
        await repeat(3)  # what is done once is no part of the cost
        start = time.perf_counter()
        await repeat(3)
        times[name] = max(1, int(3 * seconds / (time.perf_counter() - start)))
    slices: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, repeat in contenders.items():
            start = time.perf_counter()
            await repeat(times[name])
            slices[name].append((time.perf_counter() - start) / times[name])
    return {name: statistics.median(values) for name, values in slices.items()}


async def beside_peers(rounds: int) -> str:
    """Return the table of times with 1, 3 and 10 listeners, the least that an emit must do = 1."""
    columns = []
    for number in (1, 3, 10):
        async with AsyncExitStack() as stack:
            everyone: dict[str, Contender] = {"the least": least, "**evtemplate**": ours, **PEERS}
            repeats = {
                name: await stack.enter_async_context(contender(number))
                for name, contender in everyone.items()
            }
            times = await medians(repeats, rounds)
        columns.append({name: value / times["the least"] for name, value in times.items()})
    rows = [row(name, *(column[name] for column in columns)) for name in columns[0]]
    return "\n".join(["| emit | 1 listener | 3 | 10 |", "|---|---|---|---|", *rows])


async def with_many_types(rounds: int) -> str:
    """Return the table of times with more and more event types, one type = 1."""
    repeats = {}
    async with AsyncExitStack() as stack:
        for number in (1, 1_000, 10_000):
            for _ in range(number - 1):
                on(new_event_class())(new_listener())
            repeats[f"{number:,}"] = await stack.enter_async_context(ours(1))
            await repeats[f"{number:,}"](1)
        times = await medians(repeats, rounds)
    first = []
    for event_class in Event.__subclasses__()[-100:]:
        event = event_class()
        start = time.perf_counter()
        await emit(event)
        first.append(time.perf_counter() - start)
    rows = [row(name, value / times["1"]) for name, value in times.items()]
    rows.append(row("10,000, the first emit of a type", statistics.median(first) / times["1"]))
    return "\n".join(["| event types | 1 listener |", "|---|---|", *rows])


async def with_def_listeners(rounds: int) -> str:
    """Return the table for `def` listeners, FastAPI's own call into its thread pool = 1."""
    columns = []
    for number in (1, 3, 10):
        event_class = new_event_class()
        functions: list[Callable[[Event], int]] = [lambda event: 1 for _ in range(number)]
        for function in functions:
            on(event_class)(function)
        event = event_class()
        calls = [lambda event, f=function: run_in_threadpool(f, event) for function in functions]
        repeats = {
            "the least": repeated(lambda calls=calls, event=event: least_emit(calls, event)),
            "**evtemplate**": repeated(lambda event=event: emit(event)),
        }
        times = await medians(repeats, rounds, seconds=0.01)
        columns.append({name: value / times["the least"] for name, value in times.items()})
    rows = [row(name, *(column[name] for column in columns)) for name in columns[0]]
    return "\n".join(["| emit to `def` | 1 listener | 3 | 10 |", "|---|---|---|---|", *rows])


async def with_chains(rounds: int) -> str:
    """Return the table for handlers that emit, the same depth of bare calls = 1."""
    columns = []
    for depth in (1, 10, 100):
        classes = [new_event_class() for _ in range(depth)]
        events = [event_class() for event_class in classes]
        chain: list[list[Callable[[Event], Awaitable[Any]]]] = []
        for position, event_class in enumerate(classes):
            following = events[position + 1] if position + 1 < depth else None

            async def listener(event: Event, following: Event | None = following) -> None:
                if following is not None:
                    await emit(following)

            async def bare(event: Event, position: int = position, chain: Any = chain) -> None:
                if position + 1 < len(chain):
                    await least_emit(chain[position + 1], event)

            on(event_class)(listener)
            chain.append([bare])
        repeats = {
            "the least": repeated(lambda chain=chain, event=events[0]: least_emit(chain[0], event)),
            "**evtemplate**": repeated(lambda event=events[0]: emit(event)),
        }
        times = await medians(repeats, rounds)
        columns.append({name: value / times["the least"] for name, value in times.items()})
    rows = [row(name, *(column[name] for column in columns)) for name in columns[0]]
    return "\n".join(["| chain of | 1 event | 10 | 100 |", "|---|---|---|---|", *rows])


def row(name: str, *ratios: float) -> str:
    """Return a row of a Markdown table."""
    shown = (f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}" for ratio in ratios)
    return f"| {name} | {' | '.join(shown)} |"


async def measure(rounds: int = 201) -> str:
    """Return all tables, from so many slices for each contender. The order matters: the last ones fill the bus with event types."""
    return "\n\n".join(
        [
            await beside_peers(rounds),
            await with_def_listeners(rounds),
            await with_chains(rounds),
            await with_many_types(rounds),
        ]
    )
