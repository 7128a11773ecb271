"""The lesson: what each answer to `lesson` brings, and what the exercises say to each attempt."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.cases import cases
from support.projects import EXERCISES, Bake, Project
from support.template import PROJECT, QUESTIONS

HERE = Path(__file__).parent
LEARNING = ("student", "solution")
TASKS = 4 + 6 + EXERCISES  # predictions, questions, exercises


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
    assert "StockRanLow" not in "".join(plain.values())


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
        assert pyproject["tool"]["setuptools"]["packages"] == ["app", "app.handlers"]
        plain = tomllib.loads(baked(lesson="none").read("pyproject.toml"))
        assert pyproject["project"]["dependencies"] == plain["project"]["dependencies"]


def test_the_solution_differs_only_where_it_must(baked: Bake) -> None:
    student, solution = baked(lesson="student").files(), baked(lesson="solution").files()

    different = {name for name in student | solution if student.get(name) != solution.get(name)}
    assert different == {
        "README.md",
        "TUTORIAL.md",
        "answers.toml",
        "app/events.py",
        "app/handlers/deliveries.py",
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


# Attempts

PARTS, ATTEMPTS = cases(__file__, "attempts").values()
IMPORTS = "from app.bus import emit, on\nfrom app.events import *\n"
MORE_IMPORTS = "from fastapi import BackgroundTasks\nfrom pydantic import BaseModel\n"
OWN = f"{MORE_IMPORTS}{IMPORTS}from app.main import app\n"


def written(student: Project, name: str) -> Project:
    """Write an attempt into the student's project."""
    *_, attempt = ATTEMPTS[name]

    def code(parts: str) -> str:
        text = "".join(PARTS[part] for part in parts.split())
        for old, new in attempt.get("edit", []):
            text = text.replace(old, new)
        return text

    events, stock, own, row = (
        code(attempt.get(to, "")) for to in ["events", "stock", "own", "row"]
    )
    student.write("app/events.py", f"{student.read('app/events.py')}\n{events}")
    if stock:
        student.write("app/handlers/stock.py", IMPORTS + stock)
    if own:
        student.write("app/handlers/own.py", OWN + own)
    if "orders" in attempt:
        old, new = attempt["orders"]
        student.edit("app/handlers/orders.py", old, new and code(new) + old)
    last = next(line for line in student.read("TUTORIAL.md").splitlines() if line[:4] == "| 4 ")
    student.edit("TUTORIAL.md", f"{last}\n", f"{last}\n{row}")
    return student


def states(result: subprocess.CompletedProcess[str]) -> str:
    """Return what pytest said of the three exercises, as r(ight), n(ot yet), w(rong)."""
    lines = result.stdout.splitlines()
    line = next(line for line in lines if re.match(r"[.sFE]{3,} +\[100%\]", line))
    return line.partition(" ")[0].replace("E", "").translate(str.maketrans(".sF", "rnw"))


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt(student: Project, name: str) -> None:
    expected, sentence, _ = ATTEMPTS[name]
    result = written(student, name).test("tests/test_exercises.py", "--tb=short")

    assert states(result) == expected, result.stdout
    assert sentence in result.stdout
    assert result.returncode == (1 if "w" in expected else 0)


@pytest.mark.parametrize("name", ["all", "two with other names", "two in the receipt"])
def test_what_is_solved_is_green(student: Project, name: str) -> None:
    result = written(student, name).test()

    assert result.returncode == 0, result.stdout


BROKEN = cases(__file__, "broken")


@pytest.mark.parametrize("name", BROKEN)
def test_what_does_not_start_is_red(student: Project, name: str) -> None:
    stock, says = BROKEN[name]
    student.write("app/handlers/stock.py", stock.replace("IMPORTS\n", IMPORTS))

    result = student.test()
    assert result.returncode not in (0, 5)

    result = student.check()
    assert "[✗] exercises   Mend app/" in result.stdout, result.stdout + result.stderr
    assert says in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    assert student.check("--grade").returncode == 1


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


# The tutorial cannot drift

DRIFT = cases(__file__, "drift")


@pytest.mark.parametrize("name", DRIFT)
def test_drift_is_red(student: Project, name: str) -> None:
    student.edit(*DRIFT[name])

    result = student.test("-x", "tests/test_tutorial.py", "tests/test_quiz.py")

    assert result.returncode in (1, 2), result.stdout  # 2: the quiz is refused
