"""What the READMEs tell people to type, typed as it stands there, in a fresh environment."""

import json
import os
import re
import sys
from pathlib import Path

import pytest

from support.processes import StartServer, run, succeed
from support.projects import Bake, Project
from support.template import PROJECT, TEMPLATE, blocks

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the READMEs' blocks are for sh")
README = TEMPLATE / "README.md"
Fresh = dict[str, str]


@pytest.fixture
def fresh(tmp_path: Path) -> Fresh:
    """An active environment: beside the system only Python and git are there, and no uv."""
    active = tmp_path / "fresh"
    succeed(sys.executable, "-m", "venv", active, cwd=tmp_path)
    path = os.pathsep.join([str(active / "bin"), os.defpath.strip(":"), "/usr/local/bin"])
    return {"PATH": path, "VIRTUAL_ENV": str(active)}


def rows_happen(server: StartServer, block: str, folder: Path, fresh: Fresh) -> None:
    """Type a block that starts the service: it answers, it stops, and uv has not warned."""
    typed = server("sh", "-ec", block, cwd=folder, **fresh).start()
    typed.wait_for("App is starting")
    assert typed.get("/") == {"message": "Response sent"}
    typed.stop(group=True)
    assert typed.printed()[-1] == "Cleanup done"
    assert "VIRTUAL_ENV" not in typed.output("stderr")


@pytest.mark.slow
def test_the_template_makes_a_project_and_starts_it(
    fresh: Fresh, tmp_path: Path, repository: Path, server: StartServer
) -> None:
    command = blocks(README)[0].replace("gh:org/evtemplate", f"git+{repository.as_uri()}")
    rows_happen(server, command, tmp_path, fresh)


@pytest.mark.slow
def test_a_class_of_projects(fresh: Fresh, tmp_path: Path, repository: Path) -> None:
    (tmp_path / "class.txt").write_bytes(b"team-01\r\nteam-02\r\n")  # as Windows writes it
    assert "cruft create gh:" not in README.read_text(encoding="utf-8")  # it knows no gh:
    [loop] = [block for block in blocks(README) if "class.txt" in block]
    loop = loop.replace("gh:org/evtemplate", f"git+{repository.as_uri()}")
    succeed("sh", "-ec", f"pip install uv\n{loop}", cwd=tmp_path, **fresh)
    for slug in ("team-01", "team-02"):
        assert f'name = "{slug}"' in Project(tmp_path / "class" / slug).read("pyproject.toml")


def test_the_template_shows_the_code_that_it_writes(baked: Bake) -> None:
    [block] = blocks(README, "python")
    assert block in baked().read("app/handlers/orders.py")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["uv", "pip"])
def test_the_project_starts_and_is_tested(
    way: str, fresh: Fresh, bake: Bake, server: StartServer
) -> None:
    project = bake().path
    by_uv, by_pip, test, *_ = blocks(project / "README.md")
    start, test = {
        "uv": (f"pip install --quiet uv\n{by_uv}", test),
        "pip": (by_pip, ". .venv/bin/activate\npytest"),
    }[way]
    rows_happen(server, start, project, fresh)
    done = run("sh", "-ec", test, cwd=project, **fresh)
    assert " passed" in done.stdout, done.stderr
    assert "VIRTUAL_ENV" not in done.stderr


def test_in_an_active_environment_uv_does_not_warn(tmp_path: Path) -> None:
    """It would, at each command; what's said after the project is made keeps it from that."""
    active = {"VIRTUAL_ENV": str(tmp_path / "active"), "PWD": str(tmp_path)}
    said = succeed("cookiecutter", TEMPLATE, "--no-input", cwd=tmp_path, **active)
    *before, clear, start, test = re.findall(r"^    (\S.*?)(?:  .*)?$", said, re.M)
    assert (start, test) == ("uv run fastapi dev", "uv run pytest")
    for typed, warns in (([*before], True), ([*before, clear], False)):
        script = "\n".join([*typed, "uv run --no-sync python --version"])
        done = run("sh", "-ec", script, cwd=tmp_path, **active)
        assert (done.returncode, "VIRTUAL_ENV" in done.stderr) == (0, warns), done.stderr
    for page in (README, PROJECT / "README.md", PROJECT / "AGENTS.md"):
        assert f"`{clear}`" in page.read_text(encoding="utf-8"), page


def test_the_change_in_three_lines(bake: Bake) -> None:
    project = bake(lesson="student")
    [lines] = blocks(project.path / "README.md", "python")
    assert len(lines.splitlines()) == 3
    handlers = "app/handlers/requests.py"
    project.write(handlers, f"{project.read(handlers)}\n\n{lines}")

    succeed("ruff", "check", "--no-cache", cwd=project.path)
    succeed("ruff", "format", "--check", "--no-cache", cwd=project.path)
    menu = """
def test_menu(client):
    assert client.get("/menu").json() == ["tea", "coffee"]
"""
    project.write("tests/test_menu.py", menu)
    assert project.test().returncode == 0


@pytest.mark.slow
def test_what_the_devcontainer_installs(fresh: Fresh, bake: Bake) -> None:
    project = bake()
    devcontainer = json.loads(project.read(".devcontainer/devcontainer.json"))
    assert 8000 in devcontainer["forwardPorts"]
    succeed("sh", "-ec", devcontainer["postCreateCommand"], cwd=project.path, **fresh)
    assert (project.path / ".venv/bin/fastapi").exists()
