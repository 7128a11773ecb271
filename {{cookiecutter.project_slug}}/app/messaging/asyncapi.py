"""What this service publishes and consumes, for people (/asyncapi) and for tools (/asyncapi.json)."""

import inspect
import json
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic.json_schema import models_json_schema

from app.messaging.cloudevents import CONTENT_TYPE, document_of
from app.messaging.delivery import event_types, safe, subscriptions
from app.messaging.settings import EXAMPLE_URL, SERVICE, address_of, settings

CDN = "https://cdn.jsdelivr.net/npm/@asyncapi/react-component@3"
PAGE = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{SERVICE}</title>
<link rel="stylesheet" href="{CDN}/styles/default.min.css"></head><body><div id="asyncapi"></div>
<script src="{CDN}/browser/standalone/index.js"></script>
<script>AsyncApiStandalone.render({{schema: %s}}, document.getElementById("asyncapi"));</script>
</body></html>"""

router = APIRouter(include_in_schema=False)


@router.get("/asyncapi.json")
def specification() -> dict[str, Any]:
    """Return the AsyncAPI 3 document of the events and listeners that are registered now."""
    protocol, _, host = address_of(settings.url or EXAMPLE_URL).partition("://")
    events = {event_type: document_of(event_type) for event_type in event_types()}
    refs, schemas = models_json_schema(
        [(model, "validation") for model in events.values()],
        ref_template="#/components/schemas/{model}",
    )
    for schema in schemas.get("$defs", {}).values():  # an event's id and time are the document's
        ...
    channels: dict[str, Any] = {}
    operations: dict[str, Any] = {}
    messages: dict[str, Any] = {}

    def add(name: str, event: str, action: str, about: str | None) -> None:
        message = {"$ref": f"#/components/messages/{safe(event)}"}
        channels[safe(name)] = {"address": f"{SERVICE}.{safe(name)}", "messages": {"event": message}}
        operations[safe(name)] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{safe(name)}"},
            "description": inspect.cleandoc(about or ""),
        }

    for event_type, model in events.items():
        name, payload = event_type.__name__, refs[model, "validation"]
        messages[safe(name)] = {"name": name, "contentType": CONTENT_TYPE, "payload": payload}
        add(name, name, "send", event_type.__doc__)
    for each in subscriptions():
        add(each.name, each.type, "receive", each.listener.__doc__)
    return {
        "asyncapi": "3.0.0",
        "info": {"title": SERVICE, "version": "0.1.0"},
        "servers": {"broker": {"host": host, "protocol": protocol}},
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas.get("$defs", {})},
    }


@router.get("/asyncapi")
def page() -> HTMLResponse:
    return HTMLResponse(PAGE % json.dumps(specification()).replace("<", "\\u003c"))
