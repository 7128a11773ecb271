"""The app, watched: `fastapi dev` serves this one; production serves app.main:app itself."""

from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from app.main import app as inner
from lesson.guard import Guard
from lesson.history import History
from lesson.recorder import Recorder
from lesson.routes import site

FOLDER = Path(__file__).parent.parent / ".lesson"


def watched(app: FastAPI, folder: Path) -> ASGIApp:
    """Return `app` with a recorder around it and the page at /lesson; `folder` keeps the steps."""
    recorder = Recorder(History(folder))
    page = Guard(site(app, recorder))

    async def live(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            with recorder.recording():
                await app(scope, receive, send)
        elif scope["path"] == "/lesson" or scope["path"].startswith("/lesson/"):
            await page(scope, receive, send)
        elif scope["type"] == "http":
            await recorder.request(app, scope, receive, send)
        else:
            await app(scope, receive, send)

    return live


app = watched(inner, FOLDER)
