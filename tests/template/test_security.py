"""What a project needs is audited with the same commands everywhere, and no secret lies about."""

import json
from pathlib import Path

import pytest
import yaml

from support.processes import succeed
from support.projects import Bake
from support.template import CHOICES, PROJECT, TEMPLATE, copy_template

BROKERS, SUPPORT = ("tests", "brokers"), ("tests", "support")


def steps(workflow: Path) -> list[str]:
    """Return the commands of the job `audit`, in order."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step["run"] for step in jobs["audit"]["steps"] if "run" in step]


def test_the_template_audits_with_the_same_commands() -> None:
    workflow = TEMPLATE / ".github/workflows/weekly.yml"
    _, *ours = steps(workflow)
    assert ours == steps(PROJECT / ".github/workflows/audit.yml")
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    assert jobs["audit"]["strategy"]["matrix"]["broker"] == CHOICES["broker"]


def secrets(folder: Path) -> dict[str, list[str]]:
    """Return what looks like a secret, by file."""
    printed = succeed("detect-secrets", "scan", "--all-files", "--no-verify", ".", cwd=folder)
    return {
        path: [found["type"] for found in results]
        for path, results in json.loads(printed)["results"].items()
    }


def test_no_secret_is_in_the_template(tmp_path: Path) -> None:
    found = secrets(copy_template(tmp_path / "copy"))
    # Its passwords are made up, to see that none is ever printed.
    made_up = [path for path in found if Path(path).parts[:2] in (BROKERS, SUPPORT)]
    assert set(found) == set(made_up)
    assert sum(len(found[path]) for path in made_up) <= 4


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_no_secret_is_in_a_project(broker: str, bake: Bake) -> None:
    project = bake(broker=broker, lesson="solution")
    assert secrets(project.path) == {}
    key = "AKIA" + "Q3EGRRU5VZ2HTOXM"  # of the shape that Amazon's keys have
    project.write("app/keys.py", f'KEY = "{key}"\n')
    assert list(secrets(project.path)) == [str(Path("app/keys.py"))]
