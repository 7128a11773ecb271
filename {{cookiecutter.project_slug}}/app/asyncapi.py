"""What this service sends and hears, for people (/asyncapi) and for tools (/asyncapi.json)."""

import os
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse
from faststream.specification import AsyncAPI
from faststream.specification.asyncapi.site import get_asyncapi_html
from faststream.specification.base import Specification

from app import delivery
from app.broker import DEFAULT_URL, describe
from app.cloudevents import SERVICE, document_of

router = APIRouter(include_in_schema=False)


def specification() -> Specification:
    """Return the AsyncAPI document of the events and listeners that are registered now."""
    address = delivery.address_of(os.environ.get("BROKER_URL") or DEFAULT_URL, DEFAULT_URL)
    broker = describe(address, delivery.shared_events(), readers())
    return AsyncAPI(broker, title=SERVICE, version="0.1.0").to_specification()


def readers() -> dict[delivery.Subscription, Callable[..., Any]]:
    """Return for each subscription a function that says what it reads, as FastStream wants it."""

    def reader(subscription: delivery.Subscription) -> Callable[..., Any]:
        async def read(document: Any) -> None: ...

        read.__annotations__["document"] = document_of(subscription.event_type)
        read.__doc__ = subscription.listener.__doc__
        return read

    return {subscription: reader(subscription) for subscription in delivery.subscriptions()}


@router.get("/asyncapi.json")
async def document() -> JSONResponse:
    return JSONResponse(specification().to_jsonable())


@router.get("/asyncapi")
async def page() -> HTMLResponse:
    return HTMLResponse(get_asyncapi_html(specification(), try_it_out_path=None))
