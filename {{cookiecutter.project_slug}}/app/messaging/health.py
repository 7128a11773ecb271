"""What HTTP clients see of the broker: GET /health, 503 while it's away, 413 for a large event."""

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.messaging import delivery
from app.messaging.delivery import Backlog, EventNotStored, EventTooLarge

RETRY_AFTER = {"Retry-After": "5"}  # seconds
AWAY = "The broker is away, and nothing has happened. Try again later."
RESPONSES: dict[int | str, dict[str, Any]] = {
    413: {"description": "The event is too large for the broker."},
    503: {"description": AWAY},
}

log = logging.getLogger(__name__)
router = APIRouter()


async def refuse(request: Request, error: Exception) -> Response:
    """Answer a request whose event couldn't be published."""
    log.warning("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    if isinstance(error, EventTooLarge):
        return JSONResponse({"detail": RESPONSES[413]["description"]}, 413)
    return JSONResponse({"detail": AWAY}, 503, RETRY_AFTER)


exception_handlers: dict[Any, Any] = {EventNotStored: refuse, EventTooLarge: refuse}


@router.get("/health")
async def health(response: Response, verbose: bool = False) -> dict[str, str | dict[str, Backlog]]:
    """Say whether the broker is there, and, with ?verbose=1, what each listener has to do."""
    try:
        async with asyncio.timeout(2):
            if delivery.broker:
                await delivery.broker.ping()
                if verbose:
                    return {"status": "ok", "listeners": await delivery.status()}
    except Exception as error:
        log.warning("The broker is away: %r", error)
        response.status_code = 503
        response.headers.update(RETRY_AFTER)
        return {"status": "the broker is away"}
    return {"status": "ok"}
