"""The bus, point by point."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Generic, TypeVar

import anyio.from_thread
import pytest
from pydantic import ValidationError

from app.bus import CallNext, EndlessChain, Listener, Middleware, emit, listeners, name_of, on
from app.events import Event, Startup

T = TypeVar("T")

pytestmark = pytest.mark.usefixtures("empty_bus")


class Ping(Event):
    number: int = 0


class LoudPing(Ping):
    pass


class Pong(Event):
    pass


def run(event: Event) -> list[Any]:
    return asyncio.run(emit(event))


def test_outputs_come_back_in_registration_order() -> None:
    @on(Ping)
    async def first(event: Ping) -> str:
        return f"first {event.number}"

    @on(Ping)
    def second(event: Ping) -> str:
        return f"second {event.number}"

    assert run(Ping(number=7)) == ["first 7", "second 7"]


def test_an_event_that_nobody_listens_to_is_no_error() -> None:
    assert run(Ping()) == []


def test_a_listener_hears_subclasses_too() -> None:
    handled: list[Event] = []
    on(Event)(handled.append)
    on(Ping)(lambda event: handled.append(event))

    run(LoudPing())
    run(Pong())

    assert handled == [LoudPing(), LoudPing(), Pong()]


def test_order_holds_across_classes() -> None:
    on(Ping)(lambda event: "on Ping")
    on(Event)(lambda event: "on Event")
    on(LoudPing)(lambda event: "on LoudPing")

    assert run(LoudPing()) == ["on Ping", "on Event", "on LoudPing"]


def test_a_listener_of_two_classes_hears_an_event_once() -> None:
    def listener(event: Event) -> str:
        return "handled"

    on(Event)(listener)
    on(Ping)(listener)

    assert run(Ping()) == ["handled"]


def test_a_listener_can_join_later() -> None:
    assert run(Ping()) == []
    on(Ping)(lambda event: "late")
    assert run(Ping()) == ["late"]


def test_registering_twice_is_refused() -> None:
    @on(Ping)
    async def listener(event: Ping) -> None: ...

    with pytest.raises(ValueError, match=r"listener already listens to Ping\."):
        on(Ping)(listener)


def test_only_classes_of_event_can_be_listened_to() -> None:
    with pytest.raises(TypeError, match=r"@on takes an event class, .* not 'startup'\."):
        on("startup")  # type: ignore[arg-type]


def test_a_listener_takes_the_event() -> None:
    def startup_event() -> None: ...

    with pytest.raises(TypeError, match=r"startup_event must take one argument, the event\."):
        on(Startup)(startup_event)  # type: ignore[arg-type]


def test_a_listener_is_a_function() -> None:
    """Not what it returned."""
    coroutine = asyncio.sleep(0)
    for what in (None, "startup_event", coroutine):
        with pytest.raises(TypeError, match=r"builtins\.\w+ must take one argument, the event\."):
            on(Ping)(what)  # type: ignore[arg-type]
    coroutine.close()


def test_a_decorated_listener_is_called_as_it_is() -> None:
    def with_session(listener: Callable[[Event, str], Any]) -> Callable[[Event], Any]:
        @wraps(listener)
        async def call(event: Event) -> Any:
            return await listener(event, "session")

        return call

    @on(Ping)
    @with_session
    async def save(event: Event, session: str) -> str:
        return session

    assert run(Ping()) == ["session"]


def generator(event: Event) -> Iterator[int]:
    yield 1


async def async_generator(event: Event) -> AsyncIterator[int]:
    yield 1


class GeneratorObject:
    def __call__(self, event: Event) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    "listener", [generator, async_generator, partial(generator), GeneratorObject()]
)
def test_a_generator_would_never_run(listener: Listener) -> None:
    said = f"^{name_of(listener)} would never run: replace yield with return"
    with pytest.raises(TypeError, match=said):
        on(Ping)(listener)


def test_a_listener_need_not_be_hashable() -> None:
    @dataclass
    class Counter:
        count: int = 0

        def __call__(self, event: Event) -> int:
            self.count += 1
            return self.count

    counter = on(Ping)(Counter())

    assert run(Ping()) == [1]
    assert run(Ping()) == [2]
    with pytest.raises(ValueError, match="already listens to Ping"):
        on(Ping)(counter)


def test_a_built_in_function_can_listen() -> None:
    seen: set[Event] = set()
    on(Ping)(seen.add)

    run(Ping())

    assert seen == {Ping()}


def test_only_events_can_be_emitted() -> None:
    with pytest.raises(
        TypeError, match=r"emit takes an event, with its brackets: emit\(Startup\(\)\)"
    ):
        run(Ping)  # type: ignore[arg-type]


def test_an_event_never_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Ping().number = 1


def test_an_event_has_the_fields_it_says() -> None:
    with pytest.raises(ValidationError, match="colour"):
        Ping(colour="red")  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="number"):
        Ping(number="many")  # type: ignore[arg-type]


def test_events_can_be_generic() -> None:
    class Saved(Event, Generic[T]):
        item: T

    on(Saved)(lambda event: "saved")
    on(Saved[int])(lambda event: "saved a number")

    assert run(Saved[int](item=1)) == ["saved", "saved a number"]
    assert run(Saved[str](item="tea")) == ["saved"]


def test_an_event_that_is_also_a_dataclass_is_refused() -> None:
    @dataclass(frozen=True)
    class Both(Event):  # type: ignore[misc]
        item: str

    with pytest.raises(TypeError, match=r"Both: remove @dataclass; an Event is frozen already\."):
        on(Both)(lambda event: None)


def test_a_failing_listener_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    @on(Ping)
    async def broken(event: Ping) -> None:
        raise ValueError("broken")

    handled: list[Event] = []
    on(Ping)(handled.append)
    on(Ping)(raises_unusual)

    with pytest.raises(ExceptionGroup, match="Ping: 2 of 3 listeners failed") as raised:
        run(Ping())

    assert handled == [Ping()]
    assert [str(error) for error in raised.value.exceptions] == ["broken", "Unusual()"]
    record = caplog.records[0]
    assert (record.name, record.levelno) == ("app.bus", logging.ERROR)
    assert record.getMessage().endswith("broken failed on Ping")
    assert record.exc_info is not None  # with its stack


def endless_recursion(event: Event) -> None:
    endless_recursion(event)


async def recursive(event: Event) -> None:
    endless_recursion(event)


async def awaits_what_is_cancelled(event: Event) -> None:
    task = asyncio.create_task(asyncio.sleep(60))
    await asyncio.sleep(0)
    task.cancel()
    await task


async def raises_cancelled(event: Event) -> None:
    raise asyncio.CancelledError


class Unusual(BaseException):
    pass


async def raises_unusual(event: Event) -> None:
    raise Unusual


async def stops_iteration(event: Event) -> None:
    raise StopIteration


async def in_a_group(event: Event) -> None:
    raise BaseExceptionGroup("group", [Unusual()])


@pytest.mark.parametrize(
    "broken",
    [
        recursive,
        endless_recursion,
        awaits_what_is_cancelled,
        raises_cancelled,
        raises_unusual,
        stops_iteration,
        in_a_group,
    ],
)
def test_whatever_a_listener_raises_the_others_run(
    broken: Callable[[Event], Any], caplog: pytest.LogCaptureFixture
) -> None:
    on(Ping)(broken)
    on(Event)(lambda event: "after")

    with pytest.raises(ExceptionGroup, match="Ping: 1 of 2 listeners failed"):
        run(Ping())

    assert [record.getMessage().split()[-3:] for record in caplog.records] == [
        ["failed", "on", "Ping"]
    ]
    assert caplog.records[0].exc_info is not None


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_program_goes_through(error: type[BaseException]) -> None:
    @on(Ping)
    async def ends(event: Ping) -> None:
        raise error

    on(Ping)(lambda event: pytest.fail("it went on"))

    with pytest.raises(error):
        run(Ping())


def test_a_cancelled_task_ends_at_once() -> None:
    began = asyncio.Event()

    @on(Ping)
    async def slow(event: Ping) -> None:
        began.set()
        await asyncio.sleep(60)

    @on(Ping)
    async def after(event: Ping) -> None:
        pytest.fail("it went on")

    async def main() -> None:
        task = asyncio.create_task(emit(Ping()))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await emit(Ping())

    asyncio.run(main())


def test_listeners_run_in_the_task_of_the_caller() -> None:
    request_id: ContextVar[str] = ContextVar("request_id")
    tasks: list[object] = []

    @on(Ping)
    async def reader(event: Ping) -> str:
        tasks.append(asyncio.current_task())
        return request_id.get()

    @on(Ping)
    def reader_in_a_thread(event: Ping) -> str:
        return request_id.get()

    async def main() -> None:
        request_id.set("r1")
        assert await emit(Ping()) == ["r1", "r1"]
        assert tasks == [asyncio.current_task()]

    asyncio.run(main())


def test_a_def_listener_runs_in_a_thread() -> None:
    on(Ping)(lambda event: threading.current_thread())

    [thread] = run(Ping())

    assert thread is not threading.main_thread()


def test_an_object_with_an_async_call_is_awaited() -> None:
    class Listener:
        async def __call__(self, event: Ping) -> str:
            return "awaited"

    listener = Listener()
    on(Ping)(listener)
    on(Ping)(lambda event: listener(event))

    assert run(Ping()) == ["awaited", "awaited"]


def test_an_async_listener_takes_no_thread() -> None:
    class Listener:
        async def __call__(self, event: Ping) -> str:
            return "awaited"

    @on(Ping)
    async def listener(event: Ping) -> str:
        return "awaited too"

    on(Ping)(Listener())

    with pytest.raises(StopIteration) as returned:  # it waits for nothing, so it needs no loop
        emit(Ping()).send(None)
    assert returned.value.value == ["awaited too", "awaited"]


def test_a_handler_may_emit() -> None:
    @on(Ping)
    async def answer(event: Ping) -> list[Any]:
        return await emit(Pong())

    on(Pong)(lambda event: "pong")

    assert run(Ping()) == [["pong"]]


def test_a_long_chain_of_different_events_is_no_circle() -> None:
    class Last(Event):
        pass

    following: type[Event] = Last
    for number in range(40):

        async def pass_on(event: Event, following: type[Event] = following) -> list[Any]:
            return await emit(following())

        following = type(f"Step{number}", (Event,), {})
        on(following)(pass_on)
    last: list[Event] = []
    on(Last)(last.append)

    run(following())

    assert last == [Last()]


async def in_this_task(event: Event) -> None:
    await emit(event)


async def in_a_gather(event: Event) -> None:
    await asyncio.gather(emit(event))


async def in_a_task(event: Event) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(emit(event))


async def in_a_loop_of_its_own(event: Event) -> None:
    await asyncio.to_thread(asyncio.run, emit(event))


@pytest.mark.parametrize(
    "emit_somewhere", [in_this_task, in_a_gather, in_a_task, in_a_loop_of_its_own]
)
def test_a_circle_is_stopped_and_shown_once(
    emit_somewhere: Callable[[Event], Any], caplog: pytest.LogCaptureFixture
) -> None:
    calls = 0

    @on(Startup)
    async def begin(event: Startup) -> None:
        await emit_somewhere(Ping())

    @on(Ping)
    async def restock(event: Ping) -> None:
        nonlocal calls
        calls += 1
        await emit_somewhere(Pong())

    @on(Pong)
    async def reorder(event: Pong) -> None:
        await emit_somewhere(Ping())

    @on(Ping)
    async def never_called(event: Ping) -> None:
        nonlocal calls
        calls += 1000  # if a circle did not end at once, it would grow with each listener

    with pytest.raises(
        EndlessChain, match=r"^Ping -> Pong -> Ping \(restock, reorder\): "
    ) as raised:
        run(Startup())

    assert 10 < calls < 50
    assert str(raised.value).count("Pong") == 1
    assert not caplog.records


def test_a_long_circle_is_shown_in_order() -> None:
    circle = [type(f"Step{number}", (Event,), {}) for number in range(30)]
    for event_type, following in zip(circle, [*circle[1:], circle[0]], strict=True):

        async def pass_on(event: Event, following: type[Event] = following) -> None:
            await emit(following())

        on(event_type)(pass_on)

    names = [each.__name__ for each in (*circle, circle[0])]
    with pytest.raises(EndlessChain, match=f"^{' -> '.join(names)} \\(pass_on, "):
        run(circle[0]())


def test_a_circle_of_def_listeners_is_stopped() -> None:
    @on(Ping)
    def ping(event: Ping) -> None:
        anyio.from_thread.run(emit, Ping())

    with pytest.raises(EndlessChain, match=r"^Ping -> Ping \(ping\): "):
        run(Ping())


def test_many_events_of_one_class_are_no_circle() -> None:
    class Page(Event):
        depth: int

    @on(Page)
    async def crawl(event: Page) -> None:
        for _ in range(2000 if event.depth == 0 else 0):
            await emit(Page(depth=1))

    assert run(Page(depth=0)) == [None]


def test_a_circle_that_forks_into_tasks_is_stopped() -> None:
    calls = 0
    tasks: list[asyncio.Task[Any]] = []

    def detached(event: Event) -> None:
        nonlocal calls
        calls += 1
        tasks.append(asyncio.create_task(emit(event)))

    for event_type, following in ((Ping, Pong), (Pong, Ping)):
        for _ in range(2):

            @on(event_type)
            async def again(event: Event, following: type[Event] = following) -> None:
                detached(following())

    async def main() -> None:
        await emit(Ping())
        while running := [task for task in tasks if not task.done()]:
            await asyncio.wait(running)

    asyncio.run(main())

    assert calls < 100_000
    assert {type(task.exception()) for task in tasks} == {type(None), EndlessChain}


def test_a_circle_with_deep_calls_is_a_circle_too() -> None:
    async def deep(event: Event, frames: int) -> None:
        await (deep(event, frames - 1) if frames else emit(event))

    for event_type, following in ((Ping, Pong), (Pong, Ping)):
        for _ in range(2):

            @on(event_type)
            async def far(event: Event, following: type[Event] = following) -> None:
                await deep(following(), 40)

    with pytest.raises(EndlessChain, match=r"\(far, far\)"):
        run(Ping())


def test_an_event_may_come_again_below_itself() -> None:
    class Folder(Event):
        depth: int

    @on(Folder)
    async def scan(event: Folder) -> int:
        if not event.depth:
            return 1
        return sum([sum(await emit(Folder(depth=event.depth - 1))) for _ in range(2)])

    assert run(Folder(depth=8)) == [256]


def test_any_number_of_def_listeners_may_emit_at_once() -> None:
    @on(Ping)
    def ping(event: Ping) -> Any:
        time.sleep(0.1)  # until all threads are taken
        outputs: list[Any] = anyio.from_thread.run(emit, Pong())
        return outputs

    on(Pong)(lambda event: "pong")

    async def many() -> Any:
        async with asyncio.timeout(60):
            return await asyncio.gather(*(emit(Ping()) for _ in range(100)))

    assert asyncio.run(many()) == [[["pong"]]] * 100


def test_def_routes_may_emit_at_once() -> None:
    """Routes take threads of the same pool; listeners must not wait for those."""
    on(Ping)(lambda event: "ping")

    def route() -> Any:
        time.sleep(0.1)
        outputs: list[Any] = anyio.from_thread.run(emit, Ping())
        return outputs

    async def many() -> list[Any]:
        async with asyncio.timeout(60):
            return await asyncio.gather(*(anyio.to_thread.run_sync(route) for _ in range(100)))

    assert asyncio.run(many()) == [["ping"]] * 100


def test_who_listens_to_what_can_be_listed() -> None:
    @on(Event)
    async def auditor(event: Event) -> None: ...

    @on(Ping)
    async def counter(event: Ping) -> None: ...

    assert listeners(Ping) == [auditor, counter]
    assert listeners(Pong) == [auditor]
    assert name_of(counter).endswith("counter")
    assert name_of(partial(counter)) == name_of(counter)
    assert name_of(GeneratorObject()) == f"{__name__}.GeneratorObject"


def test_middleware_stands_around_every_call() -> None:
    seen: list[str] = []

    class Reporter(Middleware):
        def __init__(self, name: str) -> None:
            self.name = name

        def emitted(self, event: Event) -> None:
            seen.append(f"{self.name}: {type(event).__name__}")

        async def dispatch(self, call_next: CallNext, listener: Listener, event: Event) -> Any:
            output = await call_next(event)
            seen.append(f"{self.name}: {output} by {listener.__name__}")
            return output

    @on(Ping)
    def one(event: Ping) -> int:
        return 1

    @on(Ping)
    async def two(event: Ping) -> int:
        return 2

    with Reporter("outer"), Reporter("inner"):
        assert run(Ping()) == [1, 2]
        assert run(Pong()) == []
    run(Ping())

    assert seen == [
        *("outer: Ping", "inner: Ping"),
        *("inner: 1 by one", "outer: 1 by one", "inner: 2 by two", "outer: 2 by two"),
        *("outer: Pong", "inner: Pong"),
    ]
