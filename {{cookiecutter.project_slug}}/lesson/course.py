"""The course: the tutorial's tables, the questions, and what the learner wrote in answers.toml."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "TUTORIAL.md"
ANSWERS = ROOT / "answers.toml"
QUIZ = Path(__file__).with_name("quiz.toml")

EXECUTION_TABLE = ("Step", "Event", "Listener Action", "Handler Output", "Next Action")
VARIABLE_TRACKER = ("Variable", "Start", "After Step 1", "After Step 2", "After Step 3", "Final")
GIVEN_ROWS = ("App starts", "User sends request", "App shuts down", "No event")

State = Literal["not yet", "right", "wrong"]


class LessonError(Exception):
    """A file of the lesson can't be used; the message says which, where and what to do."""


@dataclass(frozen=True)
class Row:
    """A row of a table, with its line in the file; `problem` says why it can't be read."""

    line: int
    cells: dict[str, str]
    problem: str = ""


@dataclass(frozen=True)
class Verdict:
    """What the grader says: a state, and a sentence that explains it."""

    state: State
    sentence: str


@dataclass(frozen=True)
class Choice:
    """One choice of a question: its letter, its text, and why it's right or wrong."""

    letter: str
    text: str
    why: str
    stands_for: Any


@dataclass(frozen=True)
class Question:
    """A question with choices. `after` names the question that has to be answered first.

    It has one source of its answer: a cell of the execution table, what `code` prints, or, for
    a question about ideas, the choice that quiz.toml marks as right.
    """

    id: str
    text: str
    hint: str
    choices: tuple[Choice, ...]
    answer: Any = True
    code: str = ""
    after: str | None = None

    @property
    def right(self) -> str:
        """The letter of the right choice. Runs `code`, if there is any, in a process of its own."""
        answer = printed(self.code) if self.code else self.answer
        letters = [choice.letter for choice in self.choices if choice.stands_for == answer]
        if len(letters) != 1:
            raise LessonError(f"quiz.toml, {self.id}: {len(letters)} choices say {answer!r}.")
        return letters[0]


@dataclass(frozen=True)
class Prediction:
    """What a learner predicts before the run, and the `outcome` that the table has for it."""

    id: str
    text: str
    outcome: str


@dataclass(frozen=True)
class Answers:
    """What a learner wrote, by the id of the question; what was left empty isn't in it."""

    predict: dict[str, str]
    quiz: dict[str, str]


# Files


def read(path: Path = TUTORIAL) -> str:
    """Return the text of a file; raise LessonError if it's missing or isn't UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LessonError(f"{path.name} is missing; get it back with git.") from None
    except UnicodeDecodeError:
        raise LessonError(not_utf8(path.name, path.read_bytes())) from None


def not_utf8(name: str, content: bytes) -> str:
    """Return the sentence about a file that isn't UTF-8, with the first bad line if that helps."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content:
        return f"{name}, line 1: the file is saved as UTF-16; save it as UTF-8 in your editor."
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = "this line has a character that isn't UTF-8; save the file as UTF-8 in your editor."
        return f"{name}, line {line}: {what}"
    return ""


# The tutorial


def table(columns: tuple[str, ...], path: Path = TUTORIAL) -> list[Row]:
    """Return the rows of the table with these `columns`; raise LessonError if there's none."""
    lines = read(path).splitlines()
    start = next((n for n, line in enumerate(lines) if _cells(line) == list(columns)), None)
    if start is None:
        names = ", ".join(columns)
        raise LessonError(f"{path.name}: the table with the columns {names} is missing.")
    rows = []
    for number, line in enumerate(lines[start + 2 :], start + 3):  # after the line of dashes
        if "|" not in line:
            break
        cells = _cells(line)
        problem = ""
        if len(cells) != len(columns):
            problem = f"the row has {len(cells)} cells; the table has {len(columns)} columns."
        rows.append(Row(number, dict(zip(columns, cells, strict=False)), problem))
    return rows


def given_rows(path: Path = TUTORIAL) -> list[Row]:
    """Return the four rows that the tutorial comes with; raise LessonError if one is missing."""
    rows = table(EXECUTION_TABLE, path)
    found = []
    for event in GIVEN_ROWS:
        row = next((row for row in rows if row.cells.get("Event") == event), None)
        if row is None:
            what = f"the execution table has no row with the event '{event}'; get it back with git."
            raise LessonError(f"{path.name}, line {rows[0].line if rows else 1}: {what}")
        if row.problem:
            raise LessonError(f"{path.name}, line {row.line}: {row.problem}")
        found.append(row)
    return found


