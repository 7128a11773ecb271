"""What can happen: one frozen class an event."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, ClassVar, dataclass_transform
from uuid import UUID, uuid4

from pydantic import AwareDatetime, Field


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Event:
    """Something that happened. It is named in the past tense and never changes."""

    def __init_subclass__(cls) -> None:  # so that no class of event has to say it
        dataclass(frozen=True, kw_only=True)(cls)


class Startup(Event):
    """The app has started and is about to serve its first request."""


class Shutdown(Event):
    """The app is stopping: it has served its last request."""


class SharedEvent(Event):
    """An event that may leave this process. One that is delivered twice keeps its id."""

    ordered_by: ClassVar[str] = ""  # a field: events in which it is the same belong in order
    id: Annotated[str, Field(min_length=1)] = field(default_factory=lambda: str(uuid4()))
    time: AwareDatetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def order_key(self) -> str:
        """What the events that belong in order have in common; nothing if the order is no matter."""
        return str(getattr(self, self.ordered_by)) if self.ordered_by else ""


# % if cookiecutter.lesson == "student"
# Your own events, for exercises 2 and 3, go here. Their fields are up to you.


# % endif
# % if cookiecutter.lesson == "solution"
class StockRanLow(Event):
    """An order left little of an item on the shelf."""

    item: str


class DeliveryArrived(Event):
    """A supplier brought an item."""

    item: str
    quantity: int


# % endif
class OrderPlaced(SharedEvent):
    """A customer placed an order."""

    ordered_by = "order_id"
    order_id: UUID
    item: str
    quantity: int
