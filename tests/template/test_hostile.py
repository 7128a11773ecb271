"""Any text for any question gives a project that holds it, or one sentence and not one file."""

import json
import re
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import pre_gen_project
import pytest
from cookiecutter.exceptions import FailedHookException
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.cases import cases
from support.processes import succeed
from support.projects import Project
from support.template import ASKED, CHOICES, TEMPLATE, generate

TEXTS = [name for name in ASKED if name not in CHOICES and name != "project_slug"]
CASES = cases(__file__, "answers")
NASTY = st.sampled_from([*CASES["hostile"]["texts"], "x" * 10_000, "\ud800"])
ANY_TEXT = st.one_of(NASTY, st.text(), st.builds("{}{}{}".format, st.text(), NASTY, st.text()))
SLUGS = st.one_of(ANY_TEXT, st.from_regex(r"[a-z][a-z0-9-]{0,70}", fullmatch=True))


def answers(**given: str) -> dict[str, str]:
    return {"project_slug": "tea", **dict.fromkeys(TEXTS, "x"), **given}


@settings(max_examples=1000, deadline=None)
@given(question=st.sampled_from(TEXTS), text=ANY_TEXT, slug=SLUGS)
def test_a_refusal_is_one_sentence(question: str, text: str, slug: str) -> None:
    sentence = pre_gen_project.refusal(answers(**{question: text, "project_slug": slug}))
    if sentence is not None:
        assert sentence.startswith((f"{question}: ", "project_slug: "))
        assert sentence.isascii()
        assert sentence.isprintable()
        assert len(sentence) < 250


def bake(out: Path, **given: str) -> Project:
    """Generate without the hooks, which are slow; other tests let them run."""
    return Project(generate(out, TEMPLATE, False, **answers(**given)))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return bake(tmp_path_factory.mktemp("plain")).files()


@settings(max_examples=60, deadline=None)
@example(texts=CASES["typed"])
@given(texts=st.fixed_dictionaries({question: ANY_TEXT for question in TEXTS}))
def test_a_project_holds_what_was_typed(texts: dict[str, str], plain: dict[str, str]) -> None:
    with TemporaryDirectory() as folder:
        if sentence := pre_gen_project.refusal(answers(**texts)):
            with pytest.raises(FailedHookException, match=f"^{re.escape(sentence)}$"):
                bake(Path(folder), **texts)
            assert list(Path(folder).iterdir()) == []
        else:
            holds(bake(Path(folder), **texts).files(), texts, plain)


def holds(files: dict[str, str], texts: dict[str, str], plain: dict[str, str]) -> None:
    name, description, author = (texts[question] for question in TEXTS)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["description"] == description
    assert project.get("authors", [{"name": ""}]) == [{"name": author}]
    assert json.loads(files[".devcontainer/devcontainer.json"])["name"] == name
    assert files["README.md"].startswith(f"# {name}\n\n{description}\n")
    assert author in files["LICENSE-MIT"]
    for path, code in plain.items():  # the same code, so the same tests pass
        if path.endswith(".py"):
            assert files[path].replace(f'title="{name}"', 'title="x"') == code


def test_defaults_of_the_user_that_belong_to_other_templates(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    leaking = {"license": "BSD", "version": "9", "open_source": "y", "project_type": "{{ x }}"}
    config.write_text(json.dumps({"default_context": leaking}), encoding="utf-8")
    succeed("cookiecutter", TEMPLATE, "--no-input", "--config-file", config, cwd=tmp_path)
    assert "MIT License" in Project(tmp_path / "event-service").read("LICENSE")


def test_without_hooks_the_project_says_what_to_do(tmp_path: Path) -> None:
    succeed("cookiecutter", TEMPLATE, "--no-input", "--accept-hooks", "no", cwd=tmp_path)
    said = Project(tmp_path / "event-service").read("UNFINISHED.md")
    assert "generate it again\nwith hooks allowed" in said
