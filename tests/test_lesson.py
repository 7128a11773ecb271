"""The lesson: what each answer to `lesson` brings, and what the exercises say to each attempt."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tools import EXERCISES, PROJECT, QUESTIONS, generate, succeed

LEARNING = ("student", "solution")
TASKS = 4 + 6 + EXERCISES  # predictions, questions, exercises
KEPT = ("PATH", "SYSTEMROOT", "TEMP", "TMP")  # of the environment


@dataclass(frozen=True)
class Project:
    """A generated project, and the Python that has its dependencies."""

    path: Path
    python: Path

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run this project's Python with `arguments`, in a plain environment and `variables`."""
        plain = {name: os.environ[name] for name in KEPT if name in os.environ}
        return subprocess.run(
            [str(self.python), *arguments],
            cwd=self.path,
            env={**plain, "PYTHONIOENCODING": "utf-8", **variables},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )

    def test(self, *names: str) -> subprocess.CompletedProcess[str]:
        """Run the project's tests, or only those that are named."""
        return self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *names)

    def check(self, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "lesson", "check", *options, **variables)

    def write(self, file: str, text: str) -> None:
        (self.path / file).write_text(text, encoding="utf-8")

    def read(self, file: str) -> str:
        return (self.path / file).read_text(encoding="utf-8")

    def edit(self, file: str, old: str, new: str) -> None:
        assert old in self.read(file)
        self.write(file, self.read(file).replace(old, new, 1))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    """Generates the project for an answer to `lesson`, once; do not change it."""
    home = tmp_path_factory.mktemp("generated")
    made: dict[str, Project] = {}

    def project(lesson: str) -> Project:
        if lesson not in made:
            path = generate(home / lesson, project_slug="demo", lesson=lesson)
            if not made:
                environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
                subprocess.run(["uv", "sync", "-q"], cwd=path, env=environment, check=True)
            folder = "Scripts" if sys.platform == "win32" else "bin"
            first = next(iter(made.values()), None)
            python = first.python if first else path / ".venv" / folder / "python"
            made[lesson] = Project(path, python)
        return made[lesson]

    return project


def copy_of(project: Project, to: Path) -> Project:
    ignore = shutil.ignore_patterns(".venv", "__pycache__")
    shutil.copytree(project.path, to, ignore=ignore)
    return Project(to, project.python)


@pytest.fixture
def student(generated: Callable[[str], Project], tmp_path: Path) -> Project:
    """A fresh copy of the student's project."""
    return copy_of(generated("student"), tmp_path / "student")


def files(project: Project) -> dict[str, str]:
    return {
        path.relative_to(project.path).as_posix(): path.read_text(encoding="utf-8")
        for path in project.path.rglob("*")
        if path.is_file()
        and not {".venv", "__pycache__"} & set(path.parts)
        and path.name != "uv.lock"
    }


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


def test_none_leaves_no_trace(generated: Callable[[str], Project]) -> None:
    plain, student = files(generated("none")), files(generated("student"))

    for name, text in plain.items():
        ours = text.replace("https://fastapi.tiangolo.com/tutorial/", "")
        assert not re.search("lesson|tutorial|quiz|exercise|learner", name + ours, re.I), name
    for name, text in plain.items():
        if name.startswith("app/") and name != "app/events.py":
            assert student[name] == text, name
    assert "StockRanLow" not in "".join(plain.values())


def test_app_knows_nothing_of_the_lesson(generated: Callable[[str], Project]) -> None:
    for lesson in LEARNING:
        for name, text in files(generated(lesson)).items():
            if name.startswith("app/"):
                assert not re.search(r"^\s*(import|from) lesson", text, re.M), name


def test_nothing_of_the_lesson_ships(generated: Callable[[str], Project]) -> None:
    for lesson in LEARNING:
        project = generated(lesson)
        for name in ("Dockerfile", ".dockerignore", "compose.yaml"):
            assert "lesson" not in project.read(name)
        pyproject = tomllib.loads(project.read("pyproject.toml"))
        assert pyproject["tool"]["setuptools"]["packages"] == ["app", "app.handlers"]
        plain = tomllib.loads(generated("none").read("pyproject.toml"))
        assert pyproject["project"]["dependencies"] == plain["project"]["dependencies"]


