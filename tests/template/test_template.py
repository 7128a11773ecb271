"""The template as it lies here, before anything is generated from it."""

import ast
import itertools
import tomllib
from pathlib import Path

import post_gen_project
import pytest

from support.processes import succeed
from support.template import (
    ASKED,
    CHOICES,
    PROJECT,
    QUESTIONS,
    TEMPLATE,
    combinations,
    copy_template,
    generate_from,
    pairs,
    pairwise,
    tracked,
)

FILES = tracked()
TEXTS = {path: path.read_text(encoding="utf-8") for path in FILES if path.suffix not in {".png"}}


def test_the_questions_are_few_and_fixed() -> None:
    assert ASKED == [
        "project_name",
        "project_slug",
        "description",
        "author_name",
        "broker",
        "lesson",
        "license",
    ]
    assert CHOICES["license"] == ["MIT", "Apache-2.0", "none"]


@pytest.mark.parametrize("question", ASKED)
def test_every_question_and_every_choice_has_a_sentence(question: str) -> None:
    prompt = QUESTIONS["__prompts__"][question]
    if question in CHOICES:
        assert list(prompt) == ["__prompt__", *CHOICES[question]]
        assert all(len(sentence.split()) > 3 for sentence in prompt.values())
    else:
        assert len(prompt.split()) > 3


@pytest.mark.parametrize("name", ["README.md", "TUTORIAL.md", "pyproject.toml"])
def test_no_blank_line_is_lost_after_a_condition(name: str) -> None:
    lines = (PROJECT / name).read_text(encoding="utf-8").splitlines()
    for line, following in itertools.pairwise(lines):
        assert not line.lstrip().startswith("# %") or following.strip()


def test_every_python_file_parses_in_place() -> None:
    sources = [path for path in TEXTS if path.suffix == ".py"]
    assert sources
    for path in sources:
        ast.parse(TEXTS[path], filename=str(path))


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
@pytest.mark.parametrize("folder", [TEMPLATE, PROJECT], ids=["template", "project"])
def test_ruff_is_content_in_place(command: list[str], folder: Path) -> None:
    succeed("ruff", *command, "--no-cache", cwd=folder)


def test_mypy_is_content() -> None:
    succeed(
        "mypy",
        "tests",
        "hooks/pre_gen_project.py",
        "hooks/post_gen_project.py",
        "evtemplate_extensions.py",
        "needs_cookiecutter_2_1.py",
        cwd=TEMPLATE,
    )


def test_conditions_are_comments() -> None:
    project = [path for path in TEXTS if path.is_relative_to(PROJECT)]
    assert [path for path in project if "{%" in TEXTS[path] or "{#" in TEXTS[path]] == []


def test_every_path_that_a_choice_names_exists() -> None:
    choices = post_gen_project.CHOICES
    assert [path for path, *_ in choices if not (PROJECT / path).exists()] == []
    assert [
        (question, answers)
        for _, question, answers, _ in choices
        if not set(answers) <= set(CHOICES[question])
    ] == []


def test_file_names_suit_every_system() -> None:
    names = [str(path.relative_to(TEMPLATE)).replace(PROJECT.name, "project") for path in FILES]
    assert [name for name in names if set(name) & set('<>:"|?*\\')] == []


def test_line_ends_are_lf() -> None:
    assert [path for path in FILES if b"\r" in path.read_bytes() and path.suffix != ".png"] == []
    for folder in (TEMPLATE, PROJECT):
        assert "eol=lf" in (folder / ".gitattributes").read_text(encoding="utf-8")


def test_both_environments_ask_for_the_same_ruff() -> None:
    ours, theirs = (
        tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
        for folder in (TEMPLATE, PROJECT)
    )

    def ruff(pyproject: dict[str, dict[str, list[str]]]) -> list[str]:
        return [name for name in pyproject["dependency-groups"]["dev"] if name.startswith("ruff")]

    assert ruff(ours) == ruff(theirs)
    # Only tests import these two; a project finds lesson by itself, or has none.
    for name in ("lesson", "support"):
        ours["tool"]["ruff"]["lint"]["isort"]["known-first-party"].remove(name)
    # Only in the template, where all variants of a file stand below each other.
    del theirs["tool"]["ruff"]["format"]
    del theirs["tool"]["ruff"]["lint"]["per-file-ignores"]
    assert ours["tool"]["ruff"] == theirs["tool"]["ruff"]


def test_a_checkout_with_caches_still_generates(tmp_path: Path) -> None:
    checkout = copy_template(tmp_path / "checkout")
    for cache in ("app/__pycache__", ".ruff_cache"):
        (checkout / PROJECT.name / cache).mkdir()
        (checkout / PROJECT.name / cache / "no-text").write_bytes(b"\xff\xfe")

    project = generate_from(checkout, tmp_path)

    assert not list(project.rglob("*cache*"))


def test_each_pair_of_answers_occurs() -> None:
    """Also with choices that aren't asked today."""
    for choices in (CHOICES, CHOICES | {"new": ["a", "b", "c", "d"]}, {"one": ["a", "b"]}):
        chosen = pairwise(choices)
        every = combinations(choices)
        assert set().union(*map(pairs, chosen)) == set().union(*map(pairs, every))
        assert len(chosen) < len(every) or len(choices) == 1
