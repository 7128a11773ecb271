"""The app, watched: `fastapi dev` serves this one; production serves app.main:app itself."""

import asyncio
import signal
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from app.main import app as inner
from lesson.api import guarded, site
from lesson.recorder import Recorder

FOLDER = Path(__file__).parent.parent / ".lesson"
PATIENCE = 10.0  # seconds for requests that are in hand when the app is told to stop
SIGNALS = [number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGBREAK")]


class Watched:
    """An app with a recorder around it and the page at /lesson; `folder` keeps the steps."""

    def __init__(self, app: Any, folder: Path) -> None:
        self.app = app
        self.recorder = Recorder(folder)
        self.page = guarded(site(app, self.recorder))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            await self.recorder.request(self.app, scope, receive, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app's lifespan, and withhold signals from the server until its shutdown is over.

        The server would close the connections first, and no page would be left to see row 3.
        """
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        started = [await receive()]
        asked: asyncio.Future[Message] | None = None  # done when the server wants to stop
        withheld: list[int] = []

        def signalled(number: int, frame: object) -> None:
            withheld.append(number)
            again = withheld.count(signal.SIGINT) > 1  # Ctrl+C; the reloader adds a SIGTERM to one
            if again and self.recorder.state == "running":  # the loop wasn't told
                raise KeyboardInterrupt  # which ends what blocks it
            loop.call_soon_threadsafe(stop.set)
            if again:
                pass_on()

        def pass_on() -> None:
            ours.close()  # the server's own handlers are back
            while withheld:
                signal.raise_signal(withheld.pop(0))

        async def app_receive() -> Message:
            nonlocal asked
            if started:
                return started.pop()
            asked = asyncio.ensure_future(receive())
            asked.add_done_callback(lambda _: stop.set())
            await stop.wait()
            self.recorder.tell("stopping")
            late = loop.call_later(PATIENCE, pass_on)  # then the server decides
            running = self.recorder.running.values()
            while "request" in [each.type for each in tuple(running)] and not asked.done():
                await asyncio.wait({asked}, timeout=0.02)
            late.cancel()
            return {"type": "lifespan.shutdown"}

        async def app_send(message: Message) -> None:
            if asked is not None:  # the shutdown is complete, or has failed
                self.recorder.tell("stopped")
                await self.recorder.told()
                pass_on()
                await asked
            await send(message)

        with ExitStack() as ours:
            is_main = threading.current_thread() is threading.main_thread()
            for number in SIGNALS if is_main else ():
                if callable(handler := signal.getsignal(number)):
                    ours.callback(signal.signal, number, handler)
                    signal.signal(number, signalled)
            await self.app(scope, app_receive, app_send)


app = Watched(inner, FOLDER)
