"""The bus, point by point."""

import asyncio
import logging
import threading
from contextvars import ContextVar
from dataclasses import FrozenInstanceError
from typing import Any

import anyio.from_thread
import pytest

from app.bus import EndlessChain, Listener, emit, listeners, name_of, on
from app.events import Event, Startup
from app.watch import Watcher, watch

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


def test_an_event_that_nobody_hears_is_no_error() -> None:
    assert run(Ping()) == []


def test_a_listener_hears_subclasses_too() -> None:
    heard: list[Event] = []
    on(Event)(heard.append)
    on(Ping)(lambda event: heard.append(event))

    run(LoudPing())
    run(Pong())

    assert heard == [LoudPing(), LoudPing(), Pong()]


def test_order_holds_across_classes() -> None:
    on(Ping)(lambda event: "on Ping")
    on(Event)(lambda event: "on Event")
    on(LoudPing)(lambda event: "on LoudPing")

    assert run(LoudPing()) == ["on Ping", "on Event", "on LoudPing"]


def test_a_listener_of_two_classes_hears_an_event_once() -> None:
    def listener(event: Event) -> str:
        return "heard"

    on(Event)(listener)
    on(Ping)(listener)

    assert run(Ping()) == ["heard"]


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
    with pytest.raises(TypeError, match=r"@on takes a class of event, .* not 'startup'\."):
        on("startup")  # type: ignore[arg-type]


def test_a_listener_takes_the_event() -> None:
    def startup_event() -> None: ...

    with pytest.raises(TypeError, match=r"startup_event must take one argument, the event\."):
        on(Startup)(startup_event)  # type: ignore[arg-type]


def test_only_events_can_be_emitted() -> None:
    with pytest.raises(TypeError, match=r"emit takes an event, such as Startup\(\)"):
        run(Ping)  # type: ignore[arg-type]


def test_an_event_never_changes() -> None:
    with pytest.raises(FrozenInstanceError, match="number"):
        Ping().number = 1  # type: ignore[misc]


def test_an_event_has_the_fields_it_says() -> None:
    with pytest.raises(TypeError, match="colour"):
        Ping(colour="red")  # type: ignore[call-arg]


def test_a_failing_listener_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    @on(Ping)
    async def broken(event: Ping) -> None:
        raise ValueError("broken")

    heard: list[Event] = []
    on(Ping)(heard.append)

    with pytest.raises(ExceptionGroup, match="Ping: 1 of 2 listeners failed") as raised:
        run(Ping())

    assert heard == [Ping()]
    assert [repr(error) for error in raised.value.exceptions] == ["ValueError('broken')"]
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().endswith("broken failed on Ping")
    assert record.exc_info is not None  # with its stack


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

    on(Ping)(Listener())

    assert run(Ping()) == ["awaited"]


def test_a_handler_may_emit() -> None:
    @on(Ping)
    async def answer(event: Ping) -> list[Any]:
        return await emit(Pong())

    on(Pong)(lambda event: "pong")

    assert run(Ping()) == [["pong"]]


def test_an_endless_chain_is_stopped() -> None:
    calls = 0

    @on(Ping)
    async def ping(event: Ping) -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        await emit(Pong())

    @on(Pong)
    async def pong(event: Pong) -> None:
        await emit(Ping())

    @on(Ping)
    async def also_ping(event: Ping) -> None:
        pytest.fail("an endless chain ends at once, or it would grow with each listener")

    with pytest.raises(EndlessChain, match=r"^Ping -> Pong -> Ping -> .* does not end"):
        run(Ping())
    assert 10 < calls < 1000


def test_an_endless_chain_of_threads_is_stopped() -> None:
    @on(Ping)
    def ping(event: Ping) -> None:
        anyio.from_thread.run(emit, Ping())

    with pytest.raises(EndlessChain, match=r"^Ping -> Ping -> .* does not end"):
        run(Ping())


def test_who_listens_to_what_can_be_listed() -> None:
    @on(Event)
    async def auditor(event: Event) -> None: ...

    @on(Ping)
    async def counter(event: Ping) -> None: ...

    assert listeners(Ping) == [auditor, counter]
    assert listeners(Pong) == [auditor]
    assert name_of(counter).endswith("counter")


def test_a_watcher_sees_every_call() -> None:
    seen: list[str] = []

    class Reporter(Watcher):
        def emitted(self, event: Event) -> None:
            seen.append(f"{type(event).__name__} emitted")

        async def call(self, listener: Listener, proceed: Listener, event: Event) -> Any:
            output = await proceed(event)
            seen.append(f"returned {output}")
            return output

    on(Ping)(lambda event: 1)

    @on(Ping)
    async def two(event: Ping) -> int:
        return 2

    with watch(Reporter()):
        assert run(Ping()) == [1, 2]
        assert run(Pong()) == []
    run(Ping())

    assert seen == ["Ping emitted", "returned 1", "returned 2", "Pong emitted"]
