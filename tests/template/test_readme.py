"""What the READMEs tell people to type, typed as it stands there, in a fresh environment."""

import os
import re
import sys
from pathlib import Path

import pytest

from support.processes import Server, StartServer, succeed
from support.projects import Bake
from support.template import TEMPLATE, blocks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the READMEs' blocks are for sh")
README = TEMPLATE / "README.md"


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which only the system, Python and git are to be found: no uv, no tool of ours."""
    succeed(sys.executable, "-m", "venv", str(tmp_path / "fresh"), cwd=tmp_path)
    system = [folder for folder in os.defpath.split(os.pathsep) if Path(folder).is_absolute()]
    return os.pathsep.join([str(tmp_path / "fresh/bin"), *system, "/usr/local/bin"])


def rows_happen(server: Server) -> None:
    server.start()
    server.wait_for("App is starting", seconds=240)
    assert server.get("/") == {"message": "Response sent"}
    server.stop(group=True)
    assert server.printed()[-1] == "Cleanup done"


@pytest.mark.slow
def test_the_template_makes_a_project_and_starts_it(
    path: str, tmp_path: Path, repository: Path, server: StartServer
) -> None:
    command = blocks(README)[0].replace("gh:org/evtemplate", f"git+{repository.as_uri()}")
    rows_happen(server("sh", "-ec", command, cwd=tmp_path, PATH=path))


def test_the_template_is_tested_with_the_command_that_ci_calls() -> None:
    [command] = [block for block in blocks(README) if "pytest" in block]
    ci = (TEMPLATE / ".ci" / "run").read_text(encoding="utf-8")
    assert command.strip() in ci


@pytest.mark.slow
def test_a_class_of_projects(path: str, tmp_path: Path, repository: Path) -> None:
    (tmp_path / "class.txt").write_text("team-01\nteam-02\n", encoding="utf-8")
    [loop] = [block for block in blocks(README) if "class.txt" in block]
    loop = loop.replace("gh:org/evtemplate", f"git+{repository.as_uri()}")
    succeed("sh", "-ec", f"pip install uv\n{loop}", cwd=tmp_path, PATH=path)
    for slug in ("team-01", "team-02"):
        assert f'name = "{slug}"' in (tmp_path / slug / "pyproject.toml").read_text("utf-8")


def test_the_template_shows_the_code_that_it_writes(baked: Bake) -> None:
    [block] = blocks(README, "python")
    assert block in baked().read("app/handlers/orders.py")


@pytest.mark.slow
def test_the_project_with_uv(path: str, bake: Bake, server: StartServer) -> None:
    project = bake().path
    start, _, test, *_ = blocks(project / "README.md")
    succeed("pip", "install", "--quiet", "uv", cwd=project, PATH=path)
    rows_happen(server("sh", "-ec", start, cwd=project, PATH=path))
    assert " passed" in succeed("sh", "-ec", test, cwd=project, PATH=path)


@pytest.mark.slow
def test_the_project_with_pip(path: str, bake: Bake, server: StartServer) -> None:
    project = bake().path
    _, install, *_ = blocks(project / "README.md")
    rows_happen(server("sh", "-ec", install, cwd=project, PATH=path))
    activated = f"{project / '.venv/bin'}{os.pathsep}{path}"
    assert " passed" in succeed("pytest", cwd=project, PATH=activated)


def test_the_change_in_three_lines(bake: Bake, server: StartServer) -> None:
    project = bake(lesson="student")
    [lines] = blocks(project.path / "README.md", "python")
    assert len(lines.splitlines()) == 3
    handlers = "app/handlers/requests.py"
    project.write(handlers, f"{project.read(handlers)}\n\n{lines}")

    succeed("ruff", "check", "--no-cache", cwd=project.path)
    succeed("ruff", "format", "--check", "--no-cache", cwd=project.path)
    changed = server(project.python, "-m", "fastapi", "dev", cwd=project.path).start()
    changed.wait_for("App is starting")
    assert changed.get("/menu") == ["tea", "coffee"]
    changed.stop(group=True)
    tested = project.test()
    assert tested.returncode == 0, tested.stdout


@pytest.mark.slow
def test_what_the_devcontainer_installs(path: str, bake: Bake) -> None:
    project = bake()
    text = project.read(".devcontainer/devcontainer.json")
    [command] = re.findall(r'"postCreateCommand": "(.+)"', text)
    succeed("sh", "-ec", command, cwd=project.path, PATH=path)
    assert (project.path / ".venv/bin/fastapi").exists()