def test_the_solution_differs_only_where_it_must(generated: Callable[[str], Project]) -> None:
    student, solution = files(generated("student")), files(generated("solution"))

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


def test_the_solution_is_green_and_solved(generated: Callable[[str], Project]) -> None:
    solution = generated("solution")

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
def test_what_the_learner_does_not_edit(
    generated: Callable[[str], Project], tmp_path: Path, name: str, lesson: str
) -> None:
    """What no learner's edit can break is tested here, so that a learner's own run stays short."""
    project = copy_of(generated(lesson), tmp_path / lesson)
    folder = project.path / "in_project"
    folder.mkdir()
    shutil.copy(project.path / "tests" / "conftest.py", folder)
    shutil.copy(Path(__file__).parent / "in_project" / name, folder)

    result = project.test("-rs", f"in_project/{name}")
    assert result.returncode == 0, result.stdout
    assert sys.platform == "win32" or "skipped" not in result.stdout
    python = f"--python-executable={project.python}"
    succeed("mypy", "--strict", f"--cache-dir={tmp_path}", python, str(folder), cwd=project.path)


def test_students_have_no_command_of_the_instructor(student: Project) -> None:
    result = student.run("-m", "lesson", "grade", ".")

    assert result.returncode == 2
    assert "invalid choice: 'grade'" in result.stderr


def test_the_student_becomes_the_solution(
    student: Project, generated: Callable[[str], Project]
) -> None:
    solution = generated("solution")
    for name in ("TUTORIAL.md", "answers.toml"):
        student.write(name, solution.read(name))
    shutil.copytree(solution.path / "app", student.path / "app", dirs_exist_ok=True)

    result = student.test()
    assert result.returncode == 0, result.stdout
    assert "skipped" not in result.stdout
    assert student.check("--grade").returncode == 0


# Attempts


@dataclass(frozen=True)
class Attempt:
    """What a learner writes, and what the exercises say: r(ight), n(ot yet), w(rong)."""

    states: str
    says: str = ""
    events: str = ""
    stock: str = ""
    orders: tuple[str, str] | None = None
    own: str = ""
    rows: str = ""


HEAD = """\
from app.bus import emit, on
from app.events import *

"""
OWN_HEAD = """\
from fastapi import BackgroundTasks
from pydantic import BaseModel

from app.bus import emit, on
from app.events import *
from app.main import app

"""
SECOND = """
@on(OrderPlaced)
async def second(event: OrderPlaced) -> None: ...
"""
LOW = """
class StockRanLow(Event):
    item: str
"""
EMITS = """
@on(OrderPlaced)
async def second(event: OrderPlaced) -> None:
    if event.quantity >= 10:
        await emit(StockRanLow(item=event.item))
"""
HEARS = """
@on(StockRanLow)
async def reorder(event: StockRanLow) -> None: ...
"""
PAID = """
class Paid(Event):
    amount: int
"""
PAYS = """
@app.post("/payments")
async def pay(amount: int) -> None:
    await emit(Paid(amount=amount))
"""
THANKS = """
@on(Paid)
async def thank(event: Paid) -> None:
    print("Thank you")
"""
ROW = "| 5 | Payment comes in | thank listener triggered | Prints 'Thank you' | Wait |\n"

