"""What the READMEs tell people to type, typed as it stands there, in a fresh environment."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
from tools import EXERCISES, TEMPLATE, Server, generate, run, succeed

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the READMEs' blocks are for sh")


def blocks(readme: Path, language: str = "sh") -> list[str]:
    """Return the code blocks of a README, in order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", readme.read_text(encoding="utf-8"), re.M | re.S
    )


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which only the system, Python and git are to be found: no uv, no tool of ours."""
    succeed(sys.executable, "-m", "venv", str(tmp_path / "fresh"), cwd=tmp_path)
    system = [folder for folder in os.defpath.split(os.pathsep) if Path(folder).is_absolute()]
    return os.pathsep.join([str(tmp_path / "fresh/bin"), *system, "/usr/local/bin"])


def rows_happen(server: Server) -> None:
    server.wait_for("App is starting", seconds=240)
    assert server.get("/") == {"message": "Response sent"}
    server.stop(group=True)
    assert server.printed()[-1] == "Cleanup done"


def test_the_template_makes_a_project_and_starts_it(
    path: str, tmp_path: Path, repository: Path
) -> None:
    command = blocks(TEMPLATE / "README.md")[0].replace(
        "gh:org/evtemplate", f"git+{repository.as_uri()}"
    )
    with Server("sh", "-ec", command, cwd=tmp_path, PATH=path) as server:
        rows_happen(server)


def test_the_template_is_tested_with_the_command_that_ci_calls() -> None:
    [command] = [block for block in blocks(TEMPLATE / "README.md") if "pytest" in block]
    assert command in (TEMPLATE / ".ci" / "run").read_text(encoding="utf-8")


def test_a_class_of_projects(path: str, tmp_path: Path, repository: Path) -> None:
    (tmp_path / "class.txt").write_text("team-01\nteam-02\n", encoding="utf-8")
    [loop] = [block for block in blocks(TEMPLATE / "README.md") if "class.txt" in block]
    succeed(
        *(
            "sh",
            "-ec",
            "pip install uv\n" + loop.replace("gh:org/evtemplate", f"git+{repository.as_uri()}"),
        ),
        cwd=tmp_path,
        PATH=path,
    )
    for slug in ("team-01", "team-02"):
        assert f'name = "{slug}"' in (tmp_path / slug / "pyproject.toml").read_text("utf-8")


def test_the_template_shows_the_code_that_it_writes(tmp_path: Path) -> None:
    orders = (generate(tmp_path) / "app/handlers/orders.py").read_text(encoding="utf-8")
    [block] = blocks(TEMPLATE / "README.md", "python")
    assert block in orders


def test_the_project_with_uv(path: str, tmp_path: Path) -> None:
    project = generate(tmp_path / "made")
    start, _, test, *_ = blocks(project / "README.md")
    succeed("pip", "install", "--quiet", "uv", cwd=project, PATH=path)
    with Server("sh", "-ec", start, cwd=project, PATH=path) as server:
        rows_happen(server)
    assert " passed" in succeed("sh", "-ec", test, cwd=project, PATH=path)


def test_the_project_with_pip(path: str, tmp_path: Path) -> None:
    project = generate(tmp_path / "made")
    _, install, *_ = blocks(project / "README.md")
    with Server("sh", "-ec", install, cwd=project, PATH=path) as server:
        rows_happen(server)
    activated = f"{project / '.venv/bin'}{os.pathsep}{path}"
    assert " passed" in succeed("pytest", cwd=project, PATH=activated)


def test_the_change_in_three_lines(tmp_path: Path) -> None:
    project = generate(tmp_path, lesson="student")
    [lines] = blocks(project / "README.md", "python")
    assert len(lines.splitlines()) == 3
    with (project / "app/handlers/requests.py").open("a", encoding="utf-8") as file:
        file.write("\n\n" + lines)

    succeed("ruff", "check", "--no-cache", cwd=project)
    succeed("ruff", "format", "--check", "--no-cache", cwd=project)
    with Server("uv", "run", "fastapi", "dev", cwd=project) as server:
        server.wait_for("App is starting", seconds=240)
        assert server.get("/menu") == ["tea", "coffee"]
        server.stop(group=True)
    tested = succeed("uv", "run", "pytest", "-q", cwd=project)
    assert f" {EXERCISES} skipped" in tested  # no exercise is done


def test_what_the_dockerfile_installs_and_starts(path: str, tmp_path: Path) -> None:
    """Follow the Dockerfile in an empty folder, as far as that goes without an engine."""
    project = generate(tmp_path / "made")
    image = tmp_path / "image"
    image.mkdir()
    start = health = None
    for line in (project / "Dockerfile").read_text("utf-8").replace("\\\n", "").splitlines():
        instruction, _, rest = line.partition(" ")
        if instruction == "COPY" and "--from" not in rest:
            *sources, _ = rest.split()
            for source in sources:
                for found in project.glob(source):
                    succeed("cp", "-r", found, image, cwd=project)
        elif instruction == "RUN" and "useradd" not in rest:
            succeed("sh", "-ec", rest, cwd=image, PATH=path)
        elif instruction == "HEALTHCHECK":
            health = json.loads(rest[rest.index("[") :])
        elif instruction == "CMD":
            start = json.loads(rest)
    assert start
    assert health

    inside = f"{image / '.venv/bin'}{os.pathsep}{path}"
    with Server(*start, cwd=image, PATH=inside) as server:
        server.wait_for("App is starting")
        succeed(*health, cwd=image, PATH=inside, PORT=str(server.port))
        assert server.stop() == 0
        assert server.printed()[-1] == "Cleanup done"
    assert run(*health, cwd=image, PATH=inside, PORT=str(server.port)).returncode != 0


def test_what_the_devcontainer_installs(path: str, tmp_path: Path) -> None:
    project = generate(tmp_path / "made")
    text = (project / ".devcontainer/devcontainer.json").read_text(encoding="utf-8")
    [command] = re.findall(r'"postCreateCommand": "(.+)"', text)
    succeed("sh", "-ec", command, cwd=project, PATH=path)
    assert (project / ".venv/bin/fastapi").exists()
