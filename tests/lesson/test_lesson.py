"""The lesson: what each answer to `lesson` brings, and what the exercises say to each attempt."""

import os
import re
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.cases import cases
from support.processes import Process, until
from support.projects import EXERCISES, Bake, Project

HERE = Path(__file__).parent
LEARNING = ("student", "solution")
TASKS = 4 + 9 + EXERCISES  # predictions, questions, exercises


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


def test_the_solution_is_solved(baked: Bake) -> None:
    result = baked(lesson="solution").check("--grade")
    assert result.returncode == 0, result.stdout
    assert f"\n{TASKS} of {TASKS} done.\n" in result.stdout


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
def test_the_command(student: Project, name: str) -> None:
    case = COMMANDS[name]
    for edit in case.get("edit", []):
        student.edit(*edit)

    encoding = case.get("encoding", "utf-8")
    command = ("-m", "lesson", *case.get("command", ["check"]))
    result = student.run(*command, PYTHONIOENCODING=encoding)

    said = result.stdout + result.stderr
    assert result.returncode == case.get("status", 0), said
    assert re.search(".*".join(case["says"]), said, re.S), said
    assert "Traceback" not in said
    assert encoding != "ascii" or said.isascii()


def test_github_gets_a_summary(student: Project, tmp_path: Path) -> None:
    student.edit("answers.toml", 'step1 = ""', 'step1 = "<b> | x"')
    summary = tmp_path / "summary.md"
    summary.write_text("before\n", encoding="utf-8")

    student.check(GITHUB_STEP_SUMMARY=str(summary))

    text = summary.read_text(encoding="utf-8")
    assert text.startswith("before\n## The lesson\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == TASKS
    assert all(row.count("|") == 5 for row in rows)
    assert "You said: &lt;b&gt; &#124; x." in rows[0]


LOOPS = """
import os

from app.bus import on
from app.events import OrderPlaced


@on(OrderPlaced)
async def reserve(event: OrderPlaced) -> None:
    open("pid", "w").write(str(os.getpid()))
    while True:
        pass
"""


def command(student: Project, *options: str) -> Process:
    plain = {"PYTHONIOENCODING": "utf-8"}
    return Process(student.python, "-m", "lesson", "check", *options, cwd=student.path, **plain)


@pytest.fixture
def looping(student: Project) -> Iterator[Process]:
    """The check, at work on a handler that never returns."""
    student.write("app/handlers/stock.py", LOOPS)
    check = command(student)
    yield check
    check.close()


def test_a_loop_is_found_and_the_quiz_comes_first(looping: Process) -> None:
    start = time.monotonic()
    looping.start().until(lambda: "[·] print3" in looping.output(), 10)
    assert "exercise1" not in looping.output()

    assert looping.wait(20) == 0
    assert time.monotonic() - start < 20
    assert "app/handlers/stock.py, line 11: POST /orders doesn't come back" in looping.output()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl+Break isn't Ctrl+C")
def test_ctrl_c_ends_it_at_any_time(looping: Process, student: Project) -> None:
    pid = student.path / "pid"
    looping.start().until(lambda: pid.exists() and pid.read_text(encoding="utf-8"))

    assert looping.stop(signal.SIGINT) == 130
    assert "Traceback" not in looping.output("stderr")

    def gone() -> bool:
        with suppress(ProcessLookupError):
            os.kill(int(pid.read_text(encoding="utf-8")), 0)
            return False
        return True

    until(gone, 5)


def test_watching_says_what_changed_and_what_is_next(student: Project) -> None:
    check = command(student, "--watch").start()
    try:
        check.until(lambda: "Waiting until you save" in check.output())
        assert "[·] exercise1" in check.output()

        seen = len(check.output())
        student.edit("answers.toml", 'q1 = ""', 'q1 = "C"')
        check.until(lambda: check.output().count("Waiting until you save") == 2)
        news = check.output()[seen:]
        assert re.search(r"^ *\[✓\] q1 ", news.strip()), news
        assert "[·] exercise1" not in news
        assert "\nNext: step1." in news

        student.edit("answers.toml", 'q2 = ""', "q2 = A")
        check.until(lambda: "answers.toml, line 12: Invalid value" in check.output())
        student.edit("answers.toml", "q2 = A", 'q2 = "A"')
        check.until(lambda: "[✓] q2 " in check.output())
    finally:
        check.close()


# The tutorial cannot drift

DRIFT = cases(__file__, "drift")


@pytest.mark.parametrize("name", DRIFT)
def test_drift_is_red(student: Project, name: str) -> None:
    student.edit(*DRIFT[name])

    result = student.test("-x", "tests/test_tutorial.py", "tests/test_quiz.py")

    assert result.returncode in (1, 2), result.stdout  # 2: the quiz is refused
