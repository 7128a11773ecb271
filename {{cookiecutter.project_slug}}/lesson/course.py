"""The course: the tutorial's tables, the questions, and what the learner wrote in answers.toml."""

import codecs
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from string import ascii_uppercase
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args

import tomlkit
from pydantic import BaseModel, Field, ValidationError

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "TUTORIAL.md"
ANSWERS = ROOT / "answers.toml"
QUIZ = Path(__file__).with_name("quiz.toml")

Column = Literal["Step", "Event", "Listener Action", "Handler Output", "Next Action"]
EXECUTION_TABLE: tuple[str, ...] = get_args(Column)
GIVEN_ROWS = ("App starts", "User sends request", "App shuts down", "No event")

Model = TypeVar("Model", bound=BaseModel)
Text = Annotated[str, Field(min_length=1)]
HIDDEN = Field(exclude=True)  # from the page


class LessonError(Exception):
    """A file of the lesson can't be used; the message says which, where and what to do."""


@dataclass
class Row:
    """A row of a table, with its line in the file; `problem` says why it can't be used."""

    line: int
    cells: dict[str, str]
    problem: str = ""


class Verdict(NamedTuple):
    """What the grader says: a state, and a sentence that explains it."""

    state: Literal["not yet", "right", "wrong"]
    sentence: str


class Exercise(BaseModel):
    id: str
    text: Text
    hint: Text


class LookUp(BaseModel):
    """The cell of the execution table that answers: a column, in the row where another one is ..."""

    column: Column
    where: Column
    is_: Text = Field(alias="is")


class Choice(BaseModel):
    """A choice: its text, why it's right or wrong, and the cell or the output it stands for."""

    letter: str = ""
    text: Text
    why: Annotated[Text, HIDDEN]
    cell: Annotated[str | None, HIDDEN] = None
    prints: Annotated[str | None, HIDDEN] = None
    right: Annotated[bool, HIDDEN] = False


class Question(Exercise):
    """A question with choices. `after` names the question that has to be answered first."""

    choices: list[Choice] = Field(min_length=2, max_length=26)
    look_up: Annotated[LookUp | None, HIDDEN] = None
    code: str = ""
    after: str | None = None
    answer: str = ""
    verdict: dict[str, str] | None = None

    @property
    def right(self) -> str:
        """The letter of the right choice; "" if `code`, which is run to find it, doesn't run."""
        try:
            output = printed(self.code) if self.code else ""
        except subprocess.SubprocessError:
            return ""
        right = [each.letter for each in self.choices if each.right or each.prints == output]
        if len(right) != 1:
            raise LessonError(f"quiz.toml, {self.id}: {len(right)} choices say {output!r}.")
        return right[0]


class Prediction(BaseModel):
    """What a learner predicts before the run, and the `outcome` that the table has for it."""

    id: str
    text: Text
    look_up: Annotated[LookUp, HIDDEN]
    outcome: Annotated[str, HIDDEN] = ""
    answer: str = ""


def read(path: Path = TUTORIAL) -> str:
    """Return the text of a file; raise LessonError if it's missing or isn't UTF-8."""
    try:
        content = path.read_bytes()
        if b"\0" not in content:
            return content.decode("utf-8-sig").replace("\r\n", "\n")
        line, what = 1, "the file is saved as UTF-16"
    except FileNotFoundError:
        raise LessonError(f"{path.name} is missing; `git restore` brings it back.") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        what = "this line has a character that isn't UTF-8"
    place = f"{file_of(path)}, line {line}"
    raise LessonError(f"{place}: {what}; save the file as UTF-8 in your editor.")


def file_of(path: Path | str) -> str:
    """Return a file's path in the project, with slashes; only its name if it's elsewhere."""
    path = Path(path)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name


