"""The lesson: what each answer to `lesson` brings, and what the exercises say to each attempt."""

import os
import re
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.cases import cases
from support.processes import Process, StartServer, run_alone, until
from support.projects import EXERCISES, Bake, Project

HERE = Path(__file__).parent
LEARNING = ("student", "solution")


@pytest.fixture
def student(bake: Bake) -> Project:
    """A fresh copy of the student's project."""
    return bake(lesson="student")


# What each answer brings


def test_none_leaves_no_trace(baked: Bake) -> None:
    plain, student = baked(lesson="none").files(), baked(lesson="student").files()

    for name, text in plain.items():
        ours = text.replace("https://fastapi.tiangolo.com/tutorial/", "")
        assert not re.search("lesson|tutorial|quiz|exercise|learner", name + ours, re.I), name
    for name, text in plain.items():
        if name.startswith("app/") and name != "app/events.py":
            assert student[name] == text, name
            assert "StockRanLow" not in text


@pytest.mark.parametrize("lesson", LEARNING)
def test_nothing_of_the_lesson_ships(baked: Bake, lesson: str) -> None:
    project, plain = baked(lesson=lesson), baked(lesson="none")
    for name, text in project.files().items():
        if name.startswith("app/"):
            assert not re.search(r"^\s*(import|from) lesson", text, re.M), name
    for name in ("Dockerfile", ".dockerignore", "compose.yaml"):
        assert "lesson" not in project.read(name)
    pyproject, other = (tomllib.loads(each.read("pyproject.toml")) for each in (project, plain))
    assert pyproject["tool"]["setuptools"]["packages"]["find"]["include"] == ["app*"]
    assert pyproject["project"]["dependencies"] == other["project"]["dependencies"]


def test_the_solution_differs_only_where_it_must(baked: Bake) -> None:
    student, solution = baked(lesson="student").files(), baked(lesson="solution").files()

    different = {name for name in student | solution if student.get(name) != solution.get(name)}
    handlers = {f"app/handlers/{name}.py" for name in ("deliveries", "orders", "stock")}
    texts = {"AGENTS.md", "README.md", "TUTORIAL.md", "answers.toml", "app/events.py"}
    assert different == handlers | texts | {"lesson/__main__.py", "lesson/grade.py"}
    added = set(solution["TUTORIAL.md"].splitlines()) ^ set(student["TUTORIAL.md"].splitlines())
    assert [line[:5] for line in added] == ["| 5 |"]


# Untouched, solved, and the one made of the other


def test_untouched_each_exercise_is_skipped_with_its_hint(student: Project) -> None:
    result = student.test("tests/test_exercises.py")
    assert result.stdout.count("not yet: ") == result.stdout.count(" Hint: ") == EXERCISES


@pytest.mark.parametrize(
    ("name", "lesson"),
    [("test_recorder.py", "student"), ("test_live.py", "student"), ("test_grade.py", "solution")],
)
def test_what_the_learner_does_not_edit(bake: Bake, name: str, lesson: str) -> None:
    """What no learner's edit can break is tested here, so that a learner's own run stays short."""
    project = bake(lesson=lesson)
    folder = shutil.copytree(HERE / "in_project", project.path / "in_project")
    shutil.copytree(HERE.parent / "support", folder / "support")
    shutil.copy(project.path / "tests" / "conftest.py", folder)

    result = project.test("-rs", f"in_project/{name}")
    assert result.returncode == 0, result.stdout
    assert sys.platform == "win32" or "skipped" not in result.stdout


# The tutorial's excerpts of files that an exercise changes; the project's own test has the others


def test_an_excerpt_is_in_its_file(student: Project) -> None:
    blocks = re.findall(
        r"In\s\[(.+?)\]\(\1\):\n\n```python\n(.*?)^```", student.read("TUTORIAL.md"), re.M | re.S
    )

    assert {"app/events.py", "app/handlers/orders.py"} < {file for file, _ in blocks}
    for file, code in blocks:
        assert code in student.read(file), file


# The command

COMMANDS = cases(__file__, "commands")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command(bake: Bake, name: str) -> None:
    case = COMMANDS[name]
    project = bake(lesson=case.get("lesson", "student"))
    for edit in case.get("edit", []):
        project.edit(*edit)

    encoding = case.get("encoding", "utf-8")
    command = ("-m", "lesson", *case.get("command", ["check"]))
    result = project.run(*command, PYTHONIOENCODING=encoding)

    said = result.stdout + result.stderr
    assert result.returncode == case.get("status", 0), said
    assert re.search(".*".join(case["says"]), said, re.S), said
    assert "Traceback" not in said
    assert encoding != "ascii" or said.isascii()


