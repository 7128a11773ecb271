"""How an event looks on the wire: one JSON document, a CloudEvent 1.0 (cloudevents.io)."""

from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, create_model
from pydantic_core import to_json

from app.events import IntegrationEvent
from app.messaging.settings import SERVICE

CONTENT_TYPE = "application/cloudevents+json"
# The attributes of CloudEvents' distributed tracing extension, for what is published next.
trace: ContextVar[dict[str, str] | None] = ContextVar("trace", default=None)


class Document(BaseModel):
    """A CloudEvent. It may have more attributes; those are ignored."""

    specversion: Literal["1.0"]
    id: str = Field(min_length=1)
    source: str = Field(min_length=1)
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    datacontenttype: Literal["application/json"] = "application/json"
    traceparent: Any = None
    tracestate: Any = None


@cache
def document_of(event_type: type[IntegrationEvent]) -> Any:
    """Return the model of the documents that hold an event of `event_type`."""
    name, about = event_type.__name__, event_type.__doc__
    fields: Any = {"type": Literal[name], "data": event_type}
    return create_model(f"{name}CloudEvent", __base__=Document, __doc__=about, **fields)


def encode(event: IntegrationEvent) -> bytes:
    """Return the document of `event`."""
    data = event.model_dump(mode="json", by_alias=True, exclude={"id", "time"})
    document: dict[str, Any] = {"specversion": "1.0", "id": event.id, "source": f"/{SERVICE}"}
    document |= {"type": type(event).__name__, "time": event.time, **(trace.get() or {})}
    return to_json(document | {"datacontenttype": "application/json", "data": data})


def decode(document: bytes, event_type: type[IntegrationEvent]) -> tuple[Any, dict[str, str]]:
    """Return the event in `document`, and its trace; raise ValueError if it's of another type."""
    lenient = {"extra": "ignore", "by_alias": True, "by_name": True}  # a newer version has more
    try:
        read = document_of(event_type).model_validate_json(document, **lenient)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        said = ((".".join(map(str, each["loc"])) or "document", each["msg"]) for each in wrong)
        raise ValueError("; ".join(map(": ".join, said))) from None
    trace = {name: value for name, value in read if "trace" in name and isinstance(value, str)}
    return read.data.model_copy(update={"id": read.id, "time": read.time}), trace
