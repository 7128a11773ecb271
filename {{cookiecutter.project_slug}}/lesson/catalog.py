"""What the app has: its events, who listens to them, and its routes."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from pydantic.errors import PydanticUserError

from app.bus import listeners, name_of
from app.events import Event, Shutdown, Startup


def event_types(base: type[Event] = Event) -> dict[str, type[Event]]:
    """Return each class of event by its name, wherever in the app it is defined."""
    found: dict[str, type[Event]] = {}
    for event_type in base.__subclasses__():
        if event_type.__name__ != "IntegrationEvent":  # with a broker, the base of what may leave
            found[event_type.__name__] = event_type
        found |= event_types(event_type)
    return found


def can_be_sent(event_type: type[Event]) -> bool:
    """Return whether the page may emit it: the app's start and end are nobody's to pretend."""
    return not issubclass(event_type, Startup | Shutdown)


def events() -> Iterator[dict[str, Any]]:
    """Yield, for each class of event, who listens and what its fields are."""
    for name, event_type in event_types().items():
        yield {
            "name": name,
            "about": (event_type.__doc__ or "").strip().partition("\n")[0],
            "listeners": [name_of(listener) for listener in listeners(event_type)],
            "schema": schema_of(event_type) if can_be_sent(event_type) else None,
        }


def schema_of(event_type: type[Event]) -> dict[str, Any] | None:
    """Return what its fields are; None if JSON cannot hold them, so that no form can be made."""
    try:
        return event_type.model_json_schema()
    except PydanticUserError:
        return None


def routes(app: FastAPI) -> list[dict[str, Any]]:
    """Return, for each route, its handler and what its body is; what only reads comes first."""
    return sorted(_routes(app), key=lambda route: (route["method"] != "GET", route["path"]))


def _routes(app: FastAPI) -> Iterator[dict[str, Any]]:
    openapi = app.openapi()
    for route in iter_route_contexts(app.routes):
        path = openapi["paths"].get(route.path_format, {})
        for method in sorted(route.methods or ()):
            if (operation := path.get(method.lower())) is None or route.endpoint is None:
                continue  # not in the API's own documents, such as /docs
            content = operation.get("requestBody", {}).get("content", {})
            body = content.get("application/json", {}).get("schema")
            yield {
                "name": f"{method} {route.path_format}",
                "method": method,
                "path": route.path_format,
                "listeners": [name_of(route.endpoint)],
                "schema": body and {**body, "components": openapi.get("components", {})},
            }