@pytest.mark.skipif(sys.platform == "win32", reason="GitHub runs the workflow on Ubuntu")
def test_the_workflow_shows_the_check_in_its_summary(student: Project, tmp_path: Path) -> None:
    workflow = yaml.safe_load(student.read(".github/workflows/lesson.yml"))
    step = workflow["jobs"]["check"]["steps"][-1]
    script = step["run"].replace("uv run python", f'"{student.python}"')
    summary = tmp_path / "summary.md"
    student.edit("answers.toml", 'q1 = ""', 'q1 = "<b> | C"')

    assert step["shell"] == "bash"  # with pipefail
    command = ("bash", "-eo", "pipefail", "-c")
    variables = {"PATH": os.environ["PATH"], "GITHUB_STEP_SUMMARY": str(summary)}
    variables["PYTHONIOENCODING"] = "utf-8"
    for options, status in (("", 0), (" --grade", 1)):
        summary.write_text("before\n", encoding="utf-8")
        script = script.replace("lesson check |", f"lesson check{options} |")
        done = run_alone(*command, script, cwd=student.path, **variables)

        assert done.returncode == status, done.stderr
        shown = r"before\n```text\n.*\[✗\] q1 .*\n      Wrong: <B> \| C isn't.* of 18 done\..*"
        assert re.fullmatch(shown, summary.read_text(encoding="utf-8"), re.S)
        assert "[✗] q1 " in done.stdout


LOOPS = """
import os
from app.bus import on
from app.events import OrderPlaced

@on(OrderPlaced)
async def reserve(event: OrderPlaced) -> None:
    open("pid", "w").write(str(os.getpid()))
    while True: pass
"""


@pytest.fixture
def check(student: Project, server: StartServer) -> Callable[..., Process]:
    """Starts the check, which goes on beside the test."""

    def start(*options: str) -> Process:
        command = (student.python, "-m", "lesson", "check", *options)
        return server(*command, cwd=student.path, PYTHONIOENCODING="utf-8").start()

    return start


def test_a_loop_is_found_and_the_quiz_comes_first(check: Any, student: Project) -> None:
    student.write("app/handlers/stock.py", LOOPS)
    start, looping = time.monotonic(), check()
    looping.until(lambda: "[·] print3" in looping.output(), 10)
    assert "exercise1" not in looping.output()

    assert looping.wait(20) == 0
    assert time.monotonic() - start < 20
    assert "app/handlers/stock.py, line 9: POST /orders doesn't come back" in looping.output()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl+Break isn't Ctrl+C")
def test_ctrl_c_ends_it_at_any_time(check: Any, student: Project) -> None:
    student.write("app/handlers/stock.py", LOOPS)
    looping, file = check(), student.path / "pid"
    pid = int(looping.until(lambda: file.exists() and file.read_text(encoding="utf-8")))

    assert looping.stop(signal.SIGINT) == 130
    assert "Traceback" not in looping.output("stderr")

    def gone() -> bool:
        with suppress(ProcessLookupError):
            os.kill(pid, 0)
            return False
        return True

    until(gone, 5)


def test_watching_says_what_changed_and_what_is_next(check: Any, student: Project) -> None:
    watching = check("--watch")
    watching.until(lambda: "Waiting until you save" in watching.output())
    assert "[·] exercise1" in watching.output()

    seen = len(watching.output())
    student.edit("answers.toml", 'q1 = ""', 'q1 = "C"')
    watching.until(lambda: watching.output().count("Waiting until you save") == 2)
    news = watching.output()[seen:]
    assert re.search(r"^ *\[✓\] q1 ", news.strip()), news
    assert "[·] exercise1" not in news
    assert "\nNext: step1." in news

    student.edit("answers.toml", 'q2 = ""', "q2 = A")
    watching.until(lambda: "answers.toml, line 12: Invalid value" in watching.output())
    student.edit("answers.toml", "q2 = A", 'q2 = "A"')
    watching.until(lambda: "[✓] q2 " in watching.output())


# The tutorial cannot drift

DRIFT = cases(__file__, "drift")


@pytest.mark.parametrize("name", DRIFT)
def test_drift_is_red(student: Project, name: str) -> None:
    student.edit(*DRIFT[name])

    result = student.test("-x", "tests/test_tutorial.py", "tests/test_quiz.py")

    assert result.returncode in (1, 2), result.stdout  # 2: the quiz is refused
