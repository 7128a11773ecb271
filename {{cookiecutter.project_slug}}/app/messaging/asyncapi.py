"""What this service publishes and consumes: /asyncapi for people, /asyncapi.json for tools."""

import json
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from pydantic.json_schema import models_json_schema

from app.messaging.cloudevents import CONTENT_TYPE, document_of
from app.messaging.delivery import event_types, safe, subscriptions
from app.messaging.settings import CHANNEL, EXAMPLE_URL, SERVICE, address_of, settings

CDN = "https://cdn.jsdelivr.net/npm/@asyncapi/react-component@3"
PAGE = f"""<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>AsyncAPI</title>
<link rel="stylesheet" href="{CDN}/styles/default.min.css"><div id="page"></div>
<script src="{CDN}/browser/standalone/index.js"></script><script>
AsyncApiStandalone.render(DOCUMENT, document.getElementById("page"))</script>"""

router = APIRouter(include_in_schema=False)


@router.get("/asyncapi.json")
def specification() -> dict[str, Any]:
    """Return the AsyncAPI 3 document of the events and listeners that are registered now."""
    protocol, _, host = address_of(settings.url or EXAMPLE_URL).partition("://")
    models: list[Any] = [(document_of(each), "validation") for each in event_types()]
    payloads, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")
    users = [(each.__name__, each, "send", each.__doc__) for each in event_types()]
    users += [(to.name, to.event_type, "receive", to.listener.__doc__) for to in subscriptions()]
    document: dict[str, Any] = {"asyncapi": "3.0.0", "info": {"title": SERVICE, "version": "0.1.0"}}
    document |= {"servers": {"broker": {"host": host, "protocol": protocol}}, "channels": {}}
    document |= {"operations": {}, "components": {"schemas": schemas.get("$defs", {})}}
    for name, event_type, action, about in users:
        place, (prefix, kind) = safe(event := event_type.__name__), CHANNEL
        payload = payloads[document_of(event_type), "validation"]
        message = {"name": event, "contentType": CONTENT_TYPE, "payload": payload}
        channel = {"address": prefix + (place if prefix else event), "messages": {"event": message}}
        document["channels"][place] = channel | {"description": kind}
        operation = {"action": action, "channel": {"$ref": f"#/channels/{place}"}}
        document["operations"][safe(name)] = operation | {"description": about or ""}
    return document


@router.get("/asyncapi")
def page() -> HTMLResponse:
    document = json.dumps(specification()).replace("<", "\\u003c")
    return HTMLResponse(PAGE.replace("DOCUMENT", "{schema: " + document + "}"))