def own_rows(path: Path = TUTORIAL) -> list[Row]:
    """Return the rows that were added to the execution table, each with its problem, if any.

    A row needs a number that no other row has, and something in every cell.
    """
    given = given_rows(path)
    taken = {row.cells["Step"]: row.cells["Event"] for row in given}
    rows = []
    for row in table(EXECUTION_TABLE, path):
        if row in given:
            continue
        number, problem = row.cells.get("Step", ""), row.problem
        free = next(str(n) for n in range(5, 1000) if str(n) not in taken)
        empty = [column for column, cell in row.cells.items() if not cell]
        if not problem and number in taken:
            problem = f"row {number} is '{taken[number]}' already; number this one {free}."
        elif not problem and not number.isdecimal():
            problem = f"the step is {number!r}; number the row {free}."
        elif not problem and empty:
            problem = f"the row has nothing under {empty[0]}; fill in the cell."
        taken.setdefault(number, row.cells.get("Event", ""))
        rows.append(Row(row.line, row.cells, problem))
    return rows


def execution_table(path: Path = TUTORIAL) -> list[dict[str, str]]:
    """Return the rows of the execution table by their columns, without those that can't be read."""
    given_rows(path)
    return [row.cells for row in table(EXECUTION_TABLE, path) if not row.problem]


def variable_tracker(path: Path = TUTORIAL) -> list[dict[str, str]]:
    """Return the rows of the variable tracker: `event` and `handler_output`."""
    return [row.cells for row in table(VARIABLE_TRACKER, path)]


def _cells(line: str) -> list[str]:
    line = line.strip().removeprefix("|")
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.removesuffix("|"))]


# The quiz


def questions(path: Path = QUIZ, rows: list[dict[str, str]] | None = None) -> list[Question]:
    """Return the questions in order, each answer looked up in `rows` (the tutorial's own).

    Raises LessonError with the place if a question can't be asked or hasn't just one answer.
    """
    asked: list[Question] = []
    for place, data in _blocks(path, "question"):
        id_ = _text(data, "id", place)
        place = f"{place}, {id_}"
        if id_ in [question.id for question in asked]:
            raise LessonError(f"{place}: another question has this id; choose another.")
        if "code" in data:
            asked.append(_question(data, id_, place, "prints", None, code=data["code"]))
        else:
            cell = _look_up(data, place, rows)
            asked.append(_question(data, id_, place, "cell", cell))
        if "because" in data:
            more = data["because"]
            asked.append(_question(more, f"{id_}_because", f"{place}, because", "right", True, id_))
    return asked


def predictions(path: Path = QUIZ, rows: list[dict[str, str]] | None = None) -> list[Prediction]:
    """Return what is to be predicted before the run, each with its outcome looked up."""
    return [
        Prediction(
            _text(data, "id", place), _text(data, "text", place), _look_up(data, place, rows)
        )
        for place, data in _blocks(path, "predict")
    ]


def mark(question: Question, letter: str | None) -> Verdict:
    """Return what the grader says to `letter`; None or an empty text is "not yet"."""
    letter = (letter or "").strip().upper()
    if not letter:
        return Verdict("not yet", question.hint)
    for choice in question.choices:
        if choice.letter == letter:
            return Verdict("right" if letter == question.right else "wrong", choice.why)
    letters = ", ".join(choice.letter for choice in question.choices)
    return Verdict("wrong", f"{letter[:20]} isn't one of the choices; answer with {letters}.")


@cache
def printed(code: str) -> str:
    """Return what `code` prints in a Python of its own; raise LessonError if it can't run."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-W", "ignore", "-c", code]
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            encoding="utf-8", timeout=20, check=True,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise LessonError("Its code doesn't run just now; fix app/ first.") from None
    return done.stdout


def as_markdown() -> str:
    """Return the quiz as TUTORIAL.md shows it, the explanations folded away."""
    parts, number = [], 0
    for question in questions():
        number += not question.after
        title = f"Then, as `{question.id}`:" if question.after else f"### Question {number}"
        code = f"\n\n```python\n{question.code.strip()}\n```" if question.code else ""
        choices = "\n".join(f"- **{choice.letter}** {choice.text}" for choice in question.choices)
        whys = "\n".join(
            f"- **{choice.letter}** is {mark(question, choice.letter).state}. {choice.why}"
            for choice in question.choices
        )
        parts.append(
            f"{title}\n\n{question.text}{code}\n\n{choices}\n\nHint: {question.hint}\n\n"
            f"<details>\n<summary>What each choice means</summary>\n\n{whys}\n\n</details>\n"
        )
    return "\n".join(parts)


def _blocks(path: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each [[kind]] of the file with its place, such as "quiz.toml, line 3"."""
    text = read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LessonError(f"{path.name}: {error}") from None
    lines = [n for n, line in enumerate(text.splitlines(), 1) if line.strip() == f"[[{kind}]]"]
    blocks = data.get(kind, [])
    if len(lines) != len(blocks) or not blocks:
        raise LessonError(f"{path.name}: start each {kind} with a line that says [[{kind}]].")
    for line, block in zip(lines, blocks, strict=True):
        yield f"{path.name}, line {line}", block


