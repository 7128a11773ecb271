"""Where events leave the process: with BROKER_URL set, `emit` stores shared events in an engine."""

import logging
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from app import asyncapi, bus, delivery
from app.broker import Engine
from app.cloudevents import encode
from app.delivery import EngineUnusable, EventNotStored
from app.events import Event, SharedEvent

RETRY_AFTER = 5  # seconds
RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "The body of the request cannot be read"},
    503: {"description": "The engine is away, and nothing has happened; try again later"},
}

router = APIRouter()
_engine: delivery.Engine | None = None


class _Sending(list[bus.Listener]):
    """Stands where the listeners of a class of event stood: the engine hands it to them."""

    def __iter__(self) -> Iterator[bus.Listener]:
        failures: list[Exception] = []

        async def store(event: SharedEvent) -> str:
            assert _engine is not None
            try:
                await _engine.store(
                    type(event).__name__, event.id, encode(event), key=event.order_key
                )
            except (EventNotStored, ValidationError) as error:
                failures.append(error)
            return event.id

        yield store
        if failures:  # not from `store`: emit takes what is raised there for a listener's failure
            raise failures[0]


class _Outgoing(type(bus.calls)):  # type: ignore[misc]
    """Takes the place of `bus.calls` while the engine is connected."""

    def clear(self) -> None:
        super().clear()
        delivery.here.clear()

    def __missing__(self, event_type: type[Event]) -> list[bus.Listener]:
        if not issubclass(event_type, SharedEvent):
            return super().__missing__(event_type)  # type: ignore[no-any-return]
        sending = self[event_type] = _Sending()
        return sending


def build(app: FastAPI) -> None:
    """Give `app` the engine of BROKER_URL while it runs, /health, /asyncapi, and its 503."""
    app.include_router(router)
    app.include_router(asyncapi.router)
    app.add_exception_handler(EventNotStored, _try_later)
    without = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
        if url := os.environ.get("BROKER_URL"):
            async with connected(url) as engine, without(app) as state:
                await engine.consume()
                try:
                    yield state
                finally:
                    await engine.finish()
        else:
            async with without(app) as state:
                yield state

    app.router.lifespan_context = lifespan


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[delivery.Engine]:
    """Let `emit` store shared events in the engine at `url` while the `with` block runs.

    Raises EngineUnusable if that engine does not answer.
    """
    global _engine
    try:
        engine: delivery.Engine = Engine(url, delivery.subscriptions())
        await engine.connect()
    except EngineUnusable as error:
        logging.getLogger("uvicorn.error").addFilter(_OneSentence(str(error)))
        raise
    _engine, in_process = engine, bus.calls
    bus.calls = _Outgoing()
    delivery.here.clear()
    try:
        yield engine
    finally:
        _engine, bus.calls = None, in_process
        bus.calls.clear()
        await engine.close()


async def _try_later(request: Request, error: Exception) -> Response:
    headers = {"Retry-After": str(RETRY_AFTER)}
    return JSONResponse({"detail": "This cannot be done now. Try again later."}, 503, headers)


@router.get("/health")
async def health(response: Response) -> dict[str, str]:
    if _engine and not await _engine.answers():
        response.status_code = 503
        return {"status": "the engine is away"}
    return {"status": "ok"}


class _OneSentence(logging.Filter):
    """Makes uvicorn say the sentence, where it would print a stack that ends with it."""

    def __init__(self, sentence: str) -> None:
        super().__init__()
        self.sentence = sentence

    def filter(self, record: logging.LogRecord) -> bool:
        if self.sentence in record.getMessage():
            record.msg, record.args, record.exc_info = self.sentence, (), None
        return True
