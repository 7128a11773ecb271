"""The event-emit helper: `on` registers a listener, `emit` calls the listeners of an event."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache, partial
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
middleware: list["Middleware"] = []  # the first one is the outermost; use() adds one
# % if cookiecutter.broker != "none"
publish: Callable[[IntegrationEvent], Awaitable[None]] | None = None  # while a broker is connected
# % endif
_chain: ContextVar[tuple[Any, ...]] = ContextVar("chain", default=())  # the emits that led here
_limiter = lru_cache(maxsize=128)(lambda loop, depth: CapacityLimiter(40))  # of threads


class EndlessChain(RuntimeError):
    """Listeners emit in a circle. The message shows one round of it."""


class Middleware:
    """Sees what the bus does. Override what you need, then `with use(YourOwn()):`."""

    def emitted(self, event: Event) -> None:
        """`event` was emitted; its listeners, if it has any, are called next."""

    async def dispatch(self, call_next: CallNext, listener: Listener, event: Event) -> Any:
        """Stand around one call of `listener`: await `call_next(event)`, return what it returns."""
        return await call_next(event)


def on(event_type: type[E]) -> Callable[[Callable[[E], T]], Callable[[E], T]]:
    """Register the decorated function for events of `event_type` and of its subclasses.

    Raises TypeError for what is no class of event and for what can't be called with just the
    event, ValueError for a function that listens to `event_type` already.
    """
    _check_event_type(event_type, "@on takes a class of event, as in @on(OrderPlaced)")

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

    Raises ExceptionGroup when all were called and some failed, EndlessChain when listeners emit
    in a circle, TypeError for what is no event.
    """
    for each in middleware:
        each.emitted(event)
    # % if cookiecutter.broker != "none"
    if publish and isinstance(event, IntegrationEvent):
        await publish(event)
        return []
    # % endif
    event_type = type(event)
    outputs: list[Any] = []
    failures: tuple[Exception, ...] = ()
    chain = _chain.get() + ((event_type, outputs),)  # noqa: RUF005 (half the time of unpacking)
    if len(chain) > 12:
        _refuse_circle(chain)
    token = _chain.set(chain)
    try:
        for call in _calls(event_type):
            try:
                outputs.append(await call(event))
            except BaseException as error:
                if ending := _what_ends_emit(error):
                    raise ending from None
                name = name_of(listeners(event_type)[len(outputs)])
                logging.getLogger(__name__).exception("%s failed on %s", name, event_type.__name__)
                outputs.append(None)
                failures += (error if isinstance(error, Exception) else RuntimeError(repr(error)),)
    finally:
        _chain.reset(token)
    if failures:
        ratio = f"{len(failures)} of {len(outputs)}"
        raise ExceptionGroup(f"{event_type.__name__}: {ratio} listeners failed", failures)
    return outputs


def listeners(event_type: type[Event]) -> list[Listener]:
    """Return the listeners of events of `event_type`, each once, in registration order."""
    found = [listener for listens_to, listener in registered if listens_to in event_type.__mro__]
    return [listener for at, listener in enumerate(found) if listener not in found[:at]]


def name_of(listener: Listener) -> str:
    """Return the dotted name by which a reader finds `listener`."""
    named: Any = listener if hasattr(listener, "__qualname__") else type(listener)
    return f"{named.__module__}.{named.__qualname__}"


def caller(listener: Listener) -> CallNext:
    """Return what calls `listener` with an event: inside the middleware, a `def` in a thread."""
    is_async = any(map(inspect.iscoroutinefunction, (listener, type(listener).__call__)))
    call = listener if is_async else partial(_call_in_thread, listener)
    for each in reversed(middleware):
        call = partial(each.dispatch, call, listener)
    return call


@contextmanager
def use(added: Middleware) -> Iterator[None]:
    """Add a middleware, inside the others, while the `with` block runs."""
    middleware.append(added)
    _calls.cache_clear()
    try:
        yield
    finally:
        middleware.remove(added)
        _calls.cache_clear()


@cache
def _calls(event_type: type[Event]) -> list[CallNext]:
    _check_event_type(event_type, "emit takes an event with its brackets, such as Startup()")
    return [caller(listener) for listener in listeners(event_type)]


async def _call_in_thread(listener: Listener, event: Event) -> Any:
    # With one limit for all depths, 40 listeners that emit could wait for each other for ever.
    limiter = _limiter(asyncio.get_running_loop(), len(_chain.get()))
    output = await to_thread.run_sync(listener, event, limiter=limiter)
    return await output if inspect.isawaitable(output) else output


def _what_ends_emit(error: BaseException) -> BaseException | None:
    """Return what goes through all listeners at once; None if `error` is one listener's failure."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_what_ends_emit, error.exceptions)), None)
    if isinstance(error, asyncio.CancelledError):  # of this task, or of one that it awaited?
        return error if (task := asyncio.current_task()) is None or task.cancelling() else None
    if isinstance(error, EndlessChain):
        return EndlessChain(*error.args)  # without the frames of all rounds
    return error if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit) else None


def _refuse_circle(chain: tuple[Any, ...]) -> None:
    events = [event_type for event_type, _ in chain]
    same = [at for at, event_type in enumerate(events) if event_type is events[-1]]
    if len(same) > 12 or (len(same) > 1 and len(chain) > 100):  # Python itself allows some 300
        circle = " -> ".join(event_type.__name__ for event_type in events[same[-2] :])
        running = [listeners(event)[len(outputs) :][:1] for event, outputs in chain[same[-2] : -1]]
        names = ", ".join(name_of(each).split(".")[-1] for found in running for each in found)
        raise EndlessChain(f"{circle} ({names}): these listeners emit without end.")


def _check_event_type(event_type: Any, rule: str) -> None:
    if not (isinstance(event_type, type) and issubclass(event_type, Event)):
        raise TypeError(f"{rule}, not {event_type!r}.")
    if "__dataclass_fields__" in vars(event_type):
        raise TypeError(f"{event_type.__name__}: remove @dataclass; an Event is frozen already.")


def _check_listener(listener: Any) -> None:
    try:
        inspect.signature(listener).bind(None)
    except TypeError:
        raise TypeError(f"{name_of(listener)} must take one argument, the event.") from None
    except ValueError:
        return  # some built-in functions don't say what they take
    for each in (listener, type(listener).__call__):
        if inspect.isgeneratorfunction(each) or inspect.isasyncgenfunction(each):
            raise TypeError(f"{name_of(listener)} would never run: replace yield by return.")
