"""The FastAPI app: its lifespan is two events, its routes and listeners are in handlers/."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

# % if cookiecutter.broker == "none"
from app import handlers
# % else
from app import bridge, handlers
# % endif
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
# % if cookiecutter.broker != "none"
bridge.build(app)
# % endif
