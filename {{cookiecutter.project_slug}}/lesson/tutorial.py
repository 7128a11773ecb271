"""Reads TUTORIAL.md, so that its tables and its code are facts that can be checked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TUTORIAL = Path(__file__).parent.parent / "TUTORIAL.md"

EXECUTION_TABLE = ("Step", "Event", "Listener Action", "Handler Output", "Next Action")
VARIABLE_TRACKER = ("Variable", "Start", "After Step 1", "After Step 2", "After Step 3", "Final")


class LessonError(Exception):
    """A file of the lesson cannot be used; the message says which, where and what to do."""


@dataclass(frozen=True)
class Moment:
    """A key moment: a question that learners ask, and the short answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Excerpt:
    """A block of Python in the tutorial, the line it starts on and the file it is said to be of."""

    line: int
    code: str
    file: str | None


def read(path: Path = TUTORIAL) -> str:
    """Return the text of the tutorial; raise LessonError if there is none."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise LessonError(f"{path.name} is not there; take it back from git.") from None
    except UnicodeDecodeError:
        raise LessonError(f"{path.name} is no UTF-8; save it as UTF-8 in your editor.") from None


def table(columns: tuple[str, ...], path: Path = TUTORIAL) -> list[dict[str, str]]:
    """Return the rows of the first table that has just these `columns`, each a dict by column.

    Raises LessonError if there is no such table, or if a row has more or fewer cells.
    """
    lines = read(path).splitlines()
    start = next((n for n, line in enumerate(lines) if _cells(line) == list(columns)), None)
    if start is None:
        raise LessonError(f"{path.name} has no table with the columns {', '.join(columns)}.")
    rows = []
    for number, line in enumerate(lines[start + 2 :], start + 3):  # after the line of dashes
        if not line.startswith("|"):
            break
        cells = _cells(line)
        if len(cells) != len(columns):
            what = f"{len(cells)} cells, and the table has {len(columns)} columns"
            raise LessonError(f"{path.name}, line {number}: the row has {what}.")
        rows.append(dict(zip(columns, cells, strict=True)))
    return rows


def execution_table(path: Path = TUTORIAL) -> list[dict[str, str]]:
    """Return the rows of the execution table, each a dict from its five columns to its cells."""
    return table(EXECUTION_TABLE, path)


def variable_tracker(path: Path = TUTORIAL) -> list[dict[str, str]]:
    """Return the rows of the variable tracker: `event` and `handler_output`."""
    return table(VARIABLE_TRACKER, path)


def concept_flow(path: Path = TUTORIAL) -> list[str]:
    """Return what the boxes of the concept flow say, in order."""
    diagram = re.search(r"```mermaid\n(.*?)```", read(path), re.DOTALL)
    return re.findall(r'"(.+?)"', diagram[1]) if diagram else []


def key_moments(path: Path = TUTORIAL) -> tuple[Moment, ...]:
    """Return the key moments: a heading that asks, and the first paragraph under it."""
    found = re.findall(r"^#### (.+\?)\n\n((?:.+\n)+)", read(path), re.MULTILINE)
    return tuple(Moment(question, " ".join(answer.split())) for question, answer in found)


def excerpts(path: Path = TUTORIAL) -> Iterator[Excerpt]:
    """Yield each block of Python; it is of a file if the paragraph above ends "In [file](...):"."""
    text = read(path)
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        paragraph = text[: block.start()].rstrip().rpartition("\n\n")[2]
        named = re.search(r"In\s\[(.+?)\]\(\1\):$", paragraph)
        line = text.count("\n", 0, block.start()) + 1
        yield Excerpt(line, block[1], named[1] if named else None)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
