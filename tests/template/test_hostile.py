"""Any text for any question gives a project that holds it, or one sentence and not one file."""

import json
import keyword
import re
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory

import pre_gen_project
import pytest
from cookiecutter.exceptions import FailedHookException
from hypothesis import given, settings
from hypothesis import strategies as st

from support.cases import cases
from support.processes import run, succeed
from support.template import ASKED, CHOICES, TEMPLATE, generate_from

TEXTS = [name for name in ASKED if name not in CHOICES and name != "project_slug"]
HOSTILE = cases(__file__, "answers")["hostile"]["texts"]
NASTY = st.sampled_from([*HOSTILE, "x" * 10_000, "\ud800"])
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


def bake(out: Path, **given: str) -> Path:
    """Generate without the hooks, which are slow; the tests further below let them run."""
    return generate_from(TEMPLATE, out, False, **answers(**given))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bake(tmp_path_factory.mktemp("plain"))


@settings(max_examples=60, deadline=None)
@given(texts=st.fixed_dictionaries({question: ANY_TEXT for question in TEXTS}))
def test_a_project_holds_what_was_typed(texts: dict[str, str], plain: Path) -> None:
    with TemporaryDirectory() as folder:
        holds_or_is_not_there(texts, plain, Path(folder))


def holds_or_is_not_there(texts: dict[str, str], plain: Path, out: Path) -> None:
    if sentence := pre_gen_project.refusal(answers(**texts)):
        with pytest.raises(FailedHookException, match=f"^{re.escape(sentence)}$"):
            bake(out, **texts)
        assert list(out.iterdir()) == []
        return
    project = bake(out, **texts)

    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert pyproject["description"] == texts["description"]
    if texts["author_name"]:
        assert pyproject["authors"] == [{"name": texts["author_name"]}]
    devcontainer = json.loads((project / ".devcontainer/devcontainer.json").read_text("utf-8"))
    assert devcontainer["name"] == texts["project_name"]

    for path in plain.rglob("*.py"):  # the same code, so the same tests pass
        code = (project / path.relative_to(plain)).read_text(encoding="utf-8")
        code = code.replace(f'title="{texts["project_name"]}"', 'title="x"')
        assert code == path.read_text(encoding="utf-8")


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "event-service" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("mine", encoding="utf-8")
    done = run("cookiecutter", TEMPLATE, "--no-input", cwd=tmp_path)
    assert done.returncode == 1
    assert "already exists" in done.stdout + done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [mine]


def test_defaults_of_the_user_that_belong_to_other_templates(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    leaking = {"license": "BSD", "version": "9", "open_source": "y", "project_type": "{{ x }}"}
    config.write_text(json.dumps({"default_context": leaking}), encoding="utf-8")
    succeed("cookiecutter", TEMPLATE, "--no-input", "--config-file", config, cwd=tmp_path)
    assert "MIT License" in (tmp_path / "event-service/LICENSE").read_text(encoding="utf-8")


def test_without_hooks_the_project_says_what_to_do(tmp_path: Path) -> None:
    succeed("cookiecutter", TEMPLATE, "--no-input", "--accept-hooks", "no", cwd=tmp_path)
    said = (tmp_path / "event-service/UNFINISHED.md").read_text(encoding="utf-8")
    assert "generate it again\nwith hooks allowed" in said


def test_words_of_python_and_names_of_its_modules(tmp_path: Path) -> None:
    names = {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names}
    slugs = sorted({name.lower().replace("_", "-").strip("-") for name in names} - {""})
    assert len(slugs) > 200
    assert [slug for slug in slugs if pre_gen_project.refusal(answers(project_slug=slug))] == []

    for slug in (slug for slug in slugs if keyword.iskeyword(slug)):
        project = bake(tmp_path, project_slug=slug)
        pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
        assert pyproject["project"]["name"] == slug
