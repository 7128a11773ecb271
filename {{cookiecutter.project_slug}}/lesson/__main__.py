"""The command of the lesson: uv run python -m lesson check."""

import argparse
import html
import io
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lesson import course
from lesson.course import Choice, LessonError, Verdict
from lesson.exercises import EXERCISES, verdicts

MARKS = {"right": "\u2713", "wrong": "\u2717", "not yet": "\u00b7"}
PLAIN_MARKS = {"right": "x", "wrong": "!", "not yet": " "}


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

    def lines(self) -> Iterator[str]:
        """Yield the lines that a terminal shows; the mark fits what it can print."""
        try:
            "".join(MARKS.values()).encode(sys.stdout.encoding or "ascii")
            mark = MARKS[self.verdict.state]
        except UnicodeEncodeError:
            mark = PLAIN_MARKS[self.verdict.state]
        yield f"  [{mark}] {self.id:<11} {self.text}"
        if self.verdict.state != "not yet":
            yield f"      {self.remark}"


def items() -> Iterator[Item]:
    """Yield all that there is to do, in order; raise LessonError for a file that can't be used."""
    given = course.read_answers()
    for prediction in course.predictions():
        verdict = Verdict("not yet", "Write down what you expect, in answers.toml.")
        if said := given.predict.get(prediction.id):
            verdict = Verdict("right", f"You said: {said}. The table says: {prediction.outcome}.")
        yield Item("Predict", prediction.id, prediction.text, verdict)
    states: dict[str | None, str] = {None: "right"}
    for question in course.questions():
        text, choices = question.text, question.choices
        if states[question.after] == "right":
            verdict = course.mark(question, given.quiz.get(question.id))
        else:
            text, choices = f"(comes after {question.after})", ()
            verdict = Verdict("not yet", f"It comes after {question.after}.")
        states[question.id] = verdict.state
        yield Item("Quiz", question.id, text, verdict, choices)
    marks = verdicts()
    if "exercises" in marks:
        text = "Fix app/, so that it starts again"
        yield Item("Exercises", "exercises", text, marks["exercises"])
    for exercise in EXERCISES:
        yield Item("Exercises", exercise.id, exercise.text, marks[exercise.id])


def show(items: Iterator[Item]) -> list[Item]:
    """Print the state of each item as soon as it's known, then the next step; return the items."""
    done: list[Item] = []
    for item in items:
        if not done or item.part != done[-1].part:
            print(f"\n{item.part}")
        print(*item.lines(), sep="\n", flush=True)
        done.append(item)
    next_step(done)
    return done


def next_step(done: list[Item]) -> None:
    """Print how much is done, and the first item that's open."""
    right = sum(item.verdict.state == "right" for item in done)
    print(f"\n{right} of {len(done)} done.")
    if following := next((item for item in done if item.verdict.state != "right"), None):
        print(f"Next: {following.id}. {following.text}")
        for choice in following.choices:
            print(f"  {choice.letter}  {choice.text}")
        print(f"  {following.remark}", flush=True)


def summarize(done: list[Item], path: Path) -> None:
    """Add the same, as a table in Markdown, to the summary of a GitHub Actions job."""
    lines = ["## The lesson", "", "| | What | Asks | How far |", "|---|---|---|---|"]
    for item in done:
        cells = [html.escape(" ".join(text.split())) for text in (item.id, item.text, item.remark)]
        row = " | ".join(cell.replace("|", "&#124;") for cell in cells)
        lines.append(f"| {MARKS[item.verdict.state]} | {row} |")
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join([*lines, "", ""]))


def check(grade: bool) -> int:
    """Show how far the learner is; return 1 if `grade` and anything is open, else 0."""
    done = show(items())
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        summarize(done, Path(summary))
    return int(grade and any(item.verdict.state != "right" for item in done))


def watch() -> int:
    """Look again whenever a file is saved: what has changed comes first, then the next step."""
    before: dict[str, Verdict] = {}
    saved: dict[Path, int] = {}
    while True:
        now = {path: path.stat().st_mtime_ns for path in watched() if path.exists()}
        if now == saved:
            time.sleep(0.2)
            continue
        saved = now
        try:
            done = list(items()) if before else show(items())
        except LessonError as error:
            print(f"\n{error}", flush=True)
            continue
        for item in done if before else ():
            if before.get(item.id, Verdict("not yet", "")) != item.verdict:
                print(*item.lines(), sep="\n")
        if before:
            next_step(done)
        before = {item.id: item.verdict for item in done}
        if all(item.verdict.state == "right" for item in done):
            return 0
        print("\nWaiting until you save a file. Ctrl+C ends this.", flush=True)


def watched() -> list[Path]:
    app = course.ROOT / "app"
    return [course.TUTORIAL, course.ANSWERS, *app.rglob("*.py")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lesson", description="How far am I?")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("check", help="show questions, exercises and the next step")
    command.add_argument("--grade", action="store_true", help="exit 1 while anything is open")
    command.add_argument("--watch", action="store_true", help="look again on every save")
    # % if cookiecutter.broker != "none"
    command = commands.add_parser("broker", help="start the broker of BEYOND.md; Ctrl+C ends it")
    command.add_argument("--fresh", action="store_true", help="begin with an empty one")
    # % endif
    # % if cookiecutter.broker == "nats"
    command.add_argument("--port", type=int, default=4222, help="of the server (4222)")
    # % elif cookiecutter.broker == "postgres"
    command.add_argument("--port", type=int, default=5432, help="of the server (5432)")
    # % endif
    # % if cookiecutter.lesson == "solution"
    about = "Grade the folders of a class. It runs the code in them, as you."
    command = commands.add_parser("grade", help=about, description=about)
    command.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    command.add_argument("--output", type=Path, default=Path("grades.csv"), help="grades.csv")
    command.add_argument("--seconds", type=float, default=120, help="limit for a folder (120)")
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
    return watch() if given.watch else check(given.grade)


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a learner wrote may not fit the terminal
    try:
        sys.exit(main())
    except LessonError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
