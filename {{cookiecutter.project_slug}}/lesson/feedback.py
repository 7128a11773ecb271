"""Says what's wrong with the learner's code: the place, what happened, and one thing to do."""

import inspect
import re
import tomllib
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

from fastapi.exceptions import ResponseValidationError
from pydantic import ValidationError

from lesson.course import ROOT, LessonError, file_of, read, said_first

FEEDBACK = tomllib.loads(Path(__file__).with_name("feedback.toml").read_text(encoding="utf-8"))
OURS = ("app/bus.py", "app/handlers/__init__.py", "app/messaging/")  # the cause is elsewhere


def unreadable() -> str:
    """Return what's wrong with the first file of app/ that isn't Python; nothing if all are."""
    for path in sorted((ROOT / "app").rglob("*.py")):
        if path.name[0] in "._" and path.name != "__init__.py":
            continue  # nobody imports these
        try:
            compile(read(path), path, "exec", dont_inherit=True)
        except LessonError as error:
            return str(error)
        except SyntaxError as error:
            what = f"{type(error).__name__}: {error.msg}"
            return advise(f"{file_of(path)}, line {error.lineno}", what)
    return ""


def explain(error: BaseException, fallback: str = "") -> str:
    """Return where in the learner's files `error` was raised, or `fallback`, and what to do."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    what = str(error)
    if isinstance(error, ValidationError | ResponseValidationError):
        what = f"{getattr(error, 'title', 'answer')}, field {said_first(error.errors())}"
    what = ": ".join([type(error).__name__, *what.splitlines()[:1]])
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if own(frame.filename) and not is_circle(error):  # which has no one frame
            by = "" if frame.name.startswith("<") else f"{frame.name} raises "
            place = f"{file_of(frame.filename)}, line {frame.lineno}"
            return advise(place, by + what, frame.line)
    return advise(fallback, what)


def advise(place: str, what: str, code: str | None = "") -> str:
    """Return one line for the learner: the place, what happened, and the advice that fits it."""
    text = f"{what}\n{code}"
    found = ((re.search(rule["when"], text), rule["say"]) for rule in FEEDBACK["rules"])
    advice = next(match.expand(sentence) for match, sentence in found if match)
    what = re.sub(r", not <.+>| \(\S+\.py\)", "", what)  # Python's names, which help nobody
    end = "" if what.endswith((".", "!", "?")) else "."
    return f"{place}: {what}{end} {advice}" if place else f"{what}{end} {advice}"


def say(key: str, place: str = "", **words: object) -> str:
    """Return a sentence of feedback.toml at its place, with the learner's own words in it."""
    sentence = FEEDBACK["sentences"][key].format(**words)
    return f"{place}: {sentence}" if place else str(sentence)


def where(thing: Any) -> str:
    """Return the place of a function or class, as in "app/handlers/stock.py, line 9"."""
    thing = getattr(thing, "func", thing)  # of a partial
    thing = thing if isinstance(thing, type) or hasattr(thing, "__code__") else type(thing)
    thing = inspect.unwrap(thing)
    try:
        lines, first = inspect.getsourcelines(thing)
    except (OSError, TypeError):
        return str(getattr(thing, "__module__", ""))
    begins = re.compile(r"\s*(async\s+def|def|class)\b")  # below the decorators
    line = first + next((n for n, line in enumerate(lines) if begins.match(line)), 0)
    return f"{file_of(inspect.getsourcefile(thing) or '')}, line {line}"


def caller(frame: FrameType | None) -> str:
    """Return the innermost place in the learner's files that led to `frame`; "" if none did."""
    while frame and not own(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{file_of(frame.f_code.co_filename)}, line {frame.f_lineno}" if frame else ""


def own(path: str) -> bool:
    """Tell whether a file is the learner's to change."""
    return file_of(path).startswith("app/") and not file_of(path).startswith(OURS)


def is_circle(error: BaseException | None) -> bool:
    """Tell whether an error is the bus's, about listeners that emit in a circle."""
    return type(error).__name__ == "EndlessChain"
