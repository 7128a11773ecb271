"""What can happen: one frozen class an event."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict


class Event(BaseModel):
    """Something that happened. It is named in the past tense and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Startup(Event):
    """The app has started and is about to serve its first request."""


class Shutdown(Event):
    """The app is stopping: it has served its last request."""


class OrderPlaced(Event):
    """A customer placed an order."""

    order_id: UUID
    item: str
    quantity: int
