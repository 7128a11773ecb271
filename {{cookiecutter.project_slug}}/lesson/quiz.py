"""The quiz: each answer is looked up in the execution table, and none is stored."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

from lesson.tutorial import EXECUTION_TABLE, LessonError, execution_table

__all__ = ["Because", "Choice", "Prediction", "Question", "Verdict", "execution_table", "load"]

QUIZ = Path(__file__).with_name("quiz.toml")

State = Literal["not yet", "right", "wrong"]


class QuizError(LessonError):
    """quiz.toml cannot be used; the message says where and why."""


@dataclass(frozen=True)
class Choice:
    """One choice: its letter, what it says, and why it is right or wrong."""

    letter: str
    text: str
    why: str


@dataclass(frozen=True)
class Because:
    """The question after the look-up: why is that so? `right` is the letter of the reason."""

    id: str
    text: str
    hint: str
    choices: tuple[Choice, ...]
    right: str


@dataclass(frozen=True)
class Question:
    """A question about the execution table; `right` is the letter that the look-up gives."""

    id: str
    text: str
    hint: str
    choices: tuple[Choice, ...]
    right: str
    because: Because | None


@dataclass(frozen=True)
class Prediction:
    """What a learner predicts before the run, and the `outcome` that the table has for it."""

    id: str
    text: str
    outcome: str


@dataclass(frozen=True)
class Verdict:
    """What the grader says: a state, and a sentence that explains it."""

    state: State
    sentence: str


def load(path: Path = QUIZ, table: list[dict[str, str]] | None = None) -> tuple[Question, ...]:
    """Return the questions, each with its answer looked up in `table` (the tutorial's own).

    Raises QuizError with the place if a question cannot be asked or has not just one answer.
    """
    rows = execution_table() if table is None else table
    questions: list[Question] = []
    for place, data in _blocks(path, "question"):
        id_ = _text(data, "id", place)
        place = f"{place}, {id_}"
        if id_ in [question.id for question in questions]:
            raise QuizError(f"{place}: another question has this id; give it its own.")
        cell = _look_up(data, place, rows)
        choices = _choices(data, place)
        means = [_text(choice, "cell", place) for choice in data["choices"]]
        if means.count(cell) != 1:
            count = means.count(cell) or "none"
            raise QuizError(
                f"{place}: the table says {cell!r}, and {count} of the choices stand for it;"
                " one must."
            )
        right = choices[means.index(cell)].letter
        because = _because(data, f"{id_}_because", f"{place}, because")
        texts = _text(data, "text", place), _text(data, "hint", place)
        questions.append(Question(id_, *texts, choices, right, because))
    return tuple(questions)


def predictions(
    path: Path = QUIZ, table: list[dict[str, str]] | None = None
) -> tuple[Prediction, ...]:
    """Return what is to be predicted before the run, each with its outcome looked up."""
    rows = execution_table() if table is None else table
    return tuple(
        Prediction(
            _text(data, "id", place), _text(data, "text", place), _look_up(data, place, rows)
        )
        for place, data in _blocks(path, "predict")
    )


def mark(question: Question | Because, letter: str | None) -> Verdict:
    """Return what the grader says to `letter`; None or an empty text is "not yet"."""
    letter = (letter or "").strip().upper()
    if not letter:
        return Verdict("not yet", question.hint)
    for choice in question.choices:
        if choice.letter == letter:
            return Verdict("right" if letter == question.right else "wrong", choice.why)
    letters = ", ".join(choice.letter for choice in question.choices)
    return Verdict("wrong", f"{letter[:20]} is none of the choices; answer with one of {letters}.")


def as_markdown(questions: tuple[Question, ...]) -> str:
    """Return the quiz as TUTORIAL.md shows it, the explanations folded away."""
    parts = []
    for number, question in enumerate(questions, 1):
        parts.append(f"### Question {number}\n")
        parts.append(_asked(question))
        if question.because:
            parts.append(f"Then, as `{question.because.id}`:\n")
            parts.append(_asked(question.because))
    return "\n".join(parts)


def _asked(question: Question | Because) -> str:
    choices = "\n".join(f"- **{choice.letter}** {choice.text}" for choice in question.choices)
    whys = "\n".join(
        f"- **{choice.letter}** is {mark(question, choice.letter).state}. {choice.why}"
        for choice in question.choices
    )
    return (
        f"{question.text}\n\n{choices}\n\nHint: {question.hint}\n\n"
        f"<details>\n<summary>What each choice means</summary>\n\n{whys}\n\n</details>\n"
    )


def _blocks(path: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each [[kind]] of the file with its place, such as "quiz.toml, line 3"."""
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise QuizError(f"{path.name}: {error}") from None
    lines = [n for n, line in enumerate(text.splitlines(), 1) if line.strip() == f"[[{kind}]]"]
    blocks = data.get(kind, [])
    if len(lines) != len(blocks) or not blocks:
        raise QuizError(f"{path.name}: write each {kind} as a block that begins [[{kind}]].")
    for line, block in zip(lines, blocks, strict=True):
        yield f"{path.name}, line {line}", block


def _look_up(data: Mapping[str, Any], place: str, rows: list[dict[str, str]]) -> str:
    look_up = data.get("look_up")
    if not isinstance(look_up, dict):
        look_up = {}
    column, where, value = (_text(look_up, key, place) for key in ("column", "where", "is"))
    for name in (column, where):
        if name not in EXECUTION_TABLE:
            names = ", ".join(EXECUTION_TABLE)
            raise QuizError(f"{place}: {name!r} is no column of the table; it has {names}.")
    found = [row[column] for row in rows if row[where] == value]
    if len(found) != 1:
        count = len(found) or "no"
        s = "s" if len(found) > 1 else ""
        raise QuizError(f"{place}: {count} row{s} of the table where {where} is {value!r}.")
    return found[0]


def _choices(data: Mapping[str, Any], place: str) -> tuple[Choice, ...]:
    choices = data.get("choices", [])
    if not 2 <= len(choices) <= len(ascii_uppercase):
        raise QuizError(f"{place}: it has {len(choices)} choices; give it two or more.")
    return tuple(
        Choice(letter, _text(choice, "text", place), _text(choice, "why", place))
        for letter, choice in zip(ascii_uppercase, choices, strict=False)
    )


def _because(data: Mapping[str, Any], id_: str, place: str) -> Because | None:
    if "because" not in data:
        return None
    data = data["because"]
    choices = _choices(data, place)
    right = [c.letter for c, raw in zip(choices, data["choices"], strict=True) if raw.get("right")]
    if len(right) != 1:
        raise QuizError(f"{place}: {len(right)} choices say `right = true`; just one must.")
    return Because(id_, _text(data, "text", place), _text(data, "hint", place), choices, right[0])


def _text(data: Mapping[str, Any], key: str, place: str) -> str:
    text = data.get(key)
    if not isinstance(text, str) or not re.search(r"\S", text):
        raise QuizError(f"{place}: `{key}` is missing; it must be a text in quotes.")
    return text


if __name__ == "__main__":
    print(as_markdown(load()))
