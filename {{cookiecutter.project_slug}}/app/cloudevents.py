"""How an event looks outside: one JSON document, as CloudEvents 1.0 has it (cloudevents.io)."""

from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar, get_type_hints
from uuid import uuid4

from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter, ValidationError, create_model
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


class _Checks(dict[type[SharedEvent], TypeAdapter[Any]]):
    """What holds the fields of an event against their types, worked out once for each class."""

    def __missing__(self, event_type: type[SharedEvent]) -> TypeAdapter[Any]:
        self[event_type] = TypeAdapter(event_type)
        return self[event_type]


_checks = _Checks()
_models: dict[type[SharedEvent], type[BaseModel]] = {}


def encode(event: SharedEvent) -> bytes:
    """Return the document of `event`; raise pydantic's ValidationError if a field is not its type.

    The one who emits it must hear of that: whoever takes it later could not read it.
    """
    check = _checks[type(event)]
    event = check.validate_python(vars(event))
    document = {
        "specversion": "1.0",
        "id": event.id,
        "source": f"/{SERVICE}",
        "type": type(event).__name__,
        "time": event.time,
        "datacontenttype": "application/json",
        "data": check.dump_python(event, mode="json", exclude={"id", "time"}),
    }
    return to_json(document)


def decode(document: bytes, event_type: type[SharedEvent]) -> SharedEvent:
    """Return the event of `event_type` that `document` holds; raise NotOurs if it holds none."""
    try:
        read = Envelope.model_validate_json(document)
        if read.type != event_type.__name__:
            raise NotOurs(f"its type is {read.type!r}, not {event_type.__name__!r}")
        found = read.data | {"id": read.id, "time": read.time}
        event: SharedEvent = _checks[event_type].validate_python(found, extra="forbid")
        return event
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


def document_of(event_type: type[SharedEvent]) -> type[BaseModel]:
    """Return the model of the document of `event_type`, to describe it; always the same one."""
    if event_type not in _models:
        types = get_type_hints(event_type, include_extras=True)
        inside = {
            field.name: (types[field.name], field)
            for field in fields(event_type)
            if field.name not in SharedEvent.__dataclass_fields__
        }
        name, about = event_type.__name__, event_type.__doc__
        data: Any = create_model(f"{name}Data", __doc__=about, **inside)  # type: ignore[call-overload]
        _models[event_type] = create_model(name, __base__=Document[data], __doc__=about)
    return _models[event_type]
