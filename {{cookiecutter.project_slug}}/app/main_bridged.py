"""The FastAPI app: its lifespan is two events, its routes and listeners are in handlers/."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app import bridge, handlers
from app.bus import emit
from app.events import Shutdown, Startup


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    await emit(Startup())
    yield
    await emit(Shutdown())


app = FastAPI(
    title="{{ cookiecutter.project_name }}",
    lifespan=lifespan,
    responses=bridge.RESPONSES,
)
handlers.load()  # they put their routes on `app`, so they come after it
bridge.build(app)