def _look_up(data: Mapping[str, Any], place: str, rows: list[dict[str, str]] | None) -> str:
    look_up = data.get("look_up")
    if not isinstance(look_up, dict):
        look_up = {}
    column, where, value = (_text(look_up, key, place) for key in ("column", "where", "is"))
    for name in (column, where):
        if name not in EXECUTION_TABLE:
            names = ", ".join(EXECUTION_TABLE)
            raise LessonError(f"{place}: the table has no column {name!r}; it has {names}.")
    if rows is None:
        rows = [row.cells for row in given_rows()]
    found = [row[column] for row in rows if row[where] == value]
    if len(found) != 1:
        count = f"{len(found)} rows" if found else "no row"
        raise LessonError(f"{place}: {count} of the table where {where} is {value!r}.")
    return found[0]


def _question(
    data: Mapping[str, Any], id_: str, place: str, key: str, answer: Any,
    after: str | None = None, code: str = "",
) -> Question:  # fmt: skip
    raw = data.get("choices", [])
    if not 2 <= len(raw) <= len(ascii_uppercase):
        raise LessonError(f"{place}: a question needs two or more choices; it has {len(raw)}.")
    choices = []
    for letter, choice in zip(ascii_uppercase, raw, strict=False):
        stands_for = choice.get(key) if key == "right" else _text(choice, key, place)
        text, why = _text(choice, "text", place), _text(choice, "why", place)
        choices.append(Choice(letter, text, why, stands_for))
    count = sum(choice.stands_for == answer for choice in choices)
    if not code and count != 1:
        said = "say `right = true`" if after else f"stand for {answer!r}, which the table says"
        raise LessonError(f"{place}: {count or 'none'} of the choices {said}; just one must.")
    texts = _text(data, "text", place), _text(data, "hint", place)
    return Question(id_, *texts, tuple(choices), answer, code, after)


def _text(data: Mapping[str, Any], key: str, place: str) -> str:
    text = data.get(key)
    if not isinstance(text, str) or not text.strip():
        raise LessonError(f"{place}: `{key}` is missing; write a text in quotes.")
    return text


# The answers


def read_answers(path: Path = ANSWERS) -> Answers:
    """Return the answers in `path`.

    Raises LessonError with the line for broken TOML, an answer without quotes, no such question.
    """
    known = {prediction.id for prediction in predictions()} | {each.id for each in questions()}
    text = read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line (\d+)", str(error))
        line = int(at[1]) if at else len(text.splitlines())
        reason = re.sub(r" \(at .*\)", "", str(error))
        how = 'write each answer between quotes, as in q1 = "A"'
        raise LessonError(f"{path.name}, line {line}: {reason}; {how}.") from None
    found: dict[str, dict[str, str]] = {"predict": {}, "quiz": {}}
    for section, entries in data.items():
        if section not in found or not isinstance(entries, dict):
            what = f"{section} doesn't belong here; answers go under [predict] or [quiz]."
            raise LessonError(f"{path.name}{_line(text, section)}: {what}")
        for key, value in entries.items():
            place = f"{path.name}{_line(text, key)}"
            if key not in known:
                raise LessonError(f"{place}: there's no question {key}; see TUTORIAL.md.")
            if not isinstance(value, str):
                raise LessonError(f'{place}: write it between quotes, as in {key} = "A".')
            if value.strip():
                found[section][key] = value.strip()
    return Answers(**found)


def write_answer(id_: str, answer: str, path: Path = ANSWERS) -> None:
    """Write one answer into `path`; comments and all other lines stay as they are.

    Raises LessonError if the file is broken, or if there's no such question.
    """
    if id_ in [prediction.id for prediction in predictions()]:
        section = "predict"
    elif id_ in [question.id for question in questions()]:
        section = "quiz"
    else:
        raise LessonError(f"There's no question {id_}.")
    read_answers(path)
    answer = " ".join(answer.encode(errors="replace").decode().replace("\x7f", "").split())
    value = json.dumps(answer, ensure_ascii=False)
    content = path.read_bytes().decode()  # with its line ends and byte order mark
    newline = "\r\n" if "\r\n" in content else "\n"
    text = r"""("(?:\\.|[^"\\\r\n])*"|'[^'\r\n]*')"""
    entry = re.compile(rf"^([ \t]*{id_}[ \t]*=[ \t]*){text}(?!['\"])", re.M)
    changed, count = entry.subn(lambda found: found[1] + value, content, count=1)
    if not count:
        head, line = re.compile(rf"^\[{section}\][^\r\n]*", re.M), f"{newline}{id_} = {value}"
        changed, count = head.subn(lambda found: found[0] + line, content, count=1)
    draft = path.with_name(f".{path.name}.new")
    draft.write_bytes(changed.encode())
    try:
        if getattr(read_answers(draft), section).get(id_, "") != answer:
            raise LessonError(f"{path.name}{_line(content, id_)}: write {id_} = {value} by hand.")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _line(text: str, key: str) -> str:
    pattern = re.compile(rf"\s*\[?[\"']?{re.escape(key)}\b")
    lines = enumerate(text.splitlines(), 1)
    return next((f", line {number}" for number, line in lines if pattern.match(line)), "")


if __name__ == "__main__":
    print(as_markdown())