ATTEMPTS = {
    # right, in other words than the solution's
    "first": Attempt("rnn", stock=SECOND),
    "first in a thread": Attempt("rnn", stock=SECOND.replace("async def", "def")),
    "first, and a helper": Attempt(
        "rnn", stock="def helper() -> None: ...\n" + SECOND.replace("...", "helper()")
    ),
    "two": Attempt("rrn", events=LOW, stock=EMITS + HEARS),
    "two with other names": Attempt(
        "rrn",
        events=LOW.replace("StockRanLow", "Leer").replace("item", "ware"),
        stock=(EMITS + HEARS)
        .replace("StockRanLow", "Leer")
        .replace("item=", "ware=")
        .replace("second", "x")
        .replace("reorder", "y"),
    ),
    "two in threads": Attempt(
        "rrn",
        events=LOW,
        stock="import anyio.from_thread\n"
        + (EMITS + HEARS)
        .replace("async def", "def")
        .replace("await emit(", "anyio.from_thread.run(emit, "),
    ),
    "two, and a third hears all": Attempt(
        "rrn", events=LOW, stock=EMITS + HEARS.replace("@on(StockRanLow)", "@on(Event)")
    ),
    "two in the receipt": Attempt(
        "nrn",
        events=LOW,
        stock=HEARS,
        orders=(
            '    return "Receipt sent"',
            "    from app.events import StockRanLow\n"
            "    if event.quantity > 9:\n"
            "        await emit(StockRanLow(item=event.item))\n"
            '    return "Receipt sent"',
        ),
    ),
    "third alone": Attempt("nnr", events=PAID, own=PAYS + THANKS, rows=ROW),
    "third after the response": Attempt(
        "nnr",
        events=PAID,
        own=PAYS.replace("amount: int", "amount: int, tasks: BackgroundTasks").replace(
            "await emit(Paid(amount=amount))", "tasks.add_task(emit, Paid(amount=amount))"
        )
        + THANKS,
        rows=ROW,
    ),
    "third with a body and a path": Attempt(
        "nnr",
        events=PAID,
        own="from uuid import UUID\n\nfrom pydantic import Field\n\n"
        "class Payment(BaseModel):\n"
        "    amount: int = Field(gt=100, le=200)\n"
        "    customer: UUID\n"
        "    currency: str = Field(pattern='[A-Z]{3}', examples=['EUR'])\n"
        "    parts: list[int] = Field(min_length=2)\n"
        '\n@app.put("/payments/{name}")\n'
        "async def pay(name: str, payment: Payment) -> None:\n"
        "    await emit(Paid(amount=payment.amount))\n" + THANKS,
        rows=ROW,
    ),
    "all": Attempt("rrr", events=LOW + PAID, stock=EMITS + HEARS, own=PAYS + THANKS, rows=ROW),
    "a question is no event": Attempt(
        "nnn", own='@app.get("/health")\nasync def health() -> str:\n    return "well"\n'
    ),
    # wrong
    "first waits for nothing": Attempt(
        "wnn", "no order runs", stock=SECOND.replace("@on(OrderPlaced)\n", "")
    ),
    "first waits for another event": Attempt(
        "wnn", "no order runs", stock=SECOND.replace("OrderPlaced", "Startup")
    ),
    "first instead of the receipt": Attempt(
        "wnn", "An order gets no receipt", stock=SECOND, orders=("@on(OrderPlaced)\n", "")
    ),
    "second only has its class": Attempt("rwn", "does not make happen", events=LOW, stock=SECOND),
    "second is not awaited": Attempt(
        "rwn", "waits until it was heard", events=LOW, stock=(EMITS + HEARS).replace("await ", "")
    ),
    "second is not heard": Attempt("rwn", "nobody hears it", events=LOW, stock=EMITS),
    "second for every order": Attempt(
        "rwn", "only from 10 on", events=LOW, stock=(EMITS + HEARS).replace("10", "1")
    ),
    "second one too late": Attempt(
        "rwn", "does not make happen", events=LOW, stock=(EMITS + HEARS).replace("10", "11")
    ),
    "second by the route": Attempt(
        "rwn",
        "The route of the order itself",
        events=LOW,
        stock=SECOND + HEARS,
        orders=(
            '    return {"order_id": order_id}',
            "    from app.events import StockRanLow\n"
            "    if order.quantity >= 10:\n"
            "        await emit(StockRanLow(item=order.item))\n"
            '    return {"order_id": order_id}',
        ),
    ),
    "second is an old event": Attempt(
        "rwn", "of the old ones", stock=EMITS.replace("StockRanLow(item=event.item)", "Startup()")
    ),
    "third has no event": Attempt(
        "nnw",
        "no event happens",
        own='@app.post("/payments")\nasync def pay() -> None: ...\n',
    ),
    "third is not heard": Attempt("nnw", "nobody hears it", events=PAID, own=PAYS, rows=ROW),
    "third has no row": Attempt("nnw", "a row of its own", events=PAID, own=PAYS + THANKS),
    "third has only its row": Attempt("nnw", "no new request makes it happen", rows=ROW),
    "third has the row of another": Attempt(
        "nnw",
        "no row of the execution table names",
        events=PAID,
        own=PAYS + THANKS,
        rows=ROW.replace("thank ", "nobody "),
    ),
    "third has a row that lies": Attempt(
        "nnw",
        "says that 'Thanks' is put out",
        events=PAID,
        own=PAYS + THANKS,
        rows=ROW.replace("Thank you", "Thanks"),
    ),
    "third has a row with a hole": Attempt(
        "nnw", "has an empty cell", events=PAID, own=PAYS + THANKS, rows=ROW.replace("Wait", "")
    ),
    "third emits an old event": Attempt(
        "nnw", "that the app had before", own=PAYS.replace("Paid(amount=amount)", "Startup()")
    ),
    "third emits the second's event": Attempt(
        "rrw",
        "that the app had before",
        events=LOW,
        stock=EMITS + HEARS,
        own=PAYS.replace("Paid(amount=amount)", "StockRanLow(item='tea')"),
    ),
    "third has only its class": Attempt(
        "rrw", "that no request makes happen", events=LOW + PAID, stock=EMITS + HEARS
    ),
    "third has its class and a route": Attempt(
        "nnw", "no event happens", events=PAID, own=PAYS.replace("await emit(", "print(") + THANKS
    ),
    "third refuses": Attempt(
        "nnw",
        "was answered with 409",
        events=PAID,
        own="from fastapi import HTTPException\n"
        + PAYS.replace("await emit(Paid(amount=amount))", "raise HTTPException(409)")
        + THANKS,
        rows=ROW,
    ),
    # a crash
    "first fails": Attempt("wwn", "ZeroDivisionError", stock=SECOND.replace("...", "1 / 0")),
    "second goes in circles": Attempt(
        "rwn", "EndlessChain", events=LOW, stock=EMITS + HEARS.replace("...", "await emit(event)")
    ),
    "third fails": Attempt(
        "nnw", "ZeroDivisionError", events=PAID, own=PAYS.replace("await", "1 / 0; await")
    ),
}


