"""How an event looks outside: one JSON document, as CloudEvents 1.0 has it (cloudevents.io)."""

from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, Field, ValidationError, create_model
from pydantic_core import to_json

from app.events import SharedEvent

SERVICE = "{{ cookiecutter.project_slug }}"
CONTENT_TYPE = "application/cloudevents+json"

Data = TypeVar("Data")
Text = Annotated[str, Field(min_length=1)]


class NotOurs(ValueError):
    """A document that is no event of this service; the message says why."""


class Document(BaseModel, Generic[Data]):
    """What every document has. What else CloudEvents allows may be there and is passed over."""

    specversion: Literal["1.0"]
    id: Text
    source: Text
    type: Text
    time: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    datacontenttype: Literal["application/json"] = "application/json"
    data: Data


Envelope = Document[dict[str, Any]]  # worked out once: it would be made anew for each event


def encode(event: SharedEvent) -> bytes:
    """Return the document of `event`."""
    document = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/{SERVICE}",
        "type": type(event).__name__,
        "time": event.time,
        "datacontenttype": "application/json",
        "data": event.model_dump(mode="json", exclude={"id", "time"}),
    }
    return to_json(document)


def decode(document: bytes, event_type: type[SharedEvent]) -> SharedEvent:
    """Return the event of `event_type` that `document` holds; raise NotOurs if it holds none."""
    try:
        read = Envelope.model_validate_json(document)
        if read.type != event_type.__name__:
            raise NotOurs(f"its type is {read.type!r}, not {event_type.__name__!r}")
        return event_type.model_validate(read.data | {"id": read.id, "time": read.time})
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        said = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'document'}: {each['msg']}" for each in wrong
        )
        raise NotOurs(said) from None


def id_of(document: bytes) -> str:
    """Return the id that `document` gives itself, or a new one if it gives none."""
    try:
        return Document[Any].model_validate_json(document).id
    except ValidationError:
        return str(uuid4())


@cache
def document_of(event_type: type[SharedEvent]) -> type[BaseModel]:
    """Return the model of the document of `event_type`, to describe it."""
    fields = {
        name: (field.annotation, field)
        for name, field in event_type.model_fields.items()
        if name not in SharedEvent.model_fields
    }
    name = event_type.__name__
    data = create_model(f"{name}Data", __doc__=event_type.__doc__, **fields)  # type: ignore[call-overload]
    return create_model(name, __base__=Document[data], __doc__=event_type.__doc__)  # type: ignore[valid-type]
