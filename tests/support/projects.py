"""Generated projects: what lies in them, and the environment that they run in."""

import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from support.processes import Done, run_alone, succeed

EXERCISES = 5  # of the lesson
KEPT = ("PATH", "SYSTEMROOT", "TEMP", "TMP")  # of the environment
LEFT_OUT = (".venv", "__pycache__", "uv.lock", ".mypy_cache", ".pytest_cache", ".ruff_cache")


@dataclass(frozen=True)
class Project:
    """A generated project, and where the environments are that projects share."""

    path: Path
    environments: Path = field(default=Path(), repr=False)

    @property
    def python(self) -> Path:
        """The Python of an environment that all share, in all workers, who install the same."""
        pyproject = tomllib.loads(self.read("pyproject.toml"))
        installs = (pyproject["project"]["dependencies"], pyproject["dependency-groups"])
        digest = hashlib.sha256(json.dumps(installs).encode()).hexdigest()[:8]
        folder = self.environments / digest
        python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        ready = folder / "ready"
        self.environments.mkdir(exist_ok=True)
        with FileLock(self.environments / f"{digest}.lock"):
            if not ready.exists():
                what = ("--requirement", "pyproject.toml", "--group", "dev")
                succeed("uv", "venv", "--quiet", "--clear", folder, cwd=self.path)
                succeed("uv", "pip", "install", "--quiet", "--python", python, *what, cwd=self.path)
                ready.touch()
        return python

    def run(self, *arguments: str, **variables: str) -> Done:
        """Run the project's Python with `arguments`, in a plain environment and `variables`."""
        plain = {name: os.environ[name] for name in KEPT if name in os.environ}
        plain["PYTEST_DEBUG_TEMPROOT"] = str(self.path.parent)  # many at once clear it away
        environment = {**plain, "PYTHONIOENCODING": "utf-8", **variables}
        return run_alone(self.python, *arguments, cwd=self.path, **environment)

    def test(self, *names: str, **variables: str) -> Done:
        """Run the project's tests, or only those that are named."""
        return self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", *names, **variables)

    def check(self, *options: str, **variables: str) -> Done:
        """Run the learner's command."""
        return self.run("-m", "lesson", "check", *options, **variables)

    def copy(self, to: Path) -> "Project":
        """Return a copy of it that may be changed."""
        ignore = shutil.ignore_patterns(*LEFT_OUT)
        return Project(shutil.copytree(self.path, to, ignore=ignore), self.environments)

    def read(self, file: str) -> str:
        return (self.path / file).read_text(encoding="utf-8")

    def write(self, file: str, text: str) -> None:
        (self.path / file).parent.mkdir(parents=True, exist_ok=True)
        (self.path / file).write_text(text, encoding="utf-8")

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace the first `old` in a file, where it must be."""
        assert old in self.read(file), f"{file} has no {old!r}"
        self.write(file, self.read(file).replace(old, new, 1))

    def files(self) -> dict[str, str]:
        """Return the text of each file, without what tools leave there."""
        return {
            path.relative_to(self.path).as_posix(): path.read_text(encoding="utf-8")
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and not {*LEFT_OUT} & set(path.parts)
        }


Bake = Callable[..., Project]  # what the fixtures `bake` and `baked` give: answers to a project
