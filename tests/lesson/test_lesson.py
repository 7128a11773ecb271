"""The lesson: what each answer to `lesson` brings, and what the exercises say to each attempt."""

import os
import re
import shutil
import signal
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cases import cases
from support.processes import Process, until
from support.projects import EXERCISES, Bake, Project
from support.template import PROJECT, QUESTIONS

HERE = Path(__file__).parent
LEARNING = ("student", "solution")
TASKS = 4 + 9 + EXERCISES  # predictions, questions, exercises


@pytest.fixture
def student(bake: Bake) -> Project:
    """A fresh copy of the student's project."""
    return bake(lesson="student")


# What each answer brings


def test_student_is_the_default() -> None:
    assert QUESTIONS["lesson"] == ["student", "solution", "none"]
    assert set(QUESTIONS["__prompts__"]["lesson"]) == {"__prompt__", *QUESTIONS["lesson"]}


@pytest.mark.parametrize("lesson", LEARNING)
def test_there_is_a_line_for_each_answer(lesson: str) -> None:
    quiz = tomllib.loads((PROJECT / "lesson" / "quiz.toml").read_text(encoding="utf-8"))
    answers = tomllib.loads((PROJECT / f"answers-{lesson}.toml").read_text(encoding="utf-8"))
    asked = []
    for question in quiz["question"]:
        asked += [question["id"]] + [f"{question['id']}_because"] * ("because" in question)
    assert list(answers["quiz"]) == asked


def test_none_leaves_no_trace(baked: Bake) -> None:
    plain, student = baked(lesson="none").files(), baked(lesson="student").files()

    for name, text in plain.items():
        ours = text.replace("https://fastapi.tiangolo.com/tutorial/", "")
        assert not re.search("lesson|tutorial|quiz|exercise|learner", name + ours, re.I), name
    for name, text in plain.items():
        if name.startswith("app/") and name != "app/events.py":
            assert student[name] == text, name
            assert "StockRanLow" not in text


def test_app_knows_nothing_of_the_lesson(baked: Bake) -> None:
    for lesson in LEARNING:
        for name, text in baked(lesson=lesson).files().items():
            if name.startswith("app/"):
                assert not re.search(r"^\s*(import|from) lesson", text, re.M), name


def test_nothing_of_the_lesson_ships(baked: Bake) -> None:
    for lesson in LEARNING:
        project = baked(lesson=lesson)
        for name in ("Dockerfile", ".dockerignore", "compose.yaml"):
            assert "lesson" not in project.read(name)
        pyproject = tomllib.loads(project.read("pyproject.toml"))
        assert pyproject["tool"]["setuptools"]["packages"]["find"]["include"] == ["app*"]
        plain = tomllib.loads(baked(lesson="none").read("pyproject.toml"))
        assert pyproject["project"]["dependencies"] == plain["project"]["dependencies"]


def test_the_solution_differs_only_where_it_must(baked: Bake) -> None:
    student, solution = baked(lesson="student").files(), baked(lesson="solution").files()

    different = {name for name in student | solution if student.get(name) != solution.get(name)}
    assert different == {
        "AGENTS.md",
        "README.md",
        "TUTORIAL.md",
        "answers.toml",
        "app/events.py",
        "app/handlers/deliveries.py",
        "app/handlers/orders.py",
        "app/handlers/stock.py",
        "lesson/__main__.py",
        "lesson/grade.py",
    }
    added = set(solution["TUTORIAL.md"].splitlines()) ^ set(student["TUTORIAL.md"].splitlines())
    assert [line[:5] for line in added] == ["| 5 |"]
    for name in ("lesson/grade.py", "app/handlers/deliveries.py"):
        assert name not in student
        assert name in solution


# Untouched, solved, and the one made of the other


def test_the_student_is_green_and_says_what_is_next(student: Project) -> None:
    result = student.test()

    assert result.returncode == 0, result.stdout
    assert f"{EXERCISES} skipped" in result.stdout
    assert result.stdout.count("not yet: ") == EXERCISES
    assert result.stdout.count(" Hint: ") == EXERCISES

    result = student.check()
    assert result.returncode == 0
    assert f"\n0 of {TASKS} done.\nNext: step1. You start the app." in result.stdout
    assert student.check("--grade").returncode == 1


