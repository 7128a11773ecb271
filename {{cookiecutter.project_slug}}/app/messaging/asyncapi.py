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

PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>SERVICE</title>
<link rel="stylesheet" href="CDN/styles/default.min.css"></head><body><div id="page"></div>
<script src="CDN/browser/standalone/index.js"></script>
<script>AsyncApiStandalone.render({schema: DOCUMENT}, document.getElementById("page"))</script>
</body></html>""".replace("CDN", "https://cdn.jsdelivr.net/npm/@asyncapi/react-component@3")

router = APIRouter(include_in_schema=False)


@router.get("/asyncapi.json")
def specification() -> dict[str, Any]:
    """Return the AsyncAPI 3 document of the events and listeners that are registered now."""
    protocol, _, host = address_of(settings.url or EXAMPLE_URL).partition("://")
    events = {each.__name__: document_of(each) for each in event_types()}
    mode, place = "validation", "#/components/schemas/{model}"
    refs, schemas = models_json_schema(
        [(each, mode) for each in events.values()], ref_template=place
    )
    messages = {
        safe(name): {"name": name, "contentType": CONTENT_TYPE, "payload": refs[model, mode]}
        for name, model in events.items()
    }
    users = [(name, name, "send", model.__doc__) for name, model in events.items()]
    users += [(each.name, each.type, "receive", each.listener.__doc__) for each in subscriptions()]
    channels, operations = {}, {}
    for name, event, action, about in users:
        name, about = safe(name), inspect.cleandoc(about or "")
        message = {"event": {"$ref": f"#/components/messages/{safe(event)}"}}
        channels[name] = {"address": f"{SERVICE}.{name}", "messages": message}
        channel = {"$ref": f"#/channels/{name}"}
        operations[name] = {"action": action, "channel": channel, "description": about}
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
    document = json.dumps(specification()).replace("<", "\\u003c")
    return HTMLResponse(PAGE.replace("SERVICE", SERVICE).replace("DOCUMENT", document))
