"""What can happen: one frozen class an event."""

from dataclasses import dataclass
from typing import dataclass_transform
from uuid import UUID


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Event:
    """Something that happened. It is named in the past tense and never changes."""

    def __init_subclass__(cls) -> None:  # so that no class of event has to say it
        dataclass(frozen=True, kw_only=True)(cls)


class Startup(Event):
    """The app has started and is about to serve its first request."""


class Shutdown(Event):
    """The app is stopping: it has served its last request."""


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
class OrderPlaced(Event):
    """A customer placed an order."""

    order_id: UUID
    item: str
    quantity: int
