"""What can happen: one frozen class an event."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID, uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


class Event(BaseModel):
    """Something that happened. It is named in the past tense and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Startup(Event):
    """The app has started and is about to serve its first request."""


class Shutdown(Event):
    """The app is stopping: it has served its last request."""


class SharedEvent(Event):
    """An event that may leave this process. One that is delivered twice keeps its id."""

    id: Annotated[str, Field(min_length=1)] = Field(default_factory=lambda: str(uuid4()))
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))


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

    order_id: UUID
    item: str
    quantity: int
