"""What every combination of answers must give."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest
import yaml
from tools import CHOICES, COMBINATIONS_OF_CODE, EXERCISES, generate, named, run, succeed

ALWAYS = """
.devcontainer/devcontainer.json .dockerignore .editorconfig .gitattributes .github/dependabot.yml
.github/workflows/audit.yml
.github/workflows/ci.yml .gitignore .pre-commit-config.yaml Dockerfile README.md compose.yaml
pyproject.toml app/__init__.py app/bus.py app/events.py app/handlers/__init__.py
app/handlers/orders.py app/handlers/requests.py app/handlers/shutdown.py app/handlers/startup.py
app/main.py app/watch.py tests/conftest.py tests/test_bus.py tests/test_execution_table.py
tests/test_handlers.py tests/test_orders.py tests/test_variable_tracker.py
"""
LESSON = """
TUTORIAL.md answers.toml .github/workflows/lesson.yml app/handlers/stock.py lesson/__init__.py
lesson/__main__.py lesson/answers.py lesson/exercises.py lesson/quiz.py lesson/quiz.toml
lesson/sample.py lesson/tutorial.py tests/test_exercises.py tests/test_quiz.py
tests/test_tutorial.py lesson/catalog.py lesson/guard.py lesson/history.py lesson/live.py
lesson/recorder.py lesson/routes.py lesson/steps.py lesson/page/forms.js lesson/page/icon.svg
lesson/page/index.html lesson/page/page.css lesson/page/page.js lesson/instances.py
"""
SOLUTION = "app/handlers/deliveries.py lesson/grade.py"
BROKER = """
app/asyncapi.py app/bridge.py app/broker.py app/cloudevents.py app/delivery.py app/letters.py
tests/test_broker.py
"""
ONLY_WITH = {
    ("broker", "nats"): BROKER,
    ("broker", "rabbitmq"): BROKER,
    ("broker", "redis"): BROKER,
    ("broker", "kafka"): BROKER,
    ("license", "MIT"): "LICENSE",
    ("license", "Apache-2.0"): "LICENSE",
    ("lesson", "student"): LESSON,
    ("lesson", "solution"): f"{LESSON} {SOLUTION}",
}


def files(project: Path) -> list[Path]:
    return [path for path in project.rglob("*") if path.is_file()]


def test_exactly_the_files_that_were_asked_for(project: Path, answers: dict[str, str]) -> None:
    chosen = " ".join(ONLY_WITH.get(choice, "") for choice in answers.items())
    expected = sorted(f"{ALWAYS} {chosen}".split())
    assert sorted(path.relative_to(project).as_posix() for path in files(project)) == expected


def test_no_placeholder_is_left(project: Path) -> None:
    for path in files(project):
        text = path.read_text(encoding="utf-8")
        unrendered = "workflows" in path.parts  # has GitHub's own ${{ }}
        for leftover in ("cookiecutter", "# %", "{%", *([] if unrendered else ["{{"])):
            assert leftover not in text, path


def test_every_file_ends_in_one_line_break(project: Path) -> None:
    for path in files(project):
        text = path.read_bytes()
        assert not text or (text.endswith(b"\n") and not text.endswith(b"\n\n")), path


def test_headings_stand_alone(project: Path) -> None:
    for path in project.glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert re.findall(r"[^\n]\n##+ .*|\n##+ .*\n[^\n]", text) == [], path


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_content_with_the_first_render(project: Path, command: list[str]) -> None:
    succeed("ruff", *command, "--no-cache", cwd=project)


@pytest.fixture(scope="session")
def python(
    answers: dict[str, str], project: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The Python of an environment that uv makes for the project, outside of it."""
    environment = tmp_path_factory.mktemp("environment") / ".venv"
    copy = environment.parent / "project"
    shutil.copytree(project, copy)
    succeed("uv", "sync", "--quiet", cwd=copy, UV_PROJECT_ENVIRONMENT=str(environment))
    return next(path for path in environment.glob("*/python*") if path.is_file())


def test_the_licence_changes_no_code(
    project: Path, answers: dict[str, str], tmp_path: Path
) -> None:
    other = generate(tmp_path, **answers | {"license": CHOICES["license"][0]})
    named_in = {Path("LICENSE"), Path("README.md"), Path("pyproject.toml")}

    def code(folder: Path) -> dict[Path, bytes]:
        found = {path.relative_to(folder): path.read_bytes() for path in files(folder)}
        return {path: content for path, content in found.items() if path not in named_in}

    assert code(project) == code(other)


of_code = pytest.mark.parametrize("answers", COMBINATIONS_OF_CODE, ids=named, indirect=True)


@of_code
def test_types_are_strict(project: Path, python: Path, tmp_path: Path) -> None:
    code = [name for name in ("app", "lesson", "tests") if (project / name).exists()]
    succeed(
        "mypy",
        "--strict",
        f"--cache-dir={tmp_path}",
        f"--python-executable={python}",
        *code,
        cwd=project,
    )


@of_code
def test_its_own_tests_pass(
    answers: dict[str, str], project: Path, python: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(project, tmp_path / "project")
    printed = succeed(python, "-m", "pytest", "-rs", cwd=copy)
    assert " passed" in printed
    reasons = [line.split(": ")[1] for line in printed.splitlines() if line.startswith("SKIPPED")]
    exercises = ["not yet"] * EXERCISES if answers["lesson"] == "student" else []
    engine = ["BROKER_URL is not set"] if answers["broker"] != "none" else []
    assert sorted(reasons) == sorted(exercises + engine)


@of_code
def test_pre_commit_passes_in_a_new_repository(project: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(project, tmp_path / "project")
    succeed("git", "init", "--quiet", cwd=copy)
    succeed("git", "add", "--all", cwd=copy)
    assert "Passed" in succeed("pre-commit", "run", "--all-files", cwd=copy)

    (copy / "app" / "main.py").write_text("import  os\n", encoding="utf-8")
    assert run("pre-commit", "run", "--all-files", cwd=copy).returncode != 0


TYPED = {
    "project_name": "Café O'Brien & 日本 <1>",
    "project_slug": "cafe-1",
    "description": "It's 100 % <b>fun</b>: # not a comment, $HOME & more",
    "author_name": "Zoë 'Z' Müller <zoe@example.org>",
}


def test_files_hold_what_was_typed(answers: dict[str, str], tmp_path: Path) -> None:
    project = generate(tmp_path, **TYPED, **answers)

    pyproject = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    assert pyproject["project"]["name"] == TYPED["project_slug"]
    assert pyproject["project"]["description"] == TYPED["description"]
    assert pyproject["project"]["authors"] == [{"name": TYPED["author_name"]}]
    assert pyproject["project"].get("license", "none") == answers["license"]

    devcontainer = json.loads((project / ".devcontainer/devcontainer.json").read_text("utf-8"))
    assert devcontainer["name"] == TYPED["project_name"]

    readme = (project / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# {TYPED['project_name']}\n\n{TYPED['description']}\n")
    assert f'title="{TYPED["project_name"]}"' in (project / "app/main.py").read_text("utf-8")
    if answers["license"] == "MIT":
        assert TYPED["author_name"] in (project / "LICENSE").read_text(encoding="utf-8")

    for path in files(project):
        if path.suffix in {".yaml", ".yml"}:
            yaml.safe_load(path.read_text(encoding="utf-8"))
