"""What an engineer who knows FastAPI expects of the generated code."""

import json
import re
import shutil
from graphlib import TopologicalSorter

import pytest

from support.processes import succeed
from support.projects import Bake
from support.template import CHOICES

MAY = {f"app/{name}.py" for name in ("bus", "events", "database", "models")}  # handlers import it


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_imports_run_in_no_circle(broker: str, baked: Bake) -> None:
    project = baked(broker=broker, lesson="solution")
    imports = json.loads(succeed("ruff", "analyze", "graph", "app", cwd=project.path))
    TopologicalSorter(imports).prepare()  # raises CycleError
    handlers = [name for name in imports if name.startswith("app/handlers/")]
    assert len(handlers) > 4
    assert [name for name in handlers if not set(imports[name]) <= MAY] == []


def test_the_service_alone_is_small(baked: Bake) -> None:
    files = baked(broker="none", lesson="none").files()
    lines = [text.count("\n") for name, text in files.items() if name.startswith("app/")]
    assert sum(lines) <= 300


@pytest.mark.parametrize("lesson", CHOICES["lesson"])
@pytest.mark.parametrize("broker", ["none", "nats"])
def test_what_agents_are_told(lesson: str, broker: str, baked: Bake) -> None:
    project = baked(broker=broker, lesson=lesson)
    told = project.read("AGENTS.md")

    assert told.count("\n") <= 60
    files = project.files()
    for path in re.findall(r"`([\w/]+(?:\.(?:py|toml)|/))`", told):
        assert any(name.startswith(path) for name in files), path
    fixtures = project.read("tests/conftest.py")
    for fixture in ("emitted", "client", "empty_bus"):
        assert f"`{fixture}`" in told
        assert f"def {fixture}(" in fixtures
    assert ("tutor" in told) == (lesson == "student")
    assert ("lesson grade" in told) == (lesson == "solution")
    for tool in re.findall(r"^uv run (\w+)", told, re.M):
        assert shutil.which(tool, path=project.python.parent), tool


def test_a_cache_that_cannot_be_written_is_no_failure(bake: Bake) -> None:
    project = bake()
    project.write(".pytest_cache", "in the way")
    done = project.run("-m", "pytest", "-q", "tests/test_orders.py")
    assert done.returncode == 0, done.stdout


def test_the_container_reads_its_files_whatever_the_umask_was(baked: Bake) -> None:
    dockerfile = baked().read("Dockerfile")
    [user] = re.findall(r"^USER (\d+)$", dockerfile, re.M)
    copied = re.findall(r"^COPY (?!--from)(.+)$", dockerfile.rpartition("\nFROM ")[2], re.M)
    assert len(copied) == 2
    assert all(line.startswith(f"--chown={user} ") for line in copied)
