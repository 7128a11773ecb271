"""The page's own small API, under /lesson, and who may ask it."""

import asyncio
import json
import mimetypes
import os
import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import Body, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from pydantic import ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import bus
from app.events import Event, Shutdown, Startup
from lesson import course
from lesson.feedback import say
from lesson.recorder import Recorder
from lesson.sample import below, routes_of

Text = Annotated[str, Body(max_length=500)]
Fields = Annotated[dict[str, Any], Body()]
PAGE = Path(__file__).parent / "page"
mimetypes.add_type("text/javascript", ".js")  # Windows may have another idea
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src "
    "'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
# Cloud workspaces: each has its own name under one of these.
WORKSPACES = (".localhost", ".app.github.dev", ".gitpod.io", ".gitpod.dev")
LARGEST_BODY = 64 * 1024  # bytes
PAUSE = 0.2  # seconds between two messages to a page


def site(app: FastAPI, recorder: Recorder) -> FastAPI:
    """Return an app that serves everything under /lesson: `app`, and what `recorder` saw of it."""
    site = FastAPI(openapi_url=None, max_body_size=LARGEST_BODY)

    @site.get("/lesson/steps")
    async def steps() -> JSONResponse:
        return JSONResponse(recorder.steps())

    # % if cookiecutter.broker != "none"
    @site.get("/lesson/instances")
    async def instances() -> JSONResponse:
        return JSONResponse(news(recorder)["handled"])

    # % endif
    @site.get("/lesson/about")
    def about() -> dict[str, Any]:
        """Return the app's events, its routes (those that only read first) and the questions."""
        routes = sorted(routes_of(app).items(), key=lambda it: (it[0][:4] != "GET ", it[0]))
        return {
            "routes": [{"name": name, "listener": bus.name_of(at)} for name, (at, _) in routes],
            "events": [
                {
                    "name": name,
                    "about": (event_type.__doc__ or "").strip().partition("\n")[0],
                    "listeners": [bus.name_of(each) for each in bus.listeners(event_type)],
                }
                for name, event_type in event_types().items()
            ],
            **questions(),
        }

    @site.post("/lesson/events")
    async def send_event(type: Text, fields: Fields) -> dict[str, list[str]]:
        event_type = event_types().get(type)
        if event_type is None or issubclass(event_type, Startup | Shutdown):
            raise HTTPException(404, f"The page can't emit {type}.")
        try:
            await bus.emit(event_type.model_validate_json(json.dumps(fields)))
        except ValidationError as error:
            wrong = error.errors(include_context=False, include_input=False)  # which may be NaN
            raise HTTPException(422, wrong) from None
        except Exception as error:  # whatever a listener does is a result, not an error of ours
            return {"failures": [str(error)]}
        return {"failures": []}

    @site.post("/lesson/answers")
    async def answer(id: Text, text: Text) -> dict[str, str]:
        """Write an answer into answers.toml, and say whether it's right."""
        said = {"state": "", "sentence": "", "problem": ""}
        try:
            for question in (each for each in course.questions() if each.id == id):
                said |= (await asyncio.to_thread(course.mark, question, text))._asdict()
            course.write_answer(id, text)  # one after the other, in the event loop
        except (course.LessonError, OSError, ValueError) as error:
            said["problem"] = str(error)
        return said

    @site.websocket("/lesson/live")
    async def live(socket: WebSocket) -> None:
        # % if cookiecutter.broker != "none"
        from lesson.instances import changed_or_due

        # % endif
        await socket.accept()
        # The page never speaks: whatever comes is that it left, or that the server stops.
        left, changed = asyncio.create_task(socket.receive()), asyncio.Event()
        left.add_done_callback(lambda _: changed.set())
        recorder.pages[changed] = -1
        try:
            while not left.done():
                changed.clear()
                changes = recorder.changes
                await socket.send_json(news(recorder))  # not over HTTP: another worker may answer
                recorder.pages[changed] = changes
                # % if cookiecutter.broker == "none"
                await changed.wait()
                # % else
                await changed_or_due(changed)
                # % endif
                if recorder.state == "running":
                    await asyncio.wait({left}, timeout=PAUSE)
            await socket.close(1008)
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            del recorder.pages[changed]
            left.cancel()

    @site.get("/lesson")
    @site.get("/lesson/{name}")
    async def file(name: str = "index.html") -> FileResponse:
        if name not in os.listdir(PAGE):
            raise HTTPException(404)
        return FileResponse(PAGE / name)

    return site


def news(recorder: Recorder) -> dict[str, Any]:
    # % if cookiecutter.broker != "none"
    from lesson.beyond import look
    from lesson.instances import connected, handled

    # % endif
    return {
        "steps": recorder.steps(),
        "run": recorder.run,
        "began": recorder.began.isoformat(timespec="milliseconds"),
        "state": recorder.state,
        "calls": recorder.calls,
        "running": [step.row() for step in list(recorder.running.values())[:50]],
        # % if cookiecutter.broker != "none"
        "handled": handled([*recorder.others(), *recorder.kept()], recorder.began),
        "beyond": look(recorder) if connected() else None,
        # % endif
    }


def event_types() -> dict[str, type[Event]]:
    """Return each event class by its name, wherever in the app it's defined."""
    return {each.__name__: each for each in below(Event) if each.__name__ != "IntegrationEvent"}


def questions() -> dict[str, Any]:
    """Return what's asked and answered, not what's right; and the problem with a file, if any."""
    found: dict[str, Any] = {"rows": [], "predictions": [], "questions": [], "problem": ""}
    try:
        found["rows"] = [row.cells for row in course.own_rows() if not row.problem]
        found["predictions"] = list(course.predictions())
        found["questions"] = course.questions()
        given = course.read_answers()
        for each in (*found["predictions"], *found["questions"]):
            each.answer = given.get(each.id, "")
            if each.answer and isinstance(each, course.Question) and not each.code:  # it takes time
                each.verdict = course.mark(each, each.answer)._asdict()
    except course.LessonError as error:
        found["problem"] = str(error)
    return found


def guarded(app: ASGIApp) -> ASGIApp:
    """Return `app`, refusing foreign hosts and origins, and adding HEADERS to every answer."""

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        answer = app
        if name := foreign_name(Headers(scope=scope))[:200]:
            answer = PlainTextResponse(say("foreign", name=name), 403)
        await answer(scope, receive, send_with_headers)

    return guard


def foreign_name(headers: Headers) -> str:
    """Return the foreign name that a request goes to or comes from, or nothing if it's ours."""
    host, origin = headers.get("host", ""), headers.get("origin")
    allowed = os.environ.get("LESSON_HOSTS", "").replace(" ", "").split(",")
    page = (origin or "").rpartition("://")[2]
    name, page_name = (re.sub(r":\d*$", "", each).strip("[]").lower() for each in (host, page))
    ours = name in allowed or name.endswith(WORKSPACES) or re.fullmatch(r"[\d.]+|.*:.*", name)
    if "." in name and not ours:  # which a stranger's DNS could point here (rebinding)
        return name
    # A browser sends its origin with each POST and each socket, and no page can set the other.
    if origin is None or page in (host, headers.get("x-forwarded-host")):
        return ""
    name = page_name or origin
    return "" if name in allowed else name
