"""The Pythons that a project names, and the oldest versions of what it depends on."""

import os
from pathlib import Path

import pytest

from support.processes import succeed
from support.projects import Bake
from support.template import CHOICES

pytestmark = pytest.mark.slow
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
TEST = ("uv", "run", "--no-active", "pytest", "-q")
PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


def test_on_every_python_that_is_here(bake: Bake, tmp_path: Path) -> None:
    """Those of this machine that uv finds, and pyenv's; the workflows run all of them."""
    listed = succeed("uv", "python", "list", "--only-installed", cwd=tmp_path)
    pyenv = {each: max(PYENV.glob(f"{each}.*/bin/python{each}"), default=None) for each in PYTHONS}
    here = {
        each: pyenv[each] or each for each in PYTHONS if pyenv[each] or f"cpython-{each}." in listed
    }
    assert here
    for version, python in here.items():
        project = bake(lesson="solution")
        done = succeed(*TEST, cwd=project.path, UV_PYTHON=str(python), UV_PYTHON_DOWNLOADS="never")
        assert " passed" in done, version


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_with_the_oldest_versions(broker: str, bake: Bake) -> None:
    project = bake(broker=broker, lesson="solution")
    assert " passed" in succeed(*TEST, cwd=project.path, UV_RESOLUTION="lowest-direct")