def written(student: Project, attempt: Attempt) -> Project:
    """Write `attempt` into the student's project."""
    student.write("app/events.py", student.read("app/events.py") + "\n" + attempt.events)
    if attempt.stock:
        student.write("app/handlers/stock.py", HEAD + attempt.stock)
    if attempt.orders:
        student.edit("app/handlers/orders.py", *attempt.orders)
    if attempt.own:
        student.write("app/handlers/own.py", OWN_HEAD + attempt.own)
    last = next(line for line in student.read("TUTORIAL.md").splitlines() if line[:4] == "| 4 ")
    student.edit("TUTORIAL.md", f"{last}\n", f"{last}\n{attempt.rows}")
    return student


def states(result: subprocess.CompletedProcess[str]) -> str:
    """Return what pytest said of the three exercises, as in Attempt.states."""
    lines = result.stdout.splitlines()
    line = next(line for line in lines if re.match(r"[.sFE]{3,} +\[100%\]", line))
    return line.partition(" ")[0].replace("E", "").translate(str.maketrans(".sF", "rnw"))


@pytest.mark.parametrize("name", ATTEMPTS)
def test_an_attempt(student: Project, name: str) -> None:
    attempt = ATTEMPTS[name]
    result = written(student, attempt).test("tests/test_exercises.py", "--tb=short")

    assert states(result) == attempt.states, result.stdout
    assert attempt.says in result.stdout
    assert result.returncode == (1 if "w" in attempt.states else 0)


