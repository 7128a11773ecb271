"""The template: its questions, their combinations, and projects generated from it."""

import itertools
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from allpairspy import AllPairs
from cookiecutter.main import cookiecutter

from support.processes import succeed

TEMPLATE = Path(__file__).parents[2]
PROJECT = TEMPLATE / "{{cookiecutter.project_slug}}"
QUESTIONS = json.loads((TEMPLATE / "cookiecutter.json").read_text(encoding="utf-8"))
ASKED = [question for question in QUESTIONS if not question.startswith("_")]
CHOICES: dict[str, list[str]] = {
    name: QUESTIONS[name] for name in ASKED if isinstance(QUESTIONS[name], list)
}
Answers = dict[str, str]
WHO = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Test"), ("EMAIL", "test@example.org"))
}


def combinations(every: Iterable[Iterable[str]]) -> list[Answers]:
    """Return rows of answers with the names of their questions."""
    return [dict(zip(CHOICES, answers, strict=True)) for answers in every]


ALL = combinations(itertools.product(*CHOICES.values()))
PAIRWISE = combinations(AllPairs(list(CHOICES.values())))  # each pair of answers is in one of them


def generate(
    folder: Path, template: Path = TEMPLATE, hooks: bool = True, /, **answers: str
) -> Path:
    """Generate a project in `folder`, with defaults for what `answers` leaves open."""
    where = {"output_dir": str(folder), "accept_hooks": hooks}
    return Path(cookiecutter(str(template), no_input=True, extra_context=answers, **where))


def tracked() -> list[Path]:
    """Return the files of the template that git knows or would add."""
    which = ("--cached", "--others", "--exclude-standard")
    names = succeed("git", "ls-files", "-z", *which, cwd=TEMPLATE)
    return [path for name in names.split("\0") if name and (path := TEMPLATE / name).is_file()]


def copy_template(to: Path) -> Path:
    """Copy the template as it lies here, without what git ignores; return the copy."""
    for path in tracked():
        copy = to / path.relative_to(TEMPLATE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    return to


def commit(repository: Path, message: str = "All") -> Path:
    """Commit all that lies in `repository`, which becomes one if it isn't; return it."""
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=repository)
    succeed("git", "add", "--all", cwd=repository)
    what = ("--allow-empty", "--quiet", f"--message={message}")
    succeed("git", "commit", *what, cwd=repository, **WHO)
    return repository


def blocks(page: Path, language: str = "sh") -> list[str]:
    """Return the code blocks of a Markdown page, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
