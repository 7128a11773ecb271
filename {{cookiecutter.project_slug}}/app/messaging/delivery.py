"""What holds for every broker: who gets an event, how often it's attempted, where it ends.

An adapter is a class `Broker` in broker.py, made with the subscriptions that it serves. It has:

- max_bytes: the broker's limit for a document, known once connected; None if it doesn't tell
- connect(): make what's needed at the broker; raise BrokerUnavailable
- consume(): hand events to `attempt`, and do what it returns; settings.concurrency in hand at most
- finish(): take no new events, and return when those in hand are done, also if the broker is away
- close(): disconnect, also after a connect() that failed
- publish(type, id, document, key): return when it's stored; raise EventNotStored, EventTooLarge
- ping(): raise any exception if the broker is away
- backlog(subscription): return its Backlog, without dead letters
- dead_letters(): return the dead letters, each with its place there, the oldest first
- replay(place, letter): give it to its listener again, as new, and take it out there
"""

import asyncio
import logging
import re
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from app import bus
from app.events import IntegrationEvent
from app.messaging import cloudevents
from app.messaging.settings import BrokerUnavailable, settings

log = logging.getLogger(__name__)
broker: Any = None  # the one that's connected


class EventNotStored(Exception):
    """The broker is away or refused the event: nothing has happened, try again later."""


class EventTooLarge(Exception):
    """The event is over the broker's limit: there's no sense in trying again."""


@dataclass(frozen=True, eq=False)
class Subscription:
    """One listener's subscription to the events of one class."""

    event_type: type[IntegrationEvent]
    listener: bus.Listener
    type: str  # of the event, as the document has it
    name: str  # of the subscription, for people


class DeadLetter(BaseModel):
    """An event that a listener couldn't handle; its JSON, one line of ASCII, is stored beside it."""

    id: str
    listener: str  # the name of the subscription
    type: str
    error: str
    attempts: int
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    document: bytes = Field(b"", exclude=True)  # as it came

    def header(self) -> str:
        return self.model_dump_json(ensure_ascii=True)


class Backlog(BaseModel):
    """What a subscription has to do."""

    waiting: int = 0
    oldest: float | None = None  # seconds since the oldest event came in; None if that isn't known
    in_hand: int = 0  # events being handled, or due for another attempt
    dead_letters: int = 0


def event_types() -> list[type[IntegrationEvent]]:
    """Return the classes of integration events; raise BrokerUnavailable for one that can't work."""
    found = [IntegrationEvent]
    for parent in found:  # which grows
        found += [each for each in parent.__subclasses__() if each not in found]
    for each in found[1:]:
        if each.partition_key and each.partition_key not in each.model_fields:
            wrong = f"{each.__name__} has no field {each.partition_key}"
            raise BrokerUnavailable(f"{wrong}: correct its partition_key.")
    _check_unique([each.__name__ for each in found], "classes of events")
    return found[1:]


def subscriptions() -> list[Subscription]:
    """Return a subscription for each listener of each class of integration events.

    Raises BrokerUnavailable if a listener's name isn't its own, or doesn't last.
    """
    found = [
        Subscription(each, listener, each.__name__, f"{each.__name__}.{bus.name_of(listener)}")
        for each in event_types()
        for listener in bus.listeners(each)
    ]
    names = [each.name for each in found]
    _check_unique(names, "listeners")
    for name in names:
        if "<" in name:
            raise BrokerUnavailable(f"{name} needs a lasting name: make it a def of a module.")
    return found


def _check_unique(names: list[str], what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise BrokerUnavailable(f"{count} {what} are called {name}: rename all but one.")


def safe(name: str) -> str:
    """Return `name` with letters, digits and _.- only, as every broker allows."""
    return re.sub(r"[^\w.]", lambda found: f"-{ord(found[0]):x}", name, flags=re.ASCII)


async def attempt(
    subscription: Subscription,
    document: bytes,
    number: int,
    renew: Callable[[], Awaitable[Any]] | None = None,
) -> float | DeadLetter | None:
    """Let the listener handle `document`, for attempt `number` (from 1); call `renew` meanwhile.

    Returns None if it's handled, the seconds to wait before the next attempt if it failed, and the
    dead letter to store if there's no next attempt.
    """
    renewing = asyncio.create_task(_renew(renew)) if renew else None
    try:
        if number > settings.max_attempts:
            raise ChildProcessError(f"the process ended in each of {number - 1} attempts")
        event, trace = cloudevents.decode(document, subscription.event_type)
        token = cloudevents.trace.set(trace)
        try:
            await bus.caller(subscription.listener)(event)
        finally:
            cloudevents.trace.reset(token)
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        log.exception("%s failed, attempt %s", subscription.name, number)
        if number < settings.max_attempts and not isinstance(error, cloudevents.InvalidDocument):
            return backoff(number)
        said = "".join(traceback.format_exception_only(error)).strip()
        return DeadLetter(
            id=cloudevents.id_of(document),
            listener=subscription.name,
            type=subscription.type,
            error=said[:1000].encode(errors="backslashreplace").decode(),
            attempts=min(number, settings.max_attempts),
            document=document,
        )
    finally:
        if renewing:
            renewing.cancel()
    return None


async def _renew(renew: Callable[[], Awaitable[Any]]) -> None:
    while True:
        await asyncio.sleep(settings.lease / 3)
        with suppress(Exception):  # the broker may be away; the next time counts
            await renew()


def backoff(number: int) -> float:
    """Return the seconds from attempt `number` to the next one: the lease at most."""
    return min(settings.backoff * 2.0 ** (number - 1), settings.lease)


async def status() -> dict[str, Backlog]:
    """Return the backlog of each subscription, by name, also of one that's gone but for letters."""
    found = {each.name: await broker.backlog(each) for each in subscriptions()}
    for _, letter in await broker.dead_letters():
        found.setdefault(letter.listener, Backlog()).dead_letters += 1
    return found
