"""Row 3 of the execution table: the app shuts down."""

from app.bus import on
from app.events import Shutdown


@on(Shutdown)
async def shutdown_event(event: Shutdown) -> str:
    print("Cleanup done", flush=True)
    return "Cleanup done"
