"""Reads answers.toml, the one file of the lesson that a learner edits."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from lesson.tutorial import LessonError

ANSWERS = Path(__file__).parent.parent / "answers.toml"


@dataclass(frozen=True)
class Answers:
    """What a learner wrote, by the id of the question; what was left empty is not in it."""

    predict: dict[str, str]
    quiz: dict[str, str]


def read(known: set[str], path: Path = ANSWERS) -> Answers:
    """Return the answers in `path` to the questions whose ids are `known`.

    Raises LessonError with the line for what is no TOML, no text in quotes or no question.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LessonError(f"{path.name} is not there; take it back from git.") from None
    except UnicodeDecodeError:
        raise LessonError(f"{path.name} is no UTF-8; save it as UTF-8 in your editor.") from None
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line (\d+)", str(error))
        line = int(at[1]) if at else len(text.splitlines())
        reason = re.sub(r" \(at .*\)", "", str(error))
        how = 'write each answer between quotes, as in q1 = "A"'
        raise LessonError(f"{path.name}, line {line}: {reason}; {how}.") from None

    found: dict[str, dict[str, str]] = {"predict": {}, "quiz": {}}
    for table, entries in data.items():
        if table not in found or not isinstance(entries, dict):
            raise LessonError(
                f"{path.name}{_line(text, table)}: {table} does not belong here;"
                " answers go under [predict] or [quiz]."
            )
        for key, value in entries.items():
            place = f"{path.name}{_line(text, key)}"
            if key not in known:
                raise LessonError(f"{place}: there is no question {key}; see TUTORIAL.md.")
            if not isinstance(value, str):
                raise LessonError(f'{place}: write it between quotes, as in {key} = "A".')
            if value.strip():
                found[table][key] = value.strip()
    return Answers(**found)


def _line(text: str, key: str) -> str:
    pattern = re.compile(rf"\s*\[?[\"']?{re.escape(key)}\b")
    for number, line in enumerate(text.splitlines(), 1):
        if pattern.match(line):
            return f", line {number}"
    return ""
