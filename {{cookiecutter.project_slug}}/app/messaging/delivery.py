"""What's the same for every broker: who gets an event, attempts, retries and dead letters."""

import asyncio
import logging
import re
import traceback
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import uuid4

from pydantic import BaseModel, Field
from pydantic_core import from_json

from app import bus
from app.events import IntegrationEvent
from app.messaging import cloudevents
from app.messaging.settings import BrokerUnavailable, settings

log = logging.getLogger(__name__)
broker: Any = None  # the one that's connected
attempt_number: ContextVar[int] = ContextVar("attempt_number", default=1)  # of what's in hand


class EventNotStored(Exception):
    """The broker is away or refused the event: try again. After a timeout, it may have it."""


# % if cookiecutter.broker != "postgres"
class EventTooLarge(Exception):
    """The event is over the broker's limit: there's no point in trying again."""


# % endif
class Subscription(NamedTuple):
    """One listener's subscription to the events of one class."""

    event_type: type[IntegrationEvent]
    listener: bus.Listener
    type: str  # of the event, as the document has it
    name: str  # of the subscription, for people


class DeadLetter(BaseModel):
    """An event that a listener couldn't handle."""

    id: str
    listener: str  # the name of the subscription
    type: str
    error: str
    attempts: int
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    document: bytes = Field(b"", exclude=True)  # as it came; stored beside the JSON of the rest


class Backlog(BaseModel):
    """What a subscription has to do."""

    waiting: int = 0
    oldest: int | None = None  # seconds since the oldest event came in; None: no event, or unknown
    in_hand: int | None = 0  # being handled, or due for another attempt; None: unknown
    dead_letters: int = 0


def event_types() -> list[type[IntegrationEvent]]:
    """Return the classes of integration events."""
    found = [IntegrationEvent]
    for parent in found:  # which grows
        found += [each for each in parent.__subclasses__() if each not in found]
    return found[1:]


def subscriptions() -> list[Subscription]:
    """Return one for each listener of each class; raise BrokerUnavailable for a bad name."""
    types = event_types()
    found = [
        Subscription(each, listener, each.__name__, f"{each.__name__}.{bus.name_of(listener)}")
        for each in types
        for listener in bus.listeners(each)
    ]
    names = [each.__name__ for each in types] + [each.name for each in found]
    for name in names:
        if names.count(name) > 1 or "<" in name:
            raise BrokerUnavailable(f"{name} must be one def or class at a module's top level.")
    return found


def safe(name: str) -> str:
    """Return `name` with only letters, digits and _.-, which every broker allows."""
    return re.sub(r"[^\w.]", lambda found: f"-{ord(found[0]):x}", name, flags=re.ASCII)


async def attempt(
    subscription: Subscription, document: bytes, number: int, renew: Any = None
) -> float | DeadLetter | None:
    """Let the listener handle `document`, for attempt `number` (from 1); call `renew` meanwhile.

    Returns None if it's handled, the seconds until the next attempt, or the dead letter to store.
    """
    renewing = asyncio.create_task(_renew(renew)) if renew else None
    try:
        final = True  # another attempt can't repair the document
        if number > settings.max_attempts:
            raise ChildProcessError(f"the process ended in each of {number - 1} attempts")
        event, trace = cloudevents.decode(document, subscription.event_type)
        final = number == settings.max_attempts
        cloudevents.trace.set(trace)
        attempt_number.set(number)
        await bus.caller(subscription.listener)(event)
        return None
    except BaseException as error:  # also what a Rust extension raises when it panics
        ending = (task := asyncio.current_task()) and task.cancelling()
        if ending or isinstance(error, KeyboardInterrupt | GeneratorExit):
            raise
        log.exception("%s failed, attempt %s", subscription.name, number)
        if not final:
            return backoff(number)
        said = "".join(traceback.format_exception_only(error)).strip()[:1000]
        letter: Any = {"id": str(uuid4()), "listener": subscription.name, "type": subscription.type}
        with suppress(ValueError, TypeError, KeyError):  # if it has an id
            letter["id"] = str(from_json(document)["id"])
        letter |= {"error": said.encode(errors="replace").decode(), "document": document}
        return DeadLetter(**letter, attempts=min(number, settings.max_attempts))
    finally:
        while renewing and renewing.cancel():  # Python 3.11's wait_for may swallow one
            await asyncio.wait([renewing], timeout=settings.timeout)  # it mustn't come after this


async def _renew(renew: Any) -> None:
    while True:
        await asyncio.sleep(settings.lease / 3)
        with suppress(Exception):  # the broker may be away; the next time counts
            await renew()


def backoff(number: int) -> float:
    """Return the seconds from attempt `number` to the next one: at most the lease."""
    return min(settings.backoff * 2.0 ** (number - 1), settings.lease)


async def status() -> dict[str, Backlog]:
    """Return each listener's backlog by name, including removed ones that left dead letters."""
    found = {each.name: await broker.backlog(each) for each in subscriptions()}
    for _, letter in await broker.dead_letters():
        found.setdefault(letter.listener, Backlog()).dead_letters += 1
    return found
