"""The template: its questions, their combinations, and projects generated from it."""

import itertools
import json
import re
import shutil
from pathlib import Path

from cookiecutter.main import cookiecutter

from support.processes import succeed

TEMPLATE = Path(__file__).parents[2]
PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
ASKED = [question for question in QUESTIONS if not question.startswith("_")]
CHOICES: dict[str, list[str]] = {
    name: QUESTIONS[name] for name in ASKED if isinstance(QUESTIONS[name], list)
}
WHO = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Test"), ("EMAIL", "test@example.org"))
}

Answers = dict[str, str]
Pair = tuple[tuple[str, str], ...]


def combinations(choices: dict[str, list[str]]) -> list[Answers]:
    """Return every combination of answers."""
    return [
        dict(zip(choices, answers, strict=True)) for answers in itertools.product(*choices.values())
    ]


def pairs(answers: Answers) -> set[Pair]:
    """Return each pair of answers to two questions that `answers` has."""
    return set(itertools.combinations(answers.items(), min(2, len(answers))))


def pairwise(choices: dict[str, list[str]]) -> list[Answers]:
    """Return few combinations in which each pair of answers occurs at least once."""
    every = combinations(choices)
    open_pairs: set[Pair] = set().union(*map(pairs, every))
    chosen = []
    while open_pairs:
        best = max(every, key=lambda answers: len(pairs(answers) & open_pairs))
        open_pairs -= pairs(best)
        chosen.append(best)
    return chosen


def named(answers: Answers) -> str:
    """Return a name for these answers, as the id of a test."""
    return "-".join(answers.values())


def generate(folder: Path, /, **answers: str) -> Path:
    """Generate a project in `folder`, with defaults for what `answers` leaves open."""
    return generate_from(TEMPLATE, folder, **answers)


def generate_from(template: Path, folder: Path, hooks: bool = True, /, **answers: str) -> Path:
    """Generate a project from `template` in `folder`, without the hooks if they may not run."""
    made = cookiecutter(
        str(template),
        no_input=True,
        extra_context=answers,
        output_dir=str(folder),
        accept_hooks=hooks,
    )
    return Path(made)


def tracked() -> list[Path]:
    """Return the files of the template that git knows or would add."""
    names = succeed(
        "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=TEMPLATE
    )
    return [path for name in names.split("\0") if name and (path := TEMPLATE / name).is_file()]


def copy_template(to: Path) -> Path:
    """Copy the template as it lies here, without what git ignores; return the copy."""
    for path in tracked():
        copy = to / path.relative_to(TEMPLATE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    return to


def commit(repository: Path, message: str = "All") -> None:
    """Commit all that lies in `repository`, which becomes one if it isn't."""
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=repository)
    succeed("git", "add", "--all", cwd=repository)
    message = f"--message={message}"
    succeed("git", "commit", "--allow-empty", "--quiet", message, cwd=repository, **WHO)


def blocks(page: Path, language: str = "sh") -> list[str]:
    """Return the code blocks of a Markdown page, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
