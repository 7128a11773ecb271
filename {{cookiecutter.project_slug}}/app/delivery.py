"""What every engine promises: who gets an event, how often it is tried, where it ends."""

import asyncio
import base64
import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import BaseModel, Field

from app import bus
from app.cloudevents import NotOurs, decode, id_of
from app.events import SharedEvent

TRIES = 5
FIRST_WAIT = 1.0  # seconds from the first try to the second; each wait after it is twice as long
LEASE = 30.0  # seconds after which another instance takes over from one that was killed
AT_ONCE = int(os.environ.get("BROKER_AT_ONCE", "1"))  # events a listener has in hand; 1 keeps order


class EventNotStored(Exception):
    """The engine is away or refused the event: nothing has happened, try again later."""


class EngineUnusable(Exception):
    """The service cannot start with this engine; the message says what to do."""


@dataclass(frozen=True)
class Subscription:
    """One listener's own line of events of one class."""

    event_type: type[SharedEvent]
    listener: bus.Listener = field(compare=False)
    name: str

    @property
    def heard(self) -> str:
        """The type of event, as it is called outside."""
        return self.event_type.__name__


class _Here(dict[Subscription, bus.Listener]):
    """What to await in this process, while bus.calls sends events away; worked out once."""

    _calls = type(bus.calls)

    def __missing__(self, subscription: Subscription) -> bus.Listener:
        heard_by = bus.listeners(subscription.event_type)
        calls = self._calls()[subscription.event_type]
        call = self[subscription] = calls[heard_by.index(subscription.listener)]
        return call


here = _Here()


class Letter(BaseModel):
    """An event that one listener could not handle, as it lies among the dead letters."""

    id: str
    listener: str
    type: str
    error: str
    tries: int
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))
    document: str
    base64: bool = False

    @property
    def content(self) -> bytes:
        """The document as it came."""
        return base64.b64decode(self.document) if self.base64 else self.document.encode()


class Engine(Protocol):
    """What app/broker.py gives, whichever the engine: places to keep events, and nothing else."""

    async def connect(self) -> None:
        """Connect and make sure that every place exists; raise EngineUnusable if that fails."""

    async def consume(self) -> None:
        """Take events and hand each to `attempt`, until `finish`."""

    async def finish(self) -> None:
        """Take no new event; return once those in hand are done."""

    async def close(self) -> None:
        """Disconnect."""

    async def store(
        self, event_type: str, event_id: str, document: bytes, to: str = "", key: str = ""
    ) -> None:
        """Return once the document is kept, for all or for one; raise EventNotStored if not.

        Events with the same `key` belong together: an engine that can keep their order does.
        """

    async def answers(self) -> bool:
        """Say whether the engine is there."""

    async def letters(self) -> list[tuple[Any, Letter]]:
        """Return the dead letters, oldest first, each with its place, whatever that is here."""

    async def discard(self, place: Any) -> None:
        """Take the letter at `place` out."""


def subscriptions() -> list[Subscription]:
    """Return the subscription of each listener to each class of event that may leave.

    Raises EngineUnusable if two would have the same name: they would share one line of events.
    """
    found = [
        Subscription(kind, listener, f"{kind.__name__}.{bus.name_of(listener)}")
        for kind in shared_events()
        for listener in bus.listeners(kind)
    ]
    for name, count in Counter(each.name for each in found).items():
        if count > 1:
            raise EngineUnusable(f"{count} listeners are called {name}; rename all but one.")
        if "<" in name:
            raise EngineUnusable(f"{name} needs a name that stays: make it a def of a module.")
    return found


def shared_events() -> list[type[SharedEvent]]:
    """Return the classes of event that may leave, each name once."""

    def below(kind: type[SharedEvent]) -> Iterator[type[SharedEvent]]:
        for each in kind.__subclasses__():
            yield each
            yield from below(each)

    found = list(dict.fromkeys(below(SharedEvent)))
    for kind in found:
        if kind.ordered_by and kind.ordered_by not in kind.__dataclass_fields__:
            raise EngineUnusable(f"{kind.__name__} has no field {kind.ordered_by} to order it by.")
    for name, count in Counter(kind.__name__ for kind in found).items():
        if count > 1:
            raise EngineUnusable(f"{count} classes of event are called {name}; rename all but one.")
    return found


async def attempt(subscription: Subscription, document: bytes, tried: int) -> float | Letter | None:
    """Let the listener handle `document`, which was tried `tried` times before.

    Returns None when it is handled, the seconds to wait before the next try when it failed, or
    the letter to keep when there is no next try.
    """

    def letter(error: str, tries: int) -> Letter:
        logging.getLogger(__name__).error("%s gave up: %s", subscription.name, error)
        return write_letter(subscription, document, error, tries)

    if tried >= TRIES:
        return letter(f"each of {tried} tries ended with the process that made it", tried)
    try:
        event = decode(document, subscription.event_type)
    except NotOurs as error:
        return letter(f"not an event of ours: {error}", tried + 1)
    try:
        await here[subscription](event)
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        if (task := asyncio.current_task()) and task.cancelling():
            raise
        tries = f"try {tried + 1} of {TRIES}"
        logging.getLogger(__name__).exception("%s failed, %s", subscription.name, tries)
        if tried + 1 >= TRIES:
            return letter(f"{type(error).__name__}: {error}", tried + 1)
        return wait_after(tried + 1)
    return None


def wait_after(tried: int) -> float:
    """Return the seconds from try number `tried` to the next one, LEASE at most."""
    return float(min(FIRST_WAIT * 2 ** (tried - 1), LEASE))


def write_letter(subscription: Subscription, document: bytes, error: str, tries: int) -> Letter:
    """Return the letter about `document`, which is kept as it came, whatever it is."""
    try:
        text, encoded = document.decode(), False
    except UnicodeDecodeError:
        text, encoded = base64.b64encode(document).decode(), True
    return Letter(
        id=id_of(document),
        listener=subscription.name,
        type=subscription.heard,
        error=error[:1000],
        tries=tries,
        document=text,
        base64=encoded,
    )


def address_of(url: str, example: str) -> str:
    """Return `url` without name and password, so that it can be shown.

    Raises EngineUnusable for what is no URL such as `example`.
    """
    parts, wanted = urlsplit(url), urlsplit(example)
    try:
        port = parts.port or wanted.port
    except ValueError:
        port = None
    whole = port and parts.hostname and parts.scheme in (wanted.scheme, wanted.scheme + "s")
    if not whole or "@" in parts.path + parts.query + parts.fragment:
        login = example.replace("//", "//USER:PASSWORD@")
        rule = "write %2F for / and %40 for @ in the password"
        raise EngineUnusable(f"BROKER_URL must look like {example} or {login}; {rule}.")
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return f"{parts.scheme}://{host}:{port}"
