"""The Pythons that a project names, and the oldest versions of what it depends on."""

import os
import re
from pathlib import Path

import pytest

from support.processes import succeed
from support.projects import Bake
from support.template import CHOICES

pytestmark = pytest.mark.slow
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
TEST = ("uv", "run", "--no-active", "pytest", "-q")


def pythons(folder: Path) -> dict[str, str]:
    """Return the Pythons of this machine by version: those that uv finds, and pyenv's."""
    listed = succeed("uv", "python", "list", "--only-installed", cwd=folder)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = {}
    for version in PYTHONS:
        if re.search(rf"^cpython-{re.escape(version)}\.", listed, re.M):
            found[version] = version
        elif paths := sorted(pyenv.glob(f"{version}.*/bin/python{version}")):
            found[version] = str(paths[-1])
    return found


def test_on_every_python_that_is_here(bake: Bake, tmp_path: Path) -> None:
    """This machine's; the workflows run all of them."""
    here = pythons(tmp_path)
    assert here
    for version, python in here.items():
        project = bake(lesson="solution")
        done = succeed(*TEST, cwd=project.path, UV_PYTHON=python, UV_PYTHON_DOWNLOADS="never")
        assert " passed" in done, version


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_with_the_oldest_versions(broker: str, bake: Bake) -> None:
    project = bake(broker=broker, lesson="solution")
    assert " passed" in succeed(*TEST, cwd=project.path, UV_RESOLUTION="lowest-direct")
