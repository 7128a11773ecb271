"""The app, watched: `fastapi dev` serves this one; production serves app.main:app itself."""

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.main import app as inner
from lesson.api import Guard, site
from lesson.recorder import Recorder

FOLDER = Path(__file__).parent.parent / ".lesson"
PATIENCE = 10.0  # seconds for requests that are in hand when the app is told to stop
SIGNALS = [getattr(signal, f"SIG{name}", None) for name in ("INT", "TERM", "BREAK")]


class Watched:
    """The app with a recorder around it and the page at /lesson.

    A server that's told to stop closes its connections first and runs the app's shutdown last, when
    no page is left to see it. So on Ctrl+C the app's shutdown runs here, with the page connected;
    then the server gets the signal, and hears what it asks for: that the shutdown is complete.
    """

    def __init__(self, app: Any, folder: Path) -> None:
        self.app: ASGIApp = app
        self.recorder = Recorder(folder)
        self.page = Guard(site(app, self.recorder))
        self.in_hand = 0  # requests
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handlers: dict[int, Any] = {}  # the server's own
        self._withheld: int | None = None  # the signal that the server doesn't know of yet
        self._passed_on = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the page, or the app."""
        if scope["type"] == "lifespan":
            with self.recorder.recording(), self._signals():
                return await self._lifespan(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path == "/lesson" or path.startswith("/lesson/"):
            return await self.page(scope, receive, send)
        if scope["type"] == "websocket":
            return await self.app(scope, receive, send)
        if self.recorder.state != "running":
            response = PlainTextResponse("The app is stopping.", 503, {"Connection": "close"})
            return await response(scope, receive, send)
        self.in_hand += 1
        try:
            await self.recorder.request(self.app, scope, receive, send)
        finally:
            self.in_hand -= 1

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        stop = self._stop = asyncio.Event()
        messages = [await receive()]  # that the server starts
        asked: asyncio.Future[Message] | None = None  # done when the server wants to stop

        async def app_receive() -> Message:
            nonlocal asked
            if messages:
                return messages.pop()
            asked = asyncio.ensure_future(receive())
            signalled = asyncio.ensure_future(stop.wait())
            await asyncio.wait({asked, signalled}, return_when=asyncio.FIRST_COMPLETED)
            signalled.cancel()
            self.recorder.state = "stopping"
            self.recorder.tell()
            deadline = time.monotonic() + PATIENCE
            while self.in_hand and not asked.done():
                if time.monotonic() > deadline:
                    self._pass_on()  # the server has its own way with what takes longer
                await asyncio.wait({asked}, timeout=0.02)
            return {"type": "lifespan.shutdown"}

        async def app_send(message: Message) -> None:
            if asked is not None:  # the shutdown is complete, or has failed
                self.recorder.state = "stopped"
                self.recorder.tell()
                await self.recorder.told()
                self._pass_on()
                await asked
            await send(message)

        await self.app(scope, app_receive, app_send)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Take the signals in the server's place, where there is a server that takes them."""
        self._loop = asyncio.get_running_loop()
        self._withheld, self._passed_on = None, False
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.getsignal(number) for number in SIGNALS if number}
            self._handlers = {number: each for number, each in handlers.items() if callable(each)}
        for number in self._handlers:
            signal.signal(number, self._signalled)
        try:
            yield
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers = {}

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if self._passed_on or (self._withheld and number == signal.SIGINT):  # Ctrl+C, again
            self._pass_on()
            self._handlers[number](number, frame)
        elif self._withheld is None and self._loop and self._stop:
            self._withheld = number
            self._loop.call_soon_threadsafe(self._stop.set)

    def _pass_on(self) -> None:
        if self._withheld is not None and not self._passed_on:
            self._passed_on = True
            self._handlers[self._withheld](self._withheld, None)


def watched(app: Any, folder: Path) -> ASGIApp:
    """Return `app` with a recorder around it and the page at /lesson; `folder` keeps the steps."""
    return Watched(app, folder)


app = watched(inner, FOLDER)
