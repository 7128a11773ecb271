"""The event bus: `on` registers a listener, `emit` calls the listeners of an event."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import cache, partial
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread

# % if cookiecutter.broker == "none"
from app.events import Event

# % else
from app.events import Event, IntegrationEvent

# % endif
E = TypeVar("E", bound=Event)
T = TypeVar("T")
Listener = Callable[[Any], Any]  # takes the event; `async def` or `def`
CallNext = Callable[[Event], Awaitable[Any]]

registered: list[tuple[type[Event], Listener]] = []
middleware: list["Middleware"] = []  # the first one is the outermost
# % if cookiecutter.broker != "none"
publish: Callable[[IntegrationEvent], Awaitable[None]] | None = None  # while a broker is connected
# % endif
_chain: ContextVar[Any] = ContextVar("chain", default=())  # the emits that led here, see _circle
log = logging.getLogger(__name__)


class EndlessChain(RuntimeError):
    """Listeners emit in a circle. The message shows one round of it."""


class Middleware:
    """Observes or wraps each call. Override what you need, then use it: `with YourOwn():`."""

    def __enter__(self) -> None:
        middleware.append(self)
        _calls.cache_clear()

    def __exit__(self, *_: object) -> None:
        middleware.remove(self)
        _calls.cache_clear()

    def emitted(self, event: Event) -> None:
        """`event` was emitted; its listeners, if it has any, are called next."""

    async def dispatch(self, call_next: CallNext, listener: Listener, event: Event) -> Any:
        """Wrap one call of `listener`: await `call_next(event)`, and return what it returns."""
        return await call_next(event)


def on(event_type: type[E]) -> Callable[[Callable[[E], T]], Callable[[E], T]]:
    """Register the decorated function for events of `event_type` and of its subclasses.

    Raises TypeError for what can't be an event or a listener, ValueError if it's registered already.
    """
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise TypeError(f"@on takes an event class, as in @on(OrderPlaced), not {event_type!r}.")
    if hasattr(event_type, "__dataclass_fields__"):
        raise TypeError(f"{event_type.__name__}: remove @dataclass; an Event is frozen already.")

    def register(listener: Callable[[E], T]) -> Callable[[E], T]:
        _check_listener(listener)
        if (event_type, listener) in registered:
            raise ValueError(f"{name_of(listener)} already listens to {event_type.__name__}.")
        registered.append((event_type, listener))
        _calls.cache_clear()
        return listener

    return register


async def emit(event: Event) -> list[Any]:
    """Call the listeners of `event` one after the other; return what they returned, in order.

    Raises ExceptionGroup if listeners failed, once all were called; EndlessChain if listeners emit
    in a circle; TypeError if `event` isn't an event.
    """
    calls = _calls(event_type := type(event))
    for each in middleware:
        each.emitted(event)
    # % if cookiecutter.broker != "none"
    if publish and isinstance(event, IntegrationEvent):
        await publish(event)
        return []
    # % endif
    outputs: list[Any] = []
    failures: tuple[Exception, ...] = ()
    outer = _chain.get()
    chain = (*outer, event_type, outputs) if outer else ([], event_type, outputs)
    if outer and (circle := _circle(chain, after=50)):
        raise EndlessChain(circle)
    token = _chain.set(chain)
    try:
        for call in calls:
            try:
                outputs.append(await call(event))
            except BaseException as error:
                if ending := _what_ends_emit(error):
                    raise ending.with_traceback(None) from None  # one round is enough to read
                listener = listeners(event_type)[len(outputs)]
                log.exception("%s failed on %s", name_of(listener), event_type.__name__)
                outputs.append(None)
                failures += (error if isinstance(error, Exception) else RuntimeError(repr(error)),)
    finally:
        _chain.reset(token)
    if failures:
        ratio = f"{len(failures)} of {len(outputs)}"
        raise ExceptionGroup(f"{event_type.__name__}: {ratio} listeners failed", failures)
    return outputs


def listeners(event_type: type[Event]) -> list[Listener]:
    """Return the listeners of `event_type`, each once, in registration order."""
    found = [listener for listens_to, listener in registered if listens_to in event_type.__mro__]
    return [listener for at, listener in enumerate(found) if listener not in found[:at]]


def caller(listener: Listener) -> CallNext:
    """Return a function to await, which calls `listener` in the middleware; a `def` in a thread."""
    is_async = any(map(inspect.iscoroutinefunction, (listener, type(listener).__call__)))
    call = listener if is_async else partial(_call_in_thread, listener)
    for each in reversed(middleware):
        call = partial(each.dispatch, call, listener)
    return call


def name_of(listener: Listener) -> str:
    """Return the dotted name by which a reader finds `listener`."""
    inner = getattr(listener, "func", listener)  # of a partial
    named = inner if inspect.isroutine(inner) or isinstance(inner, type) else type(inner)
    return f"{named.__module__}.{named.__qualname__}"


@cache
def _calls(event_type: type[Event]) -> list[CallNext]:
    if not issubclass(event_type, Event):
        raise TypeError("emit takes an event, with its brackets: emit(Startup()), for example.")
    return [caller(listener) for listener in listeners(event_type)]


async def _call_in_thread(listener: Listener, event: Event) -> Any:
    alone = CapacityLimiter(1)  # with a shared limit, those that emit could wait for each other
    output = await to_thread.run_sync(listener, event, limiter=alone)
    return await output if inspect.isawaitable(output) else output


def _circle(chain: Any, after: int = 0) -> str:
    """Return the last round of a chain that repeats an event and has more than `after` links."""
    repeats, types, outputs = chain[0], chain[1::2], chain[2::2]  # outputs: so far, of each event
    if types.count(types[-1]) == 1:
        return ""
    repeats.append(types[-1])  # counted in all branches together
    if len(types) <= after and len(repeats) < 10_000:
        return ""
    start = next(each for each in types if types.count(each) > 1)
    *_, begin, end = (at for at, each in enumerate(types) if each is start)
    running = [listeners(types[at])[len(outputs[at]) :][:1] for at in range(begin, end)]
    names = ", ".join(name_of(listener).split(".")[-1] for each in running for listener in each)
    arrows = " -> ".join(event_type.__name__ for event_type in types[begin : end + 1])
    return f"{arrows} ({names}): these listeners trigger each other."


def _what_ends_emit(error: BaseException) -> BaseException | None:
    """Return what ends `emit` at once; None if `error` is only one listener's failure."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_what_ends_emit, error.exceptions)), None)
    if isinstance(error, asyncio.CancelledError):  # of this task, or of one that it awaited?
        return error if (task := asyncio.current_task()) is None or task.cancelling() else None
    if isinstance(error, RecursionError) and (circle := _circle(_chain.get())):
        return EndlessChain(circle)
    ends = isinstance(error, EndlessChain | KeyboardInterrupt | SystemExit | GeneratorExit)
    return error if ends else None


def _check_listener(listener: Any) -> None:
    try:
        inspect.signature(listener, follow_wrapped=False).bind(None)
    except TypeError:
        raise TypeError(f"{name_of(listener)} must take one argument, the event.") from None
    except ValueError:
        return  # some built-in functions have no signature
    for each in (listener, type(listener).__call__):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(f"{name_of(listener)} would never run: replace yield with return.")
