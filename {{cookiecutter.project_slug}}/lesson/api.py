"""The page's own small API, under /lesson, and who may ask it."""

import asyncio
import json
import os
import re
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Body, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import iter_route_contexts
from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from app import bus
from app.events import Event, Shutdown, Startup
from lesson import course
from lesson.recorder import Page, Recorder, Row

Text = Annotated[str, Body(max_length=500)]
Fields = Annotated[dict[str, Any], Body()]
PAGE = Path(__file__).parent / "page"
TYPES = {  # named here, as Windows may have another idea of what a .js file is
    "index.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src "
    "'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
# Workspaces in the cloud, each of which has a name of its own under one of these.
WORKSPACES = (".localhost", ".app.github.dev", ".gitpod.io", ".gitpod.dev")
LARGEST_BODY = 64 * 1024  # bytes
PAUSE = 0.1  # seconds between two messages to a page
LOOK = 1.0  # seconds between two looks at what other processes wrote
HANDLED = 50  # rows of the instances' table


def site(app: FastAPI, recorder: Recorder) -> FastAPI:
    """Return an app with all that is under /lesson, about `app` and what `recorder` saw of it."""
    router = APIRouter(prefix="/lesson")

    @router.get("/steps")
    async def steps() -> JSONResponse:
        return JSONResponse(recorder.steps())

    @router.get("/instances")
    async def instances() -> JSONResponse:
        return JSONResponse(handled(recorder) if connected() else None)

    @router.get("/about")
    def about() -> dict[str, Any]:
        return {"title": app.title, "events": events(), "routes": routes(app), **questions()}

    @router.post("/events")
    async def send_event(type: Text, fields: Fields) -> dict[str, list[str]]:
        event_type = event_types().get(type)
        if event_type is None or issubclass(event_type, Startup | Shutdown):
            raise HTTPException(404, f"The page can't emit {type}.")
        try:
            await bus.emit(event_type.model_validate_json(json.dumps(fields)))
        except ValidationError as error:
            raise HTTPException(422, error.errors(include_context=False)) from None
        except Exception as error:  # whatever a listener does is a result, not an error of ours
            return {"failures": [str(error)]}
        return {"failures": []}

    @router.post("/answers")
    def answer(id: Text, text: Text) -> dict[str, str]:
        """Write an answer into answers.toml, and say whether it's right."""
        said = {"state": "", "sentence": "", "problem": ""}
        try:
            for question in course.questions():
                if question.id == id:
                    said |= asdict(course.mark(question, text))
            course.write_answer(id, text)
        except (course.LessonError, OSError, ValueError) as error:
            said["problem"] = str(error)
        return said

    @router.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        # The page never speaks: whatever comes is that it left, or that the server stops.
        left = asyncio.create_task(socket.receive())
        page = Page()
        recorder.pages.add(page)
        rows = recorder.steps()  # all, and not over HTTP: another worker might answer that
        try:
            while not left.done():
                page.changed.clear()
                ended = recorder.ended
                rows = rows or recorder.since(page.seen)
                await socket.send_json(news(recorder) | {"steps": rows})
                page.seen, rows = ended, []
                changed = asyncio.create_task(page.changed.wait())
                timeout = LOOK if connected() else None
                await asyncio.wait(
                    {changed, left}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
                )
                changed.cancel()
                if recorder.state == "running":
                    await asyncio.wait({left}, timeout=PAUSE)
            await socket.close(1008)
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            recorder.pages.discard(page)
            left.cancel()

    @router.get("")
    @router.get("/{name}")
    async def file(name: str = "index.html") -> FileResponse:
        if name not in TYPES:
            raise HTTPException(404)
        return FileResponse(PAGE / name, media_type=TYPES[name])

    site = FastAPI(openapi_url=None, max_body_size=LARGEST_BODY)
    site.include_router(router)
    return site


def news(recorder: Recorder) -> dict[str, Any]:
    """Return what a page must know beside the steps."""
    return {
        "run": recorder.run,
        "began": recorder.began.isoformat(timespec="milliseconds"),
        "state": recorder.state,
        "calls": recorder.calls,
        "running": [step.row() for step in list(recorder.running.values())[:HANDLED]],
        "handled": handled(recorder) if connected() else None,
        "beyond": second_day(recorder),
    }


def connected() -> bool:
    """Return whether a broker carries events from process to process."""
    return getattr(bus, "publish", None) is not None


def second_day(recorder: Recorder) -> dict[str, Any] | None:
    """Return what the page shows of BEYOND.md, None while no broker is connected."""
    # % if cookiecutter.broker != "none"
    if connected():
        from lesson.beyond import look  # which isn't there without a broker

        return look(recorder)
    # % endif
    return None


def handled(recorder: Recorder) -> list[Row]:
    """Return the last calls of listeners in all processes of this machine, oldest first."""
    rows = [
        row | {"process": row["run"].rpartition("-")[2]}
        for row in (*recorder.others(), *recorder.kept())
        if row["type"] not in ("request", "Startup", "Shutdown")
    ]
    senders = {_id(row): row["process"] for row in rows if row["listener"] is None}
    since = recorder.began.isoformat(timespec="milliseconds")
    called = [row for row in rows if row["listener"] and row["time"] >= since]
    called.sort(key=itemgetter("time"))
    return [row | {"sent_by": senders.get(_id(row))} for row in called[-HANDLED:]]


def _id(row: Row) -> object:
    """Return by what an event is known in all processes."""
    return row["type"], (row["fields"] or {}).get("id", (row["run"], row["sequence"]))


# What the app has, and what the course asks.


def event_types(base: type[Event] = Event) -> dict[str, type[Event]]:
    """Return each class of event by its name, wherever in the app it's defined."""
    found: dict[str, type[Event]] = {}
    for event_type in base.__subclasses__():
        if event_type.__name__ != "IntegrationEvent":
            found[event_type.__name__] = event_type
        found |= event_types(event_type)
    return found


def events() -> list[dict[str, Any]]:
    """Return, for each class of event, what it's about and who listens."""
    return [
        {
            "name": name,
            "about": (event_type.__doc__ or "").strip().partition("\n")[0],
            "listeners": [bus.name_of(listener) for listener in bus.listeners(event_type)],
        }
        for name, event_type in event_types().items()
    ]


def routes(app: FastAPI) -> list[dict[str, str]]:
    """Return, for each route that /docs shows, its handler; what only reads comes first."""
    shown = app.openapi()["paths"]
    found = [
        {"name": f"{method} {route.path_format}", "listener": bus.name_of(route.endpoint)}
        for route in iter_route_contexts(app.routes)
        for method in route.methods or ()
        if route.endpoint and method.lower() in shown.get(route.path_format or "", ())
    ]
    return sorted(found, key=lambda route: (not route["name"].startswith("GET "), route["name"]))


def questions() -> dict[str, Any]:
    """Return what the course asks and what answers.toml says to it, without what is right.

    What stands in the way, such as a line of answers.toml that isn't TOML, is in "problem".
    """
    found: dict[str, Any] = {"rows": [], "predictions": [], "questions": [], "problem": ""}
    given = course.Answers({}, {})
    try:
        found["rows"] = [row.cells for row in course.own_rows() if not row.problem]
        try:
            given = course.read_answers()
        except course.LessonError as error:
            found["problem"] = str(error)
        for each in course.predictions():
            answer = given.predict.get(each.id, "")
            found["predictions"].append({"id": each.id, "text": each.text, "answer": answer})
        for question in course.questions():
            names = "id", "text", "hint", "code", "after"
            asked = {name: getattr(question, name) for name in names}
            asked["choices"] = [{"letter": c.letter, "text": c.text} for c in question.choices]
            asked["answer"] = answer = given.quiz.get(question.id, "").upper()
            if answer and not question.code:  # to run code takes its time
                asked["verdict"] = asdict(course.mark(question, answer))
            found["questions"].append(asked)
    except course.LessonError as error:
        found["problem"] = str(error)
    return found


class Guard:
    """An ASGI middleware: a foreign host or origin gets nothing, every answer has HEADERS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request of the page's own through; refuse any other."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        name = foreign_name(Headers(scope=scope))[:200]
        if not name:
            await self.app(scope, receive, send_with_headers)
        elif scope["type"] == "websocket":
            await WebSocketClose(1008)(scope, receive, send)  # before it's accepted: 403
        else:
            sentence = (
                f"The lesson is for this computer alone, and was asked for as {name}. Open "
                "http://127.0.0.1:8000/lesson; or if that's your own proxy or workspace, start "
                f"the app with LESSON_HOSTS={name} in its environment."
            )
            await PlainTextResponse(sentence, 403)(scope, receive, send_with_headers)


def foreign_name(headers: Headers) -> str:
    """Return the name of the stranger that a request goes to or comes from; nothing if it's ours.

    Only a name with a dot can be pointed here by a stranger's DNS (rebinding). A proxy says in
    X-Forwarded-Host which name the browser uses; a page can't set that header without asking.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    allowed = [name.strip() for name in os.environ.get("LESSON_HOSTS", "").split(",")]
    name = urlsplit(f"//{host}").hostname or "nothing"
    is_address = re.fullmatch(r"[\d.]+|.*:.*", name)
    if "." in name and not (is_address or name in allowed or name.endswith(WORKSPACES)):
        return name
    # A browser sends its origin with each POST and each socket.
    if origin is None or urlsplit(origin).netloc in (host, headers.get("x-forwarded-host")):
        return ""
    name = urlsplit(origin).hostname or origin
    return "" if name in allowed else name
