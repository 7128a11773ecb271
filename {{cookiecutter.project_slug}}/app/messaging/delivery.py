"""What holds for every broker: who gets an event, how often it's attempted, where it ends.

An adapter is a class `Broker` in broker.py. It stores and fetches; what to do with an event, it asks
`attempt`. It is made with the subscriptions that it shall serve, and offers:

- max_bytes: the largest document that the broker takes, or None; known once connected
- connect(): make all that's needed at the broker; raise BrokerUnavailable
- consume(): start serving the subscriptions, `settings.concurrency` events at a time each
- finish(): take no new events; return when those in hand are done, also if the broker is away
- close(): disconnect; called also when connect() has failed
- publish(type, id, document, key): return when it's stored; raise EventNotStored or EventTooLarge
- ping(): raise any exception if the broker is away
- backlog(subscription): return a Backlog, without its dead letters
- dead_letters(): return a list of (place, DeadLetter), the oldest first
- replay(place, letter): give it to its listener again, as new, and take it out of the dead letters
"""

import asyncio
import logging
import re
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from app import bus
from app.events import IntegrationEvent
from app.messaging import cloudevents
from app.messaging.settings import BrokerUnavailable, settings

log = logging.getLogger(__name__)
broker: Any = None  # the Broker that is connected


class EventNotStored(Exception):
    """The broker is away or refused the event: nothing has happened, try again later."""


class EventTooLarge(Exception):
    """The event is larger than the broker's limit; it makes no sense to try again."""


@dataclass(frozen=True)
class Subscription:
    """One listener's subscription to the events of one class."""

    event_type: type[IntegrationEvent]
    listener: bus.Listener = field(compare=False)
    name: str

    @property
    def type(self) -> str:
        """The type of event, as the document has it."""
        return self.event_type.__name__


class DeadLetter(BaseModel):
    """An event that a listener couldn't handle. Its document is stored beside it, as it came."""

    id: str
    listener: str  # the name of its subscription
    type: str
    error: str
    attempts: int
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    document: bytes = Field(b"", exclude=True)

    def header(self) -> str:
        """Return all but the document as one line of ASCII."""
        return self.model_dump_json(ensure_ascii=True)


class Backlog(BaseModel):
    """What a subscription has to do."""

    waiting: int = 0
    oldest: float | None = None  # the age in seconds of the oldest event that isn't handled
    in_hand: int = 0  # being handled, or due for another attempt
    dead_letters: int = 0


def event_types() -> list[type[IntegrationEvent]]:
    """Return all classes of integration events.

    Raises BrokerUnavailable if two have the same name, or if a partition key is no field.
    """

    def below(parent: type[IntegrationEvent]) -> Iterator[type[IntegrationEvent]]:
        for each in parent.__subclasses__():
            yield each
            yield from below(each)

    found = list(dict.fromkeys(below(IntegrationEvent)))
    for each in found:
        if each.partition_key and each.partition_key not in each.model_fields:
            raise BrokerUnavailable(
                f"{each.__name__} has no field {each.partition_key}: correct its partition_key."
            )
    _check_unique([each.__name__ for each in found], "classes of events")
    return found


def subscriptions() -> list[Subscription]:
    """Return a subscription for each listener of each class of integration events.

    Raises BrokerUnavailable if two would have the same name, and share their events.
    """
    found = [
        Subscription(event_type, listener, f"{event_type.__name__}.{bus.name_of(listener)}")
        for event_type in event_types()
        for listener in bus.listeners(event_type)
    ]
    _check_unique([each.name for each in found], "listeners")
    for each in found:
        if "<" in each.name:
            raise BrokerUnavailable(f"{each.name} needs a lasting name: make it a module's def.")
    return found


def _check_unique(names: list[str], what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise BrokerUnavailable(f"{count} {what} are called {name}: rename all but one.")


def safe(name: str) -> str:
    """Return `name` with nothing but letters, digits and _.- in it, as any broker allows."""
    return re.sub(r"[^\w.]", lambda found: f"-{ord(found[0]):x}", name, flags=re.ASCII)


async def attempt(
    subscription: Subscription,
    document: bytes,
    number: int,
    renew: Callable[[], Awaitable[Any]] | None = None,
) -> float | DeadLetter | None:
    """Let the listener handle `document`; it's attempt `number`, from 1 on.

    `renew`, if there is one, is called in every third of the lease while the listener runs.
    Returns None if it's handled, the seconds to wait before the next attempt if it failed, and the
    dead letter to store if there's no next attempt.
    """
    error = f"The process ended during each of {settings.max_attempts} attempts."
    if number <= settings.max_attempts:
        try:
            event, trace = cloudevents.decode(document, subscription.event_type)
            token = cloudevents.trace.set(trace)
            try:
                with _renewing(renew):
                    await bus.caller(subscription.listener)(event)
                return None
            finally:
                cloudevents.trace.reset(token)
        except cloudevents.InvalidDocument as invalid:
            error = f"not a valid event: {invalid}"
        except (Exception, SystemExit, asyncio.CancelledError) as failure:
            if (task := asyncio.current_task()) and task.cancelling():
                raise
            of = f"attempt {number} of {settings.max_attempts}"
            log.exception("%s failed on %s", subscription.name, of)
            if number < settings.max_attempts:
                return backoff(number)
            error = "".join(traceback.format_exception_only(failure)).strip()
    log.error("%s: a dead letter: %s", subscription.name, error)
    return DeadLetter(
        id=cloudevents.id_of(document),
        listener=subscription.name,
        type=subscription.type,
        error=error[:1000].encode(errors="backslashreplace").decode(),
        attempts=min(number, settings.max_attempts),
        document=document,
    )


def backoff(number: int) -> float:
    """Return the seconds from attempt `number` to the next one; the lease at most."""
    return min(settings.backoff * 2.0 ** (number - 1), settings.lease)


@contextmanager
def _renewing(renew: Callable[[], Awaitable[Any]] | None) -> Iterator[None]:
    if renew is None:
        yield
        return
    loop, tasks = asyncio.get_running_loop(), set()

    async def again() -> None:
        try:
            await renew()
        except Exception as error:  # the broker may be away; what counts is the next time
            log.warning("A lease wasn't renewed: %r", error)

    def tick() -> None:
        nonlocal timer
        tasks.add(task := loop.create_task(again()))
        task.add_done_callback(tasks.discard)
        timer = loop.call_later(settings.lease / 3, tick)

    timer = loop.call_later(settings.lease / 3, tick)
    try:
        yield
    finally:
        timer.cancel()


async def status() -> dict[str, Backlog]:
    """Return the backlog of each subscription, by name; also of one that has only dead letters."""
    found = {each.name: await broker.backlog(each) for each in subscriptions()}
    for _, letter in await broker.dead_letters():
        found.setdefault(letter.listener, Backlog()).dead_letters += 1
    return found
