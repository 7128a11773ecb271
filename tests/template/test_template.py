"""The template as it lies here, before anything is generated from it."""

import re
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
    copy_template,
    generate,
    tracked,
)

FILES = tracked()
TEXTS = {path: path.read_bytes() for path in FILES if path.suffix != ".png"}
IN_PROJECT = {path: text for path, text in TEXTS.items() if path.is_relative_to(PROJECT)}


def test_the_questions_are_few_and_fixed_and_each_choice_has_a_sentence() -> None:
    texts = ["project_name", "project_slug", "description", "author_name"]
    assert [*texts, "broker", "lesson", "license"] == ASKED
    assert CHOICES["lesson"] == ["student", "solution", "none"]
    assert CHOICES["license"] == ["MIT", "Apache-2.0", "none"]
    prompts = QUESTIONS["__prompts__"]
    sentences = [prompts[question] for question in texts]
    for question, answers in CHOICES.items():
        assert list(prompts[question]) == ["__prompt__", *answers]
        sentences += prompts[question].values()
    assert all(len(sentence.split()) > 3 for sentence in sentences)


@pytest.mark.parametrize("folder", [TEMPLATE, PROJECT], ids=["template", "project"])
def test_ruff_is_content_in_place(folder: Path) -> None:
    succeed("ruff", "check", "--no-cache", cwd=folder)
    succeed("ruff", "format", "--check", "--no-cache", cwd=folder)


def test_mypy_is_content() -> None:
    modules = [*(TEMPLATE / "hooks").glob("*.py"), *TEMPLATE.glob("*.py")]
    succeed("mypy", "tests", *modules, cwd=TEMPLATE)


def test_conditions_are_comments_and_eat_no_blank_line() -> None:
    assert [path for path, text in IN_PROJECT.items() if re.search(rb"{[%#]", text)] == []
    assert [
        (path.name, text[: found.start()].count(b"\n") + 1)
        for path, text in IN_PROJECT.items()
        if path.parent == PROJECT and path.suffix in {".md", ".toml"}
        for found in re.finditer(rb"^ *# %.*\n *\n", text, re.M)
    ] == []


def test_no_row_of_the_choices_is_for_nothing() -> None:
    assert [path for path, *_ in post_gen_project.CHOICES if not (PROJECT / path).exists()] == []


def test_files_suit_every_system() -> None:
    names = [str(path.relative_to(TEMPLATE)).replace(PROJECT.name, "project") for path in FILES]
    assert [name for name in names if set(name) & set('<>:"|?*\\')] == []
    assert [path for path, text in TEXTS.items() if b"\r" in text] == []
    for folder in (TEMPLATE, PROJECT):
        assert "eol=lf" in (folder / ".gitattributes").read_text(encoding="utf-8")


def test_a_checkout_with_caches_still_generates(tmp_path: Path) -> None:
    checkout = copy_template(tmp_path / "checkout")
    for cache in ("app/__pycache__", ".ruff_cache"):
        folder = checkout / PROJECT.name / cache
        folder.mkdir()
        (folder / "no-text").write_bytes(b"\xff\xfe")
    assert not list(generate(tmp_path, checkout).rglob("*cache*"))
