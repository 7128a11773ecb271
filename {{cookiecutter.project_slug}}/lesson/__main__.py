"""The command of the lesson: uv run python -m lesson check."""

import argparse
import html
import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lesson import course
from lesson.course import Choice, LessonError, Verdict
from lesson.exercises import EXERCISES, verdicts

# A mark, and what stands for it where the terminal has no such character.
MARKS = {"right": "\u2713x", "wrong": "\u2717!", "not yet": "\u00b7 "}


@dataclass(frozen=True)
class Item:
    """One thing to do: its part of the lesson, its id, what it asks and how far it is."""

    part: str
    id: str
    text: str
    verdict: Verdict
    choices: Sequence[Choice] = ()

    @property
    def remark(self) -> str:
        state = "Hint" if self.verdict.state == "not yet" else self.verdict.state.capitalize()
        sentence = self.verdict.sentence
        return sentence if self.part == "Predict" else f"{state}: {sentence}"

    def show(self) -> None:
        wanted = "".join(marks[0] for marks in MARKS.values())
        plain = b"?" in wanted.encode(sys.stdout.encoding or "ascii", "replace")
        remark = "" if self.verdict.state == "not yet" else f"\n      {self.remark}"
        print(
            f"  [{MARKS[self.verdict.state][plain]}] {self.id:<11} {self.text}{remark}", flush=True
        )


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
        later = Verdict("not yet", f"It comes after {question.after}.")
        item = Item("Quiz", question.id, f"(comes after {question.after})", later)
        if question.after in right:
            verdict = course.mark(question, given.get(question.id))
            item = Item("Quiz", question.id, question.text, verdict, question.choices)
        if item.verdict.state == "right":
            right.add(question.id)
        yield item
    texts = {exercise.id: exercise.text for exercise in EXERCISES}
    for id_, verdict in verdicts().items():
        yield Item("Exercises", id_, texts.get(id_, "Fix app/, so that it starts again"), verdict)


def look(before: list[Item] | None = None) -> list[Item]:
    """Print each item as soon as it's known, or only what's new since `before`; the next step."""
    done: list[Item] = []
    for item in items():
        if before is None and item.part not in [each.part for each in done]:
            print(f"\n{item.part}")
        known = [(each.id, each.verdict) for each in before or ()]
        if before is None or (item.id, item.verdict) not in known:
            item.show()
        done.append(item)
    right = sum(item.verdict.state == "right" for item in done)
    print(f"\n{right} of {len(done)} done.")
    if following := next((item for item in done if item.verdict.state != "right"), None):
        print(f"Next: {following.id}. {following.text}")
        for choice in following.choices:
            print(f"  {choice.letter}  {choice.text}")
        print(f"  {following.remark}", flush=True)
    return done


def summarize(done: list[Item], path: Path) -> None:
    """Add the same, as a table in Markdown, to the summary of a GitHub Actions job."""
    with path.open("a", encoding="utf-8") as file:
        file.write("## The lesson\n\n| | What | Asks | How far |\n|---|---|---|---|\n")
        for item in done:
            cells = (MARKS[item.verdict.state][0], item.id, item.text, item.remark)
            safe = [html.escape(" ".join(cell.split())).replace("|", "&#124;") for cell in cells]
            file.write(f"| {' | '.join(safe)} |\n")
        file.write("\n")


def watch() -> int:
    """Look again whenever a file is saved: what has changed comes first, then the next step."""
    done: list[Item] | None = None
    seen: dict[Path, int] = {}
    while not done or any(item.verdict.state != "right" for item in done):
        files = [course.TUTORIAL, course.ANSWERS, *(course.ROOT / "app").rglob("*.py")]
        saved = {path: path.stat().st_mtime_ns for path in files if path.exists()}
        if saved == seen:
            time.sleep(0.2)
            continue
        seen = saved
        try:
            done = look(done)
        except LessonError as error:
            print(f"\n{error}")
        print("\nWaiting until you save a file. Ctrl+C ends this.", flush=True)
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lesson", description="How far am I?")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("check", help="show questions, exercises and the next step")
    command.add_argument("--grade", action="store_true", help="exit 1 while anything is open")
    command.add_argument("--watch", action="store_true", help="look again on every save")
    # % if cookiecutter.broker != "none"
    command = commands.add_parser("broker", help="start the broker of BEYOND.md; Ctrl+C ends it")
    command.add_argument("--fresh", action="store_true", help="start with an empty one")
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
    if given.watch:
        return watch()
    done = look()
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        summarize(done, Path(summary))
    return int(given.grade and any(item.verdict.state != "right" for item in done))


if __name__ == "__main__":
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what a learner wrote may not fit the terminal
    try:
        sys.exit(main())
    except LessonError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
