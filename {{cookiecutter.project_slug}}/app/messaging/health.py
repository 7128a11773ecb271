"""What HTTP clients see of the broker: GET /health, 503 while it's away, 413 for a large event."""

import asyncio
import logging
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from app.messaging import delivery

RETRY_AFTER = {"Retry-After": "5"}  # seconds
AWAY = {"detail": "The broker is away, and nothing has happened. Try again later."}
TOO_LARGE = {"detail": "The event is too large for the broker."}
RESPONSES: Any = {413: {"description": TOO_LARGE["detail"]}, 503: {"description": AWAY["detail"]}}

log = logging.getLogger(__name__)
router = APIRouter()


async def refuse(request: Request, error: Exception) -> Response:
    """Answer a request whose event couldn't be published."""
    log.warning("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    if isinstance(error, delivery.EventTooLarge):
        return JSONResponse(TOO_LARGE, 413)
    return JSONResponse(AWAY, 503, RETRY_AFTER)


exception_handlers: Any = {delivery.EventNotStored: refuse, delivery.EventTooLarge: refuse}


@router.get("/health")
async def health(response: Response, verbose: bool = False) -> dict[str, Any]:
    """Say whether the broker is there, and, with ?verbose=1, what each listener has to do."""
    answer: dict[str, Any] = {"status": "ok"}
    try:
        if delivery.broker:
            async with asyncio.timeout(2):
                await delivery.broker.ping()
            if verbose:
                answer["listeners"] = await delivery.status()
    except Exception as error:
        log.warning("The broker is away: %r", error)
        response.status_code = 503
        response.headers.update(RETRY_AFTER)
        answer = {"status": "the broker is away"}
    return answer
