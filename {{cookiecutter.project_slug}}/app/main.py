"""The FastAPI app. Its lifespan emits two events; its routes and listeners are in handlers/."""

# % if cookiecutter.broker == "none"
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app import handlers
from app.bus import emit
from app.events import Shutdown, Startup


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await emit(Startup())
    yield
    await emit(Shutdown())


app = FastAPI(title="{{ cookiecutter.project_name }}", lifespan=lifespan)
for router in handlers.routers:
    app.include_router(router)
# % else
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.types import ASGIApp, Message

# % if cookiecutter.broker == "postgres"
from app import database, handlers, messaging
# % else
from app import handlers, messaging
# % endif
from app.bus import emit
from app.events import Shutdown, Startup
from app.messaging import asyncapi, health
from app.messaging.settings import BrokerUnavailable
from app.tracing import traced


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # % if cookiecutter.broker == "postgres"
    with traced():  # if OpenTelemetry is on
        async with messaging.connected(), database.connected():  # at BROKER_URL, if it's set
            await emit(Startup())
            async with messaging.consuming():
                yield
            await emit(Shutdown())


    # % else
    with traced():  # if OpenTelemetry is on
        async with messaging.connected():  # if BROKER_URL is set
            await emit(Startup())
            async with messaging.consuming():
                yield
            await emit(Shutdown())


    # % endif
app = FastAPI(
    title="{{ cookiecutter.project_name }}",
    lifespan=lifespan,
    exception_handlers=dict.fromkeys(health.EXCEPTIONS, health.publish_error_handler),
    responses=health.RESPONSES,
)
for router in (*handlers.routers, health.router, asyncapi.router):
    app.include_router(router)


def log_startup_error(app: ASGIApp) -> ASGIApp:
    """Let the server log a sentence, not a traceback, if it can't start without the broker."""

    def wrapped(scope: Any, receive: Any, send: Any) -> Any:
        async def send_reason(message: Message) -> None:
            if isinstance(error := sys.exception(), BrokerUnavailable):
                message["message"] = str(error)
            await send(message)

        return app(scope, receive, send_reason if scope["type"] == "lifespan" else send)

    return wrapped


app.add_middleware(log_startup_error)


@app.exception_handler(RequestValidationError)
async def validation_exception_handler(request: Request, error: RequestValidationError) -> Response:
    """Answer 422 without the input: FastAPI can't return NaN, or bytes that aren't UTF-8."""
    wrong = [{name: each[name] for name in ("type", "loc", "msg")} for each in error.errors()]
    return Response(json.dumps({"detail": wrong}), 422, media_type="application/json")
# % endif
