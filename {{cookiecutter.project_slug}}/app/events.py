"""What can happen: one frozen class for each event."""

# % if cookiecutter.broker != "none"
from datetime import UTC, datetime
from typing import Any, ClassVar
from uuid import UUID, uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field


# % else
from uuid import UUID

from pydantic import BaseModel, ConfigDict


# % endif
class Event(BaseModel):
    """Something that happened. It's named in the past tense and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# % if cookiecutter.broker != "none"
class IntegrationEvent(Event):
    """An event that may leave this process. If it's delivered twice, it has the same id."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")  # JSON has no bytes

    partition_key: ClassVar[str] = ""  # a field; events with the same value stay in order
    id: str = Field(default_factory=lambda: str(uuid4()), min_length=1)
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        if cls.partition_key and cls.partition_key not in cls.model_fields:
            raise TypeError(f"{cls.__name__}: partition_key must name a field.")
        if {"id", "time"} & cls.__annotations__.keys():
            raise TypeError(f"{cls.__name__} has an id and a time already: give yours other names.")


# % endif
class Startup(Event):
    """The app has started and is about to serve its first request."""


# % if cookiecutter.broker != "none"
class OrderPlaced(IntegrationEvent):
    """A customer placed an order."""

    partition_key = "order_id"
    order_id: UUID
    item: str
    quantity: int


# % else
class OrderPlaced(Event):
    """A customer placed an order."""

    order_id: UUID
    item: str
    quantity: int


# % endif
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
class Shutdown(Event):
    """The app is stopping: it has served its last request."""
