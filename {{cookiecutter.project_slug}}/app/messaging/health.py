"""What HTTP clients see of the broker: GET /health, and errors if an event can't be published."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from app.messaging import delivery

EXCEPTIONS: Any = {
    delivery.EventNotStored: (503, "The broker is away. Try again later.", {"Retry-After": "5"}),
    # % if cookiecutter.broker != "postgres"
    delivery.EventTooLarge: (413, "The event is too large for the broker.", {}),
    # % endif
}
RESPONSES: Any = {status: {"description": detail} for status, detail, _ in EXCEPTIONS.values()}

router = APIRouter()


async def publish_error_handler(request: Request, error: Exception) -> JSONResponse:
    """Answer a request whose event couldn't be published."""
    delivery.log.warning("%s %s: %r", request.method, request.url.path, error)
    status, detail, headers = next(EXCEPTIONS[one] for one in EXCEPTIONS if isinstance(error, one))
    return JSONResponse({"detail": detail}, status, headers)


@router.get("/health")
async def health(verbose: bool = False) -> dict[str, Any]:
    """Say whether the broker is there and, with ?verbose=1, what's waiting for each listener."""
    try:
        async with asyncio.timeout(10 if verbose else 2):
            if broker := delivery.broker:
                await broker.ping()
            more = {"listeners": await delivery.status()} if broker and verbose else {}
    except Exception as error:
        raise delivery.EventNotStored(repr(error)) from error
    return {"status": "ok", **more}
