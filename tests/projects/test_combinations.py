"""What every combination of answers must give."""

import json
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cases import cases
from support.processes import run, succeed
from support.projects import EXERCISES, Bake, Project
from support.template import CHOICES, Answers, combinations, commit, named, pairwise

NO_CODE = {"license": {"LICENSE", "README.md", "pyproject.toml"}}  # no other file is different
PAIRWISE = pairwise(CHOICES)
ALL = PAIRWISE + [each for each in combinations(CHOICES) if each not in PAIRWISE]


def params(chosen: Iterable[Answers]) -> list[Any]:
    """Return parameters of a test: what isn't needed for each pair of answers is slow."""
    return [
        pytest.param(each, id=named(each), marks=() if each in PAIRWISE else pytest.mark.slow)
        for each in chosen
    ]


def each_code() -> Iterable[Answers]:
    """Return combinations that give each set of code once."""
    first: dict[tuple[str, ...], Answers] = {}
    for each in ALL:
        key = tuple(answer for question, answer in each.items() if question not in NO_CODE)
        first.setdefault(key, each)
    return first.values()


FILES = cases(__file__, "files")


@pytest.fixture(scope="module", params=params(ALL))
def answers(request: pytest.FixtureRequest) -> Answers:
    return dict(request.param)


@pytest.fixture(scope="module")
def project(answers: Answers, baked: Bake) -> Project:
    return baked(**answers)


def test_exactly_the_files_that_were_asked_for(project: Project, answers: Answers) -> None:
    expected = list(FILES["always"])
    for question, answer in answers.items():
        if answer != "none":
            brings = FILES.get(question, {})
            expected += brings.get("any", []) + brings.get(answer, [])
    if "none" not in (answers["lesson"], answers["broker"]):
        expected += FILES["lesson_and_broker"]
    assert sorted(project.files()) == sorted(expected)


def test_no_placeholder_is_left(project: Project) -> None:
    for name, text in project.files().items():
        unrendered = "workflows" in name  # has GitHub's own ${{ }}
        for leftover in ("cookiecutter.", "# %", "{%", *([] if unrendered else ["{{"])):
            assert leftover not in text, name


def test_texts_are_tidy(project: Project) -> None:
    for name, text in project.files().items():
        assert not text or (text.endswith("\n") and not text.endswith("\n\n")), name
        if name.endswith(".md"):  # headings stand alone
            assert re.findall(r"[^\n]\n##+ .*|\n##+ .*\n[^\n]", text) == [], name


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content_with_the_first_render(project: Project, command: list[str]) -> None:
    succeed("ruff", *command, "--no-cache", cwd=project.path)


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of the dependencies; a worker has its own."""
    return tmp_path_factory.mktemp("mypy")


of_code = pytest.mark.parametrize("answers", params(each_code()), indirect=True)


@pytest.mark.parametrize("question", NO_CODE)
def test_some_answers_change_no_code(
    question: str, project: Project, answers: Answers, baked: Bake
) -> None:
    other = baked(**answers | {question: CHOICES[question][0]}).files()
    mine = project.files()
    changed = {name for name in mine | other if mine.get(name) != other.get(name)}
    assert changed <= NO_CODE[question]


@of_code
def test_types_are_strict(project: Project, answers: Answers, mypy_cache: Path) -> None:
    code = [name for name in ("app", "lesson", "tests") if (project.path / name).exists()]
    options = (f"--cache-dir={mypy_cache}", f"--python-executable={project.python}")
    succeed("mypy", "--strict", *options, *code, cwd=project.path)


@of_code
def test_its_own_tests_pass(answers: Answers, project: Project, tmp_path: Path) -> None:
    done = project.copy(tmp_path / "project").test("-rs")
    assert done.returncode == 0, done.stdout
    skipped = re.findall(r"^SKIPPED \[1\] \S+ (not yet|BROKER_URL is not set): ", done.stdout, re.M)
    count = EXERCISES + 2 * (answers["broker"] != "none")
    exercises = ["not yet"] * count if answers["lesson"] == "student" else []
    broker = ["BROKER_URL is not set"] if answers["broker"] != "none" else []
    assert sorted(skipped) == sorted(exercises + broker)
    assert f" {len(skipped)} skipped" in done.stdout or not skipped


@pytest.mark.parametrize("answers", params(ALL[:1]), indirect=True)
def test_pre_commit_passes_in_a_new_repository(project: Project, tmp_path: Path) -> None:
    copy = project.copy(tmp_path / "project")
    commit(copy.path)
    assert "Passed" in succeed("pre-commit", "run", "--all-files", cwd=copy.path)

    copy.write("app/main.py", "import  os\n")
    assert run("pre-commit", "run", "--all-files", cwd=copy.path).returncode != 0


TYPED = {
    "project_name": "Café O'Brien & 日本 <1>",
    "project_slug": "cafe-1",
    "description": "It's 100 % <b>fun</b>: # not a comment, $HOME & more",
    "author_name": "Zoë 'Z' Müller <zoe@example.org>",
}


def test_files_hold_what_was_typed(answers: Answers, baked: Bake) -> None:
    project = baked(**TYPED, **answers)

    pyproject = tomllib.loads(project.read("pyproject.toml"))
    assert pyproject["project"]["name"] == TYPED["project_slug"]
    assert pyproject["project"]["description"] == TYPED["description"]
    assert pyproject["project"]["authors"] == [{"name": TYPED["author_name"]}]
    assert pyproject["project"].get("license", "none") == answers["license"]

    devcontainer = json.loads(project.read(".devcontainer/devcontainer.json"))
    assert devcontainer["name"] == TYPED["project_name"]

    start = f"# {TYPED['project_name']}\n\n{TYPED['description']}\n"
    assert project.read("README.md").startswith(start)
    assert f'title="{TYPED["project_name"]}"' in project.read("app/main.py")
    if answers["license"] == "MIT":
        assert TYPED["author_name"] in project.read("LICENSE")

    for name, text in project.files().items():
        if name.endswith((".yaml", ".yml")):
            yaml.safe_load(text)
