"""What every combination of answers must give."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from support.cases import cases
from support.processes import run, succeed
from support.projects import EXERCISES, Bake, Project
from support.template import ALL, CHOICES, PAIRWISE, Answers, commit

FILES = cases(__file__, "files")
TEST = ("uv", "run", "--no-active", "pytest", "-q")
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def params(chosen: Iterable[Answers]) -> list[Any]:
    """Return parameters of a test: what isn't needed for each pair of answers is slow."""
    return [
        pytest.param(each, id="-".join(each.values()), marks=[pytest.mark.slow] * (each in LATER))
        for each in chosen
    ]


LATER = [each for each in ALL if each not in PAIRWISE]
CODE = {  # a combination for each set of code
    tuple(answer for question, answer in each.items() if question != "license"): each
    for each in [*LATER, *reversed(PAIRWISE)]
}
of_code = pytest.mark.parametrize("answers", params(CODE.values()), indirect=True)


@pytest.fixture(scope="module", params=params([*PAIRWISE, *LATER]))
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


def test_texts_are_tidy_and_without_a_trace_of_the_template(project: Project) -> None:
    for name, text in project.files().items():
        its_own = r"(?<!\$)" if ".github/workflows/" in name else ""  # GitHub has ${{ }}
        assert re.findall(rf"cookiecutter\.|# %|{{[%#]|[%#]}}|{its_own}{{{{", text) == [], name
        assert not text or (text.endswith("\n") and not text.endswith("\n\n")), name
        if name.endswith(".md"):  # headings stand alone
            assert re.findall(r"[^\n]\n##+ .*|\n##+ .*\n[^\n]", text) == [], name


def test_ruff_is_content_with_the_first_render(project: Project) -> None:
    succeed("ruff", "check", "--no-cache", cwd=project.path)
    succeed("ruff", "format", "--check", "--no-cache", cwd=project.path)


def test_a_license_changes_no_code(project: Project, answers: Answers, baked: Bake) -> None:
    other = baked(**answers | {"license": CHOICES["license"][0]}).files()
    mine = project.files()
    changed = {name for name in mine | other if mine.get(name) != other.get(name)}
    assert changed <= {"LICENSE", "README.md", "pyproject.toml"}


@of_code
def test_types_are_strict(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    code = [name for name in ("app", "lesson", "tests") if (project.path / name).exists()]
    cache = tmp_path_factory.getbasetemp() / "mypy"  # what it knows of the dependencies
    options = (f"--cache-dir={cache}", f"--python-executable={project.python}")
    succeed("mypy", "--strict", *options, *code, cwd=project.path)


@of_code
def test_its_own_tests_pass(answers: Answers, project: Project, tmp_path: Path) -> None:
    done = project.copy(tmp_path / "project").test("-rs", BROKER_URL="not ours", broker_lease="0")
    assert done.returncode == 0, done.stdout
    skipped = re.findall(r"^SKIPPED \[1\] \S+ (not yet|TEST_BROKER_URL)\b", done.stdout, re.M)
    broker = answers["broker"] != "none"
    exercises = (EXERCISES + 2 * broker) * (answers["lesson"] == "student")
    assert sorted(skipped) == ["TEST_BROKER_URL"] * broker + ["not yet"] * exercises
    assert f" {len(skipped)} skipped" in done.stdout or not skipped


def test_pre_commit_passes_in_a_new_repository(bake: Bake) -> None:
    project = bake()
    commit(project.path)
    assert "Passed" in succeed("pre-commit", "run", "--all-files", cwd=project.path)
    project.write("app/main.py", "import  os\n")
    assert run("pre-commit", "run", "--all-files", cwd=project.path).returncode != 0


@pytest.mark.slow
def test_on_every_python_that_is_here(bake: Bake, tmp_path: Path) -> None:
    """Those of this machine that uv finds, and pyenv's; the workflows run all of them."""
    here = {"PATH": os.pathsep.join([os.environ["PATH"], *map(str, PYENV.glob("*/bin"))])}
    listed = succeed("uv", "python", "list", "--only-installed", cwd=tmp_path, **here)
    for version in set(re.findall(r"cpython-(3\.1[1-4])\.", listed)) or pytest.fail(listed):
        chosen = here | {"UV_PYTHON": version, "UV_PYTHON_DOWNLOADS": "never"}
        assert " passed" in succeed(*TEST, cwd=bake(lesson="solution").path, **chosen), version


@pytest.mark.slow
@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_with_the_oldest_versions(broker: str, bake: Bake) -> None:
    project = bake(broker=broker, lesson="solution")
    assert " passed" in succeed(*TEST, cwd=project.path, UV_RESOLUTION="lowest-direct")