def table(columns: tuple[str, ...], path: Path = TUTORIAL) -> list[Row]:
    """Return the rows of the table with these `columns`; raise LessonError if there's none."""
    texts = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in read(path).splitlines()]
    lines = [[cell.strip() for cell in cells] for cells in texts]
    if list(columns) not in lines:
        names = ", ".join(columns)
        raise LessonError(f"{path.name}: the table with the columns {names} is missing.")
    start, rows = lines.index(list(columns)) + 2, []  # after the line of dashes
    for number, cells in enumerate(lines[start:], start + 1):
        if len(cells) == 1:
            break
        what = f"the row has {len(cells)} cells; give it {len(columns)}, one for each column."
        problem = "" if len(cells) == len(columns) else what
        rows.append(Row(number, dict(zip(columns, cells, strict=False)), problem))
    return rows


def given_rows(path: Path = TUTORIAL) -> list[Row]:
    """Return the four rows that the tutorial comes with; raise LessonError if one is missing."""
    rows = {row.cells["Event"]: row for row in reversed(table(EXECUTION_TABLE, path))}
    for event in GIVEN_ROWS:
        what = f"the execution table has no row with the event '{event}'; `git diff` shows why."
        if event not in rows or rows[event].problem:
            line = min(row.line for row in rows.values()) if rows else 1
            raise LessonError(f"{path.name}, line {line}: {what}")
    return [rows[event] for event in GIVEN_ROWS]


def own_rows(path: Path = TUTORIAL) -> list[Row]:
    """Return the rows that were added to the execution table, each with its problem, if any."""
    given = given_rows(path)
    taken = {row.cells["Step"]: row.cells["Event"] for row in given}
    own = [row for row in table(EXECUTION_TABLE, path) if row not in given]
    for row in [row for row in own if not row.problem]:
        number, free = row.cells["Step"], next(n for n in count(5) if str(n) not in taken)
        empty = [column for column, cell in row.cells.items() if not cell]
        if number in taken:
            row.problem = f"row {number} is '{taken[number]}' already; number this one {free}."
        elif not number.isdecimal():
            row.problem = f"the step is {number!r}; number the row {free}."
        elif empty:
            row.problem = f"the row has nothing under {empty[0]}; fill in the cell."
        taken.setdefault(number, row.cells["Event"])
    return own


def questions(path: Path = QUIZ, rows: list[dict[str, str]] | None = None) -> list[Question]:
    """Return the questions, looked up in `rows`; raise LessonError for one without one answer."""
    asked: list[Question] = []
    for question in blocks("question", Question, path):
        ids = [None, *(each.id for each in asked)]
        if question.id in ids or question.after not in ids:
            what = "its id must be new, and its `after` the id of a question before it"
            raise LessonError(f"quiz.toml, {question.id}: {what}.")
        if question.look_up:
            cell = _look_up(question.look_up, question.id, rows)
            for choice in question.choices:
                choice.right = choice.cell == cell
        right = sum(choice.right for choice in question.choices)
        if not question.code and right != 1:
            raise LessonError(f"quiz.toml, {question.id}: {right} choices are right; it takes one.")
        for letter, choice in zip(ascii_uppercase, question.choices, strict=False):
            choice.letter = letter
        asked.append(question)
    return asked


def predictions() -> Iterator[Prediction]:
    """Yield what is to be predicted before the run, each with its outcome looked up."""
    for prediction in blocks("predict", Prediction):
        prediction.outcome = _look_up(prediction.look_up, prediction.id)
        yield prediction


def mark(question: Question, letter: str | None) -> Verdict:
    """Return what the grader says to `letter`; None or an empty text is "not yet"."""
    letter = (letter or "").strip().upper()
    whys = {choice.letter: choice.why for choice in question.choices}
    if not letter:
        return Verdict("not yet", question.hint)
    if letter in whys and not question.right:
        return Verdict("not yet", "The quiz can't run its code right now; fix app/ first.")
    if letter in whys:
        return Verdict("right" if letter == question.right else "wrong", whys[letter])
    known = ", ".join(whys)
    return Verdict("wrong", f"{letter[:20]} isn't one of the choices; answer with {known}.")


