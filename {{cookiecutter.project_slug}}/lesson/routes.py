"""The page's own small API, under /lesson."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, HTTPException, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field, ValidationError

from app.bus import emit
from lesson import answers, catalog, quiz
from lesson.instances import LOOK, Instances
from lesson.recorder import Recorder
from lesson.tutorial import LessonError

PAGE = Path(__file__).parent / "page"
LARGEST_BODY = 64 * 1024  # bytes
PAUSE = 0.1  # seconds between two messages to a page
RUNNING = 50  # steps that a message names while they run


class Sent(BaseModel):
    """An event that the page asks for."""

    type: Annotated[str, Field(max_length=200)]
    fields: dict[str, Any]


class Answer(BaseModel):
    """A choice in the quiz."""

    id: Annotated[str, Field(max_length=100)]
    letter: Annotated[str, Field(max_length=10)]


def site(app: FastAPI, recorder: Recorder) -> FastAPI:
    """Return an app with all that is under /lesson, about `app` and what `recorder` saw of it."""
    router = APIRouter(prefix="/lesson")
    instances = Instances(recorder)

    # Named one by one, as Windows may have another idea of what a .js file is.
    @router.get("")
    async def page() -> FileResponse:
        return FileResponse(PAGE / "index.html", media_type="text/html; charset=utf-8")

    @router.get("/page.css")
    async def style() -> FileResponse:
        return FileResponse(PAGE / "page.css", media_type="text/css; charset=utf-8")

    @router.get("/page.js")
    async def script() -> FileResponse:
        return FileResponse(PAGE / "page.js", media_type="text/javascript; charset=utf-8")

    @router.get("/forms.js")
    async def forms() -> FileResponse:
        return FileResponse(PAGE / "forms.js", media_type="text/javascript; charset=utf-8")

    @router.get("/icon.svg")
    async def icon() -> FileResponse:
        return FileResponse(PAGE / "icon.svg", media_type="image/svg+xml")

    @router.get("/steps")
    async def steps() -> JSONResponse:
        return JSONResponse(recorder.steps())

    @router.get("/instances")
    async def handled() -> JSONResponse:
        return JSONResponse(instances.handled())

    @router.get("/about")
    def about() -> dict[str, Any]:
        return {
            "title": app.title,
            "run": recorder.run,
            "events": list(catalog.events()),
            "routes": catalog.routes(app),
            **questions(),
        }

    @router.post("/events")
    async def send_event(sent: Sent) -> dict[str, list[str]]:
        event_type = catalog.event_types().get(sent.type)
        if event_type is None or not catalog.can_be_sent(event_type):
            raise HTTPException(404, f"{sent.type} is no event that can be sent from here.")
        try:
            event = event_type.model_validate_json(json.dumps(sent.fields))
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
            raise HTTPException(422, problems) from None
        try:
            await emit(event)
        except Exception as error:  # whatever a listener does is a result, not an error of ours
            return {"failures": [str(error)]}
        return {"failures": []}

    @router.post("/quiz")
    def answer(answer: Answer) -> dict[str, str]:
        for question in quiz.load():
            for asked in (question, question.because):
                if asked and asked.id == answer.id:
                    return asdict(quiz.mark(asked, answer.letter))
        raise HTTPException(404, f"There is no question {answer.id}.")

    @router.websocket("/live")
    async def live(socket: WebSocket) -> None:
        await socket.accept()
        changed = asyncio.Event()
        # The page never speaks: whatever comes is that it left, or that the server stops.
        left = asyncio.create_task(socket.receive())
        with recorder.telling(changed):
            seen, message = news(recorder, recorder.ended)
            # All at once, and not over HTTP: another worker of the server might answer that.
            message["steps"] = recorder.steps()
            try:
                while not left.done():
                    handled = instances.handled()
                    await socket.send_json(message | {"handled": handled})
                    waiting = asyncio.create_task(changed.wait())
                    done = False
                    while not done:
                        ended, _ = await asyncio.wait(
                            {waiting, left}, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED
                        )
                        done = bool(ended) or instances.handled() != handled
                    waiting.cancel()
                    await asyncio.wait({left}, timeout=PAUSE)
                    changed.clear()
                    seen, message = news(recorder, seen)
                await socket.close(1008)
            except (WebSocketDisconnect, RuntimeError):
                pass
            finally:
                left.cancel()

    site = FastAPI(openapi_url=None, max_body_size=LARGEST_BODY)
    site.include_router(router)
    return site


def questions() -> dict[str, Any]:
    """Return what the page asks and what answers.toml says to it, without what is right.

    What stands in the way, such as a line of answers.toml that is no TOML, is in "problem".
    """
    found: dict[str, Any] = {"predictions": [], "questions": [], "problem": ""}
    given = answers.Answers({}, {})
    try:
        predictions, questions = quiz.predictions(), quiz.load()
        both = [one for q in questions for one in (q, q.because) if one]
        try:
            given = answers.read({one.id for one in (*predictions, *both)})
        except LessonError as error:
            found["problem"] = str(error)
        found["predictions"] = [
            {"id": p.id, "text": p.text, "answer": given.predict.get(p.id)} for p in predictions
        ]
        found["questions"] = [
            asked(q, given) | {"because": q.because and asked(q.because, given)} for q in questions
        ]
    except LessonError as error:
        found["problem"] = str(error)
    return found


def asked(question: quiz.Question | quiz.Because, given: answers.Answers) -> dict[str, Any]:
    """Return a question as it may be seen before it is answered."""
    return {
        "id": question.id,
        "text": question.text,
        "hint": question.hint,
        "choices": [{"letter": c.letter, "text": c.text} for c in question.choices],
        "answer": given.quiz.get(question.id, "").upper(),
    }


def news(recorder: Recorder, seen: int) -> tuple[int, dict[str, Any]]:
    """Return how many steps there are now, and what a page that has `seen` so many must learn."""
    ended = recorder.ended
    running = [now.label for now in list(recorder.running.values())[:RUNNING]]
    if recorder.running_too:
        running.append(f"{recorder.running_too} more")
    return ended, {
        "run": recorder.run,
        "steps": recorder.latest(ended - seen),
        "calls": recorder.calls(),
        "running": running,
    }
