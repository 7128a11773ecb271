"""The command of the lesson: uv run python -m lesson check."""

import argparse
import html
import io
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lesson import answers, quiz
from lesson.quiz import Choice, Verdict
from lesson.tutorial import LessonError

MARKS = {"right": "\u2713", "wrong": "\u2717", "not yet": "\u00b7"}
PLAIN_MARKS = {"right": "x", "wrong": "!", "not yet": " "}
# Where app/ itself refuses what a line of the learner's asks for.
REFUSE = {
    ("app/bus.py", "on"),
    ("app/bus.py", "register"),
    ("app/events.py", "__init_subclass__"),
}


@dataclass(frozen=True)
class Item:
    """One thing to do: its part of the lesson, its id, what it asks and how far it is."""

    part: str
    id: str
    text: str
    verdict: Verdict
    choices: tuple[Choice, ...] = ()

    @property
    def remark(self) -> str:
        state = self.verdict.state
        said = f"{'Hint' if state == 'not yet' else state.capitalize()}: {self.verdict.sentence}"
        return self.verdict.sentence if self.part == "Predict" else said


def items() -> Iterator[Item]:
    """Yield all that there is to do, in order; raise LessonError for a file of no use."""
    questions, predictions = quiz.load(), quiz.predictions()
    known = {prediction.id for prediction in predictions}
    known |= {question.id for question in questions}
    known |= {question.because.id for question in questions if question.because}
    given = answers.read(known)
    for prediction in predictions:
        said = given.predict.get(prediction.id)
        if said:
            verdict = Verdict("right", f"You said: {said}. The table says: {prediction.outcome}.")
        else:
            verdict = Verdict("not yet", "Write down what you expect, in answers.toml.")
        yield Item("Predict", prediction.id, prediction.text, verdict)
    for question in questions:
        verdict = quiz.mark(question, given.quiz.get(question.id))
        yield Item("Quiz", question.id, question.text, verdict, question.choices)
        if question.because and verdict.state != "right":
            verdict = Verdict("not yet", f"It comes after {question.id}.")
            yield Item("Quiz", question.because.id, f"(comes after {question.id})", verdict)
        elif question.because:
            because = question.because
            verdict = quiz.mark(because, given.quiz.get(because.id))
            yield Item("Quiz", because.id, because.text, verdict, because.choices)
    yield from exercises()


def exercises() -> Iterator[Item]:
    """Yield the exercises; one whose run of the app crashes is wrong, and says where."""
    # % if cookiecutter.broker != "none"
    os.environ.pop("BROKER_URL", None)  # the exercises are about this process alone
    # % endif
    try:
        import fastapi.testclient  # noqa: F401
    except (ImportError, RuntimeError) as error:
        raise LessonError(f"The check needs what the tests need (README.md): {error}") from None
    try:
        from lesson.exercises import EXERCISES  # imports app/, which may be broken just now
    except (Exception, SystemExit) as error:
        crash = Verdict("wrong", f"app/ does not start. {where(error)}")
        yield Item("Exercises", "exercises", "Mend app/, so that it starts again", crash)
        return
    for exercise in EXERCISES:
        try:
            verdict = exercise.mark()
        except LessonError:
            raise
        except (Exception, SystemExit) as error:
            verdict = Verdict("wrong", f"The app crashes. {where(error)}")
        yield Item("Exercises", exercise.id, exercise.text, verdict)


def where(error: BaseException) -> str:
    """Return the innermost error in one line, with the last line of app/ that asked for it."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    what = traceback.format_exception_only(error)[-1].strip()
    root = Path(__file__).parent.parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not Path(frame.filename).is_relative_to(root / "app"):
            continue
        file = Path(frame.filename).relative_to(root).as_posix()
        if (file, frame.name) not in REFUSE:
            return f"{file}, line {frame.lineno}: {what}"
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}, line {error.lineno}: {what}"
    return what


def show(done: list[Item]) -> None:
    """Print the state of each item, then the next step."""
    try:
        "".join(MARKS.values()).encode(sys.stdout.encoding or "ascii")
        marks = MARKS
    except UnicodeEncodeError:
        marks = PLAIN_MARKS
    part = ""
    for item in done:
        if item.part != part:
            part = item.part
            print(f"\n{part}")
        print(f"  [{marks[item.verdict.state]}] {item.id:<11} {item.text}")
        if item.verdict.state != "not yet":
            print(f"      {item.remark}")
    right = sum(item.verdict.state == "right" for item in done)
    print(f"\n{right} of {len(done)} done.")
    if following := next_step(done):
        print(f"Next: {following.id}. {following.text}")
        for choice in following.choices:
            print(f"  {choice.letter}  {choice.text}")
        print(f"  {following.remark}")


def next_step(done: list[Item]) -> Item | None:
    """Return the first item that is open."""
    return next((item for item in done if item.verdict.state != "right"), None)


def summarize(done: list[Item], path: Path) -> None:
    """Add the same, as a table in Markdown, to the summary of a GitHub Actions job."""
    lines = ["## The lesson", "", "| | What | Asks | How far |", "|---|---|---|---|"]
    for item in done:
        mark = MARKS[item.verdict.state]
        cells = [html.escape(" ".join(text.split())) for text in (item.id, item.text, item.remark)]
        lines.append(f"| {mark} | {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join([*lines, "", ""]))


def check(grade: bool) -> int:
    """Show how far the learner is; return 1 if `grade` and anything is open, else 0."""
    done = list(items())
    show(done)
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        summarize(done, Path(summary))
    return int(grade and next_step(done) is not None)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lesson", description="How far am I?")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("check", help="show questions, exercises and the next step")
    command.add_argument("--grade", action="store_true", help="exit 1 while anything is open")
    # % if cookiecutter.lesson == "solution"
    about = "Grade the folders of a class, as CSV. It runs the code in them, as you."
    command = commands.add_parser("grade", help=about, description=about)
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    command.add_argument("--seconds", type=float, default=120, help="limit for a folder (120)")
    # % endif
    given = parser.parse_args()
    # % if cookiecutter.lesson == "solution"
    if given.command == "grade":
        from lesson.grade import grade

        return grade(given.folders, given.seconds)
    # % endif
    return check(given.grade)


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a learner wrote may not fit the terminal
    try:
        sys.exit(main())
    except LessonError as error:
        sys.exit(str(error))
