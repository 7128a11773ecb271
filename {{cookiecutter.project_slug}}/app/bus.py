"""The event-emit helper: `on` registers a listener, `emit` calls the listeners of an event."""

import logging
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from inspect import isawaitable, iscoroutinefunction, signature
from itertools import count
from typing import Any, TypeVar

from fastapi.concurrency import run_in_threadpool

from app.events import Event

E = TypeVar("E", bound=Event)
T = TypeVar("T")
Listener = Callable[[Any], Any]  # takes the event; `async def` or `def`

watchers: list[Any] = []  # see app/watch.py
registered: dict[type[Event], list[tuple[int, Listener]]] = {}  # with the order of all
_order = count()
_threads: ContextVar[int] = ContextVar("threads", default=0)  # held by the chain so far


class EndlessChain(RuntimeError):
    """Listeners emit in a circle; `args` are the events of the chain, from its first one on."""

    def __str__(self) -> str:
        return " -> ".join(type(event).__name__ for event in self.args[:6]) + " ... does not end"


def on(event_type: type[E]) -> Callable[[Callable[[E], T]], Callable[[E], T]]:
    """Register the decorated function for events of `event_type` and of its subclasses.

    Raises TypeError for what is no class of event or cannot be called with just the event,
    ValueError for a function that is registered for `event_type` already.
    """
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise TypeError(f"@on takes a class of event, as in @on(OrderPlaced), not {event_type!r}.")

    def register(listener: Callable[[E], T]) -> Callable[[E], T]:
        try:
            signature(listener).bind(event_type)
        except TypeError:
            raise TypeError(f"{name_of(listener)} must take one argument, the event.") from None
        known = registered.setdefault(event_type, [])
        if listener in (other for _, other in known):
            raise ValueError(f"{name_of(listener)} already listens to {event_type.__name__}.")
        known.append((next(_order), listener))
        calls.clear()
        return listener

    return register


async def emit(event: Event) -> list[Any]:
    """Call the listeners of `event` one after the other; return what they returned, in order.

    Raises ExceptionGroup when all were called and some failed, EndlessChain, or TypeError.
    """
    if watchers:
        for watcher in watchers:
            watcher.emitted(event)
    outputs: list[Any] = []
    failures: tuple[Exception, ...] = ()
    for call in calls[type(event)]:
        try:
            outputs.append(await call(event))
        except RecursionError as error:  # Python counts how deep we are, so `emit` need not
            raise EndlessChain(event) from error
        except EndlessChain as chain:
            raise EndlessChain(event, *chain.args) from chain.__cause__
        except Exception as error:
            name = name_of(listeners(type(event))[len(outputs) + len(failures)])
            logging.getLogger(__name__).exception("%s failed on %s", name, type(event).__name__)
            failures += (error,)
    if failures:
        ratio = f"{len(failures)} of {len(failures) + len(outputs)}"
        raise ExceptionGroup(f"{type(event).__name__}: {ratio} listeners failed", failures)
    return outputs


def listeners(event_type: type[Event]) -> list[Listener]:
    """Return who hears an event of `event_type`, each once, in registration order."""
    heard = sorted(pair for cls in event_type.__mro__ for pair in registered.get(cls, ()))
    return list(dict.fromkeys(listener for _, listener in heard))


def name_of(listener: Listener) -> str:
    """Return the dotted name by which a reader finds `listener`."""
    return f"{listener.__module__}.{getattr(listener, '__qualname__', type(listener).__name__)}"


async def _in_thread(listener: Listener, event: Event) -> Any:
    token = _threads.set(_threads.get() + 1)
    try:
        if _threads.get() > 20:  # of the 40 in the pool: a chain that takes all waits for ever
            raise EndlessChain
        output = await run_in_threadpool(listener, event)
        return await output if isawaitable(output) else output
    finally:
        _threads.reset(token)


class _Calls(dict[type[Event], list[Listener]]):
    """What to await for an event of each class, worked out once."""

    def __missing__(self, event_type: type[Event]) -> list[Listener]:
        if not issubclass(event_type, Event):
            raise TypeError("emit takes an event, such as Startup(), with its brackets.")
        self[event_type] = []
        for listener in listeners(event_type):
            call = listener if iscoroutinefunction(listener) else partial(_in_thread, listener)
            for watcher in watchers:
                call = partial(watcher.call, listener, call)
            self[event_type].append(call)
        return self[event_type]


calls = _Calls()
