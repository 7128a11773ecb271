"""The FastAPI app: its lifespan is two events, its routes and listeners are in handlers/."""

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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

# % if cookiecutter.broker == "postgres"
from app import database, handlers, messaging
# % else
from app import handlers, messaging
# % endif
from app.bus import emit
from app.events import Shutdown, Startup
from app.messaging import asyncapi, health
from app.tracing import traced


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # % if cookiecutter.broker == "postgres"
    with traced():  # if OpenTelemetry is on
        async with messaging.connected(), database.connected():  # BROKER_URL says to which
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
    exception_handlers=dict.fromkeys(health.ANSWERS, health.refuse),
    responses=health.RESPONSES,
)
for router in (*handlers.routers, health.router, asyncapi.router):
    app.include_router(router)


@app.exception_handler(RequestValidationError)
async def refuse(request: Request, error: RequestValidationError) -> Response:
    """Answer 422 without the input: FastAPI fails to repeat bytes that aren't UTF-8, and NaN."""
    wrong = [{name: each[name] for name in ("type", "loc", "msg")} for each in error.errors()]
    return Response(json.dumps({"detail": wrong}), 422, media_type="application/json")
# % endif