@pytest.mark.parametrize("name", ["all", "two with other names", "two in the receipt"])
def test_what_is_solved_is_green(student: Project, name: str) -> None:
    result = written(student, ATTEMPTS[name]).test()

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("stock", "says"),
    [
        ("import nothing_of_this_name\n", "No module named 'nothing_of_this_name'"),
        ("async def second(event) -> None\n", "SyntaxError"),
        (
            HEAD + SECOND + "\non(OrderPlaced)(second)\n",
            "stock.py, line 8: ValueError: app.handlers.stock.second already listens to OrderPlaced",
        ),
        (
            HEAD + SECOND.replace("event: OrderPlaced", ""),
            "stock.py, line 5: TypeError: app.handlers.stock.second must take one argument, the event",
        ),
        (
            HEAD + SECOND.replace("@on(OrderPlaced)", "@on(3)"),
            "stock.py, line 5: TypeError: @on takes a class of event",
        ),
        (
            HEAD + "class Low(Event):\n    items: list[str] = []\n",
            "stock.py, line 4: ValueError: mutable",
        ),
        ("def register():\n    1 / 0\n\n\nregister()\n", "stock.py, line 2: ZeroDivisionError"),
        ("import sys\n\nsys.exit(3)\n", "SystemExit"),
    ],
)
def test_what_does_not_start_is_red(student: Project, stock: str, says: str) -> None:
    student.write("app/handlers/stock.py", stock)

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

DRIFT = {
    "an event": ("TUTORIAL.md", "| App starts |", "| The app starts |"),
    "a listener": ("TUTORIAL.md", "| startup_event listener", "| start_event listener"),
    "a printed line": ("TUTORIAL.md", "Prints 'App is starting'", "Prints 'App starts'"),
    "an output": ("TUTORIAL.md", "| Cleanup tasks run |", "| Cleanup tasks end |"),
    "a next action": ("TUTORIAL.md", "| Idle state |", "| Exit |"),
    "the tracker": ("TUTORIAL.md", '| "Response sent" |', '| "Response" |'),
    "an event of the tracker": ("TUTORIAL.md", '| "shutdown" |', '| "stop" |'),
    "an excerpt": ("TUTORIAL.md", 'print("Cleanup done", flush=True)', 'print("Cleanup done")'),
    "a key moment": ("TUTORIAL.md", "Can one event trigger", "May one event trigger"),
    "the flow": ("TUTORIAL.md", '"Event Occurs"', '"An Event Occurs"'),
    "a choice": ("TUTORIAL.md", "- **D** No output", "- **D** None"),
    "a try": (
        "TUTORIAL.md",
        "async def count_order(event: OrderPlaced)",
        "async def count_order()",
    ),
    "a link": ("TUTORIAL.md", "](app/bus.py)", "](app/buss.py)"),
    "a sentence of the quiz": ("lesson/quiz.toml", "and prints this line", "and says it"),
    "row 1 of the app": ("app/handlers/startup.py", 'print("App is starting"', 'print("Starting"'),
    "row 2 of the app": ("app/handlers/requests.py", "Response sent", "Sent"),
    "row 3 of the app": ("app/handlers/shutdown.py", 'return "Cleanup done"', 'return "Done"'),
    "a name of the app": ("app/handlers/startup.py", "def startup_event", "def at_start"),
    "the lifespan": ("app/main.py", "    await emit(Shutdown())\n", ""),
}


@pytest.mark.parametrize("name", DRIFT)
def test_drift_is_red(student: Project, name: str) -> None:
    student.edit(*DRIFT[name])

    result = student.test("-x", "tests/test_tutorial.py", "tests/test_quiz.py")

    assert result.returncode in (1, 2), result.stdout  # 2: the quiz is refused
