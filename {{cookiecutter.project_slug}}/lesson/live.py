"""The app, watched: `fastapi dev` serves this one; production serves app.main:app itself."""

import asyncio
import signal
import threading
import time
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from app.main import app as inner
from lesson.api import Guard, site
from lesson.recorder import Recorder

FOLDER = Path(__file__).parent.parent / ".lesson"
PATIENCE = 10.0  # seconds for requests that are in hand when the app is told to stop
SIGNALS = [getattr(signal, f"SIG{name}", None) for name in ("INT", "TERM", "BREAK")]


class Watched:
    """An app with a recorder around it and the page at /lesson; `folder` keeps the steps."""

    def __init__(self, app: Any, folder: Path) -> None:
        self.app = app
        self.recorder = Recorder(folder)
        self.page = Guard(site(app, self.recorder))
        self.in_hand = 0  # requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the page, or the app."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] == "lifespan":
            with self.recorder.recording():
                await self._lifespan(scope, receive, send)
        elif path == "/lesson" or path.startswith("/lesson/"):
            await self.page(scope, receive, send)
        elif scope["type"] == "websocket":
            await self.app(scope, receive, send)
        elif self.recorder.state != "running":
            response = PlainTextResponse("The app is stopping.", 503, {"Connection": "close"})
            await response(scope, receive, send)
        else:
            self.in_hand += 1
            try:
                await self.recorder.request(self.app, scope, receive, send)
            finally:
                self.in_hand -= 1

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app's lifespan, and its shutdown while the pages are still connected.

        A server that's told to stop closes its connections first and runs the shutdown last, when
        no page is left to see it. So the signals are withheld from it until the shutdown is over.
        """
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        started = [await receive()]
        asked: asyncio.Future[Message] | None = None  # done when the server wants to stop
        handlers: dict[int, Any] = {}  # the server's own
        withheld: list[int] | None = []

        def signalled(number: int, frame: object) -> None:
            if withheld is None:
                handlers[number](number, frame)
                return
            withheld.append(number)
            loop.call_soon_threadsafe(stop.set)
            if withheld.count(signal.SIGINT) > 1:  # Ctrl+C, again
                pass_on()

        def pass_on() -> None:
            nonlocal withheld
            numbers, withheld = withheld or [], None
            for number in numbers:
                handlers[number](number, None)

        async def app_receive() -> Message:
            nonlocal asked
            if started:
                return started.pop()
            asked = asyncio.ensure_future(receive())
            told = asyncio.ensure_future(stop.wait())
            await asyncio.wait({asked, told}, return_when=asyncio.FIRST_COMPLETED)
            told.cancel()
            self.recorder.tell("stopping")
            deadline = time.monotonic() + PATIENCE
            while self.in_hand and not asked.done():
                if time.monotonic() > deadline:
                    pass_on()  # the server has its own way with what takes longer
                await asyncio.wait({asked}, timeout=0.02)
            return {"type": "lifespan.shutdown"}

        async def app_send(message: Message) -> None:
            if asked is not None:  # the shutdown is complete, or has failed
                self.recorder.tell("stopped")
                await self.recorder.told()
                pass_on()
                await asked
            await send(message)

        if threading.current_thread() is threading.main_thread():
            found = {number: signal.getsignal(number) for number in SIGNALS if number}
            handlers = {number: handler for number, handler in found.items() if callable(handler)}
        for number in handlers:
            signal.signal(number, signalled)
        try:
            await self.app(scope, app_receive, app_send)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


app = Watched(inner, FOLDER)
