"""What an engineer who knows FastAPI expects of the generated code."""

import ast
import re
from pathlib import Path

import pytest

from support.projects import Bake, Project
from support.template import CHOICES


def imports(project: Project) -> dict[str, set[str]]:
    """Return for each module of app/ the modules of app/ that it imports."""
    modules = {
        ".".join(Path(name).with_suffix("").parts).removesuffix(".__init__"): ast.parse(text)
        for name, text in project.files().items()
        if name.startswith("app/") and name.endswith(".py")
    }
    found: dict[str, set[str]] = {}
    for module, tree in modules.items():
        names: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{module}: a relative import"
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                names |= inner & set(modules) or {str(node.module)}
        found[module] = names & set(modules) - {"app"}
    return found


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_imports_run_in_no_circle(broker: str, baked: Bake) -> None:
    left = imports(baked(broker=broker, lesson="solution"))
    while leaves := [module for module, needs in left.items() if not needs & set(left)]:
        for module in leaves:
            del left[module]
    assert left == {}
    handlers = {
        name: needs
        for name, needs in imports(baked(broker=broker, lesson="solution")).items()
        if name.startswith("app.handlers.")
    }
    assert len(handlers) > 4
    for name, needs in handlers.items():
        assert needs <= {"app.bus", "app.events", "app.database", "app.models"}, name


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
        assert path in files or any(name.startswith(path) for name in files), path
    fixtures = project.read("tests/conftest.py")
    for fixture in ("emitted", "client", "empty_bus"):
        assert f"`{fixture}`" in told
        assert f"def {fixture}(" in fixtures
    assert ("tutor" in told) == (lesson == "student")
    assert ("lesson grade" in told) == (lesson == "solution")
    [commands] = re.findall(r"^```sh\n(.*?)^```", told, re.M | re.S)
    for command in commands.splitlines():
        tool, *arguments = command.removeprefix("uv run ").split()
        options = ["--help"] if tool == "fastapi" else ["--version"]
        ran = project.run("-m", tool, *(arguments[:1] if tool == "fastapi" else []), *options)
        assert ran.returncode == 0, ran.stderr


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
