"""What HTTP clients see of the broker: GET /health, 503 while it's away, 413 for a large event."""

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.messaging import delivery
from app.messaging.delivery import EventNotStored, EventTooLarge

RETRY_AFTER = {"Retry-After": "5"}  # seconds
RESPONSES: dict[int | str, dict[str, Any]] = {
    413: {"description": "The event is too large for the broker"},
    503: {"description": "The broker is away, and nothing has happened; try again later"},
}

log = logging.getLogger(__name__)
router = APIRouter()


async def too_large(request: Request, error: Exception) -> Response:
    log.warning("%s %s: %s", request.method, request.url.path, error)
    return JSONResponse({"detail": "The event is too large for the broker."}, 413)


async def not_stored(request: Request, error: Exception) -> Response:
    log.warning("%s %s: not stored: %s", request.method, request.url.path, error)
    detail = {"detail": "The broker is away, and nothing has happened. Try again later."}
    return JSONResponse(detail, 503, RETRY_AFTER)


exception_handlers: dict[int | type[Exception], Any] = {
    EventNotStored: not_stored,
    EventTooLarge: too_large,
}


@router.get("/health")
async def health(response: Response, verbose: bool = False) -> dict[str, Any]:
    """Say whether the broker is there; with ?verbose=1 also what each listener has to do."""
    try:
        async with asyncio.timeout(2):
            if delivery.broker is None:
                return {"status": "ok"}
            await delivery.broker.ping()
            return {"status": "ok", **({"listeners": await delivery.status()} if verbose else {})}
    except Exception as error:
        log.warning("GET /health: %r", error)
        response.status_code = 503
        response.headers.update(RETRY_AFTER)
        return {"status": "the broker is away"}