@cache
def printed(code: str) -> str:
    """Return what `code` prints in a Python of its own; raise SubprocessError if it can't run."""
    command = [sys.executable, "-E", "-X", "utf8", "-W", "ignore", "-c", code]
    how: Any = {"stdin": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 20}
    return str(subprocess.check_output(command, cwd=ROOT, encoding="utf-8", **how))


def blocks(kind: str, model: type[Model], path: Path = QUIZ) -> Iterator[Model]:
    """Yield each [[kind]] of the file; raise LessonError with the id of one that isn't right."""
    try:
        found = tomllib.loads(read(path)).get(kind, [])
    except tomllib.TOMLDecodeError as error:
        raise LessonError(f"{path.name}: {error}") from None
    for block in found:
        try:
            yield model.model_validate(block)
        except ValidationError as error:
            place = f"{path.name}, {block.get('id')}"
            raise LessonError(f"{place}: {said_first(error.errors())}.") from None


def said_first(errors: Sequence[Any]) -> str:
    """Return pydantic's first error as a field and what's wrong with it."""
    return f"{'.'.join(map(str, errors[0]['loc'])) or 'value'}: {errors[0]['msg']}"


def _look_up(look_up: LookUp, id_: str, rows: list[dict[str, str]] | None = None) -> str:
    if rows is None:
        rows = [row.cells for row in given_rows()]
    found = [row[look_up.column] for row in rows if row[look_up.where] == look_up.is_]
    if len(found) != 1:
        what = f"{len(found)} rows of the table have {look_up.is_!r} under {look_up.where}, not 1"
        raise LessonError(f"quiz.toml, {id_}: {what}.")
    return found[0]


def read_answers(path: Path = ANSWERS) -> dict[str, str]:
    """Return the answers by their questions' ids; raise LessonError with the line of a bad one."""
    text = read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, at = str(error).partition(" (at ")
        [line] = re.findall(r"line (\d+)", at) or [len(text.splitlines())]
        how = 'write each answer between quotes, as in q1 = "A"'
        raise LessonError(f"{path.name}, line {line}: {reason}; {how}.") from None
    ids, given = _ids(), {}
    for section, entries in data.items():
        if section not in ids or not isinstance(entries, dict):
            what = f"{section} doesn't belong here; answers go under [predict] or [quiz]."
            raise LessonError(f"{path.name}, line {_line(text, section)}: {what}")
        for key, value in entries.items():
            place = f"{path.name}, line {_line(text, key)}"
            if key not in ids[section]:
                raise LessonError(f"{place}: there's no question {key}; see TUTORIAL.md.")
            if not isinstance(value, str):
                raise LessonError(f'{place}: write it between quotes, as in {key} = "A".')
            if value.strip():
                given[key] = value.strip()
    return given


def write_answer(id_: str, answer: str, path: Path = ANSWERS) -> None:
    """Write one answer, and change nothing else; raise LessonError if the file can't take it."""
    read_answers(path)
    document: Any = tomlkit.parse(read(path))
    section = next((section for section, ids in _ids().items() if id_ in ids), "")
    if not section:
        raise LessonError(f"There's no question {id_}.")
    document.setdefault(section, {})[id_] = " ".join(answer.split())
    was, draft = path.read_bytes(), path.with_name(f".{path.name}.new")
    encoding = "utf-8-sig" if was.startswith(codecs.BOM_UTF8) else "utf-8"
    line_end = "\r\n" if b"\r\n" in was else "\n"
    draft.write_text(tomlkit.dumps(document), encoding, errors="replace", newline=line_end)
    draft.replace(path)


def _ids() -> dict[str, list[str]]:
    asked: dict[str, Any] = {"predict": predictions(), "quiz": questions()}
    return {section: [each.id for each in found] for section, found in asked.items()}


def _line(text: str, key: str) -> int:
    before = re.split(rf"^\s*\[?[\"']?{re.escape(key)}\b", text, maxsplit=1, flags=re.M)[0]
    return before.count("\n") + 1
