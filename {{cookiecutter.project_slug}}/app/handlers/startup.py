"""Row 1 of the execution table: the app starts."""

from app.bus import on
from app.events import Startup


@on(Startup)
async def startup_event(event: Startup) -> str:
    print("App is starting", flush=True)
    return "App is starting"