def test_the_solution_is_green_and_solved(baked: Bake) -> None:
    solution = baked(lesson="solution")

    result = solution.test()
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout
    result = solution.check("--grade")
    assert result.returncode == 0, result.stdout
    assert f"\n{TASKS} of {TASKS} done.\n" in result.stdout


@pytest.mark.parametrize(
    ("name", "lesson"),
    [("test_recorder.py", "student"), ("test_live.py", "student"), ("test_grade.py", "solution")],
)
def test_what_the_learner_does_not_edit(bake: Bake, name: str, lesson: str) -> None:
    """What no learner's edit can break is tested here, so that a learner's own run stays short."""
    project = bake(lesson=lesson)
    folder = project.path / "in_project"
    shutil.copytree(HERE.parent / "support", folder / "support")
    shutil.copy(project.path / "tests" / "conftest.py", folder)
    shutil.copy(HERE / "in_project" / name, folder)

    result = project.test("-rs", f"in_project/{name}")
    assert result.returncode == 0, result.stdout
    assert sys.platform == "win32" or "skipped" not in result.stdout


def test_students_have_no_command_of_the_instructor(student: Project) -> None:
    result = student.run("-m", "lesson", "grade", ".")

    assert result.returncode == 2
    assert "invalid choice: 'grade'" in result.stderr


def test_the_student_becomes_the_solution(student: Project, baked: Bake) -> None:
    solution = baked(lesson="solution")
    for name in ("TUTORIAL.md", "answers.toml"):
        student.write(name, solution.read(name))
    shutil.copytree(solution.path / "app", student.path / "app", dirs_exist_ok=True)

    result = student.test()
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout
    assert student.check("--grade").returncode == 0


# The tutorial's excerpts of files that an exercise changes; the project's own test has the others


def test_an_excerpt_is_in_its_file(student: Project) -> None:
    blocks = re.findall(
        r"In\s\[(.+?)\]\(\1\):\n\n```python\n(.*?)^```", student.read("TUTORIAL.md"), re.M | re.S
    )

    assert {"app/events.py", "app/handlers/orders.py"} < {file for file, _ in blocks}
    for file, code in blocks:
        assert code in student.read(file), file


# The command


def test_the_command_says_what_is_right_and_why_the_rest_is_wrong(student: Project) -> None:
    student.edit("answers.toml", 'step1 = ""', 'step1 = "a caf\u00e9"')
    student.edit("answers.toml", 'q1 = ""', 'q1 = "c"')
    student.edit("answers.toml", 'q1_because = ""', 'q1_because = "A"')
    student.edit("answers.toml", 'q2_because = ""', 'q2_because = "C"')

    result = student.check()

    assert result.returncode == 0
    assert "You said: a caf\u00e9. The table says: Prints 'App is starting'." in result.stdout
    assert "[✓] q1 " in result.stdout
    assert "[✗] q1_because" in result.stdout
    assert "Wrong: An import only makes startup_event and registers it" in result.stdout
    assert "[·] q2_because  (comes after q2)" in result.stdout
    assert f"2 of {TASKS} done." in result.stdout


def test_a_plain_terminal_gets_plain_ascii(student: Project) -> None:
    student.edit("answers.toml", 'step1 = ""', 'step1 = "a caf\u00e9"')
    student.edit("answers.toml", 'q1 = ""', 'q1 = "A"')

    result = student.check(PYTHONIOENCODING="ascii")

    assert result.returncode == 0
    assert result.stdout.isascii()
    for mark in ("[x] step1", "[ ] step2", "[!] q1", "You said: a caf?."):
        assert mark in result.stdout


def test_broken_answers_say_their_line(student: Project) -> None:
    student.edit("answers.toml", 'q1 = ""', "q1 = C")

    result = student.check()

    assert result.returncode == 1
    assert re.match(r"answers\.toml, line 10: Invalid value; write each", result.stderr)
    assert "Traceback" not in result.stderr


def test_a_bad_question_says_its_place(student: Project) -> None:
    student.edit("lesson/quiz.toml", 'is = "App shuts down"', 'is = "App falls down"')

    result = student.check()

    assert result.returncode == 1
    assert re.match(
        r"quiz\.toml, line \d+, q3: no row of the table where Event is 'App falls down'\.",
        result.stderr,
    )


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
        try:
            os.kill(int(pid.read_text(encoding="utf-8")), 0)
        except ProcessLookupError:
            return True
        return False

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
