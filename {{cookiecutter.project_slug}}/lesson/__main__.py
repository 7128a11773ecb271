"""The command of the lesson: uv run python -m lesson check."""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from lesson import course
from lesson.course import Choice, LessonError, Verdict
from lesson.exercises import EXERCISES, verdicts

# A mark, and what stands for it where the terminal has no such character.
MARKS = {"right": "\u2713x", "wrong": "\u2717!", "not yet": "\u00b7 "}


class Item(NamedTuple):
    """One thing to do: its part of the lesson, its id, what it asks and how far it is."""

    part: str
    id: str
    text: str
    verdict: Verdict
    choices: Sequence[Choice] = ()

    @property
    def remark(self) -> str:
        state = "Hint" if self.verdict.state == "not yet" else self.verdict.state.capitalize()
        return ("" if self.part == "Predict" else f"{state}: ") + self.verdict.sentence

    def show(self) -> None:
        wanted = "".join(marks[0] for marks in MARKS.values())
        plain = b"?" in wanted.encode(sys.stdout.encoding or "ascii", "replace")
        remark = "" if self.verdict.state == "not yet" else f"\n      {self.remark}"
        print(f"  [{MARKS[self.verdict.state][plain]}] {self.id:<11} {self.text}{remark}")


def items() -> Iterator[Item]:
    """Yield everything there is to do, in order; raise LessonError for a file that can't be used."""
    given = course.read_answers()
    for prediction in course.predictions():
        verdict = Verdict("not yet", "Write down what you expect, in answers.toml.")
        if said := given.get(prediction.id):
            verdict = Verdict("right", f"You said: {said}. The table says: {prediction.outcome}.")
        yield Item("Predict", prediction.id, prediction.text, verdict)
    right: set[str | None] = {None}
    for question in course.questions():
        if question.after not in right:
            later = Verdict("not yet", f"It comes after {question.after}.")
            yield Item("Quiz", question.id, f"(comes after {question.after})", later)
            continue
        verdict = course.mark(question, given.get(question.id))
        if verdict.state == "right":
            right.add(question.id)
        yield Item("Quiz", question.id, question.text, verdict, question.choices)
    texts = {exercise.id: exercise.text for exercise in EXERCISES}
    for id_, verdict in verdicts().items():
        yield Item("Exercises", id_, texts.get(id_, "Fix app/, so that it starts again"), verdict)


def look(before: list[Item] | None = None) -> list[Item]:
    """Print each item as soon as it's known, or only what's new since `before`; the next step."""
    done: list[Item] = []
    for item in items():
        if before is None and item.part not in [each.part for each in done]:
            print(f"\n{item.part}")
        if item not in (before or ()):
            item.show()
        done.append(item)
    left = unfinished(done)
    print(f"\n{len(done) - len(left)} of {len(done)} done.")
    for item in left[:1]:
        choices = "".join(f"  {choice.letter}  {choice.text}\n" for choice in item.choices)
        print(f"Next: {item.id}. {item.text}\n{choices}  {item.remark}")
    return done


def unfinished(done: list[Item]) -> list[Item]:
    return [item for item in done if item.verdict.state != "right"]


def watch() -> list[Item]:
    """Look again whenever a file is saved: what has changed comes first, then the next step."""
    done: list[Item] | None = None
    seen, saved = None, dict[Path, int]()
    while done is None or unfinished(done):
        files = [course.TUTORIAL, course.ANSWERS, *(course.ROOT / "app").rglob("*.py")]
        with suppress(FileNotFoundError):  # an editor is just replacing one
            saved = {path: path.stat().st_mtime_ns for path in files if path.exists()}
        if saved == seen:
            time.sleep(0.2)
            continue
        seen = saved
        try:
            done = look(done)
        except LessonError as error:
            print(f"\n{error}")
        print("\nWaiting until you save a file. Ctrl+C ends this.")
    return done


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lesson", description="How far am I?")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("check", help="show questions, exercises and the next step")
    command.add_argument("--grade", action="store_true", help="exit 1 while anything is open")
    command.add_argument("--watch", action="store_true", help="look again on every save")
    # % if cookiecutter.broker != "none"
    command = commands.add_parser("broker", help="start the broker of BEYOND.md, or say how to")
    command.add_argument("--fresh", action="store_true", help="start with an empty one")
    # % endif
    # % if cookiecutter.broker == "nats"
    command.add_argument("--port", type=int, default=4222, help="of the server (4222)")
    # % elif cookiecutter.broker == "postgres"
    command.add_argument("--port", type=int, default=5432, help="of the server (5432)")
    # % endif
    # % if cookiecutter.lesson == "solution"
    about = "Grade the folders of a class. It runs the code in them, with your permissions."
    command = commands.add_parser("grade", help=about, description=about)
    what = "a learner's project; ../class/* is every folder in ../class"
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help=what)
    what = "the CSV file to write (grades.csv)"
    command.add_argument("--output", type=Path, default=Path("grades.csv"), help=what)
    what = "how long the tests of a folder may be silent (120)"
    command.add_argument("--seconds", type=float, default=120, help=what)
    # % endif
    given = parser.parse_args()
    # % if cookiecutter.lesson == "solution"
    if given.command == "grade":
        from lesson.grade import grade

        return grade(given.folders, given.output, given.seconds)
    # % endif
    # % if cookiecutter.broker != "none"
    if given.command == "broker":
        from lesson.broker import serve

        options = vars(given)
        del options["command"]
        serve(**options)
        return 0
    # % endif
    done = watch() if given.watch else look()
    return int(given.grade and bool(unfinished(done)))


if __name__ == "__main__":
    # What a learner wrote may not fit the terminal; what is known is shown at once.
    sys.stdout.reconfigure(errors="replace", line_buffering=True)  # type: ignore[union-attr]
    try:
        sys.exit(main())
    except LessonError as error:
        sys.exit(str(error))
    except (KeyboardInterrupt, BrokenPipeError):  # nobody reads on, as with `| head`
        os._exit(130)
