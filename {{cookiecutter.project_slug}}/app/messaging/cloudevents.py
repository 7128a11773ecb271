"""How an event looks on the wire: one JSON document, a CloudEvent 1.0 (cloudevents.io)."""

from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, create_model
from pydantic_core import from_json, to_json

from app.events import IntegrationEvent
from app.messaging.settings import SERVICE

CONTENT_TYPE = "application/cloudevents+json"

Data = TypeVar("Data")
Text = Annotated[str, Field(min_length=1)]
# What CloudEvents' distributed tracing extension adds to the events that are published next.
trace: ContextVar[dict[str, str]] = ContextVar("trace", default={})  # noqa: B039 (never changed)


class InvalidDocument(ValueError):
    """A document that isn't an event of the type. The message says why."""


class Document(BaseModel, Generic[Data]):
    """A CloudEvent; attributes that aren't listed here are allowed, and ignored."""

    specversion: Literal["1.0"]
    id: Text
    source: Text
    type: Text
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: Any = None
    tracestate: Any = None
    data: Data


@cache
def document_of(event_type: type[IntegrationEvent]) -> type[Document[Any]]:
    """Return the model of the documents that hold an event of `event_type`."""
    name: Any = event_type.__name__
    base = Document[event_type]  # type: ignore[valid-type]
    return create_model(name, __base__=base, __doc__=event_type.__doc__, type=(Literal[name], ...))


def encode(event: IntegrationEvent) -> bytes:
    """Return the document of `event`."""
    document = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/{SERVICE}",
        "type": type(event).__name__,
        "time": event.time,
        "datacontenttype": "application/json",
        **trace.get(),
        "data": event.model_dump(mode="json", by_alias=True, exclude={"id", "time"}),
    }
    return to_json(document)


def decode(
    document: bytes, event_type: type[IntegrationEvent]
) -> tuple[IntegrationEvent, dict[str, str]]:
    """Return the event in `document`, and its trace.

    Fields that this version of the service doesn't know are ignored: a newer one may have sent it.
    Raises InvalidDocument if it isn't an event of `event_type`.
    """
    try:
        read = document_of(event_type).model_validate_json(
            document, extra="ignore", by_alias=True, by_name=True
        )
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        reasons = (f"{'.'.join(map(str, each['loc'])) or 'document'}: {each['msg']}" for each in wrong)
        raise InvalidDocument("; ".join(reasons)) from None
    found = {"traceparent": read.traceparent, "tracestate": read.tracestate}
    event = read.data.model_copy(update={"id": read.id, "time": read.time})
    return event, {name: value for name, value in found.items() if isinstance(value, str)}


def id_of(document: bytes) -> str:
    """Return the id in `document`, or a new one if it has none."""
    try:
        return str(from_json(document)["id"])
    except (ValueError, TypeError, KeyError):
        return str(uuid4())
