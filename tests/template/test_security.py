"""What a project needs is audited with the same commands everywhere, and no secret lies about."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.processes import succeed
from support.projects import Bake
from support.template import CHOICES, PROJECT, TEMPLATE, copy_template


def audit(workflow: Path) -> tuple[Any, list[str]]:
    """Return the job `audit` and its commands, in order."""
    job = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]["audit"]
    return job, [step["run"] for step in job["steps"] if "run" in step]


def test_the_template_audits_with_the_same_commands() -> None:
    job, (_, *ours) = audit(TEMPLATE / ".github/workflows/weekly.yml")
    assert ours == audit(PROJECT / ".github/workflows/audit.yml")[1]
    assert job["strategy"]["matrix"]["broker"] == CHOICES["broker"]


def secrets(folder: Path) -> dict[str, list[Any]]:
    """Return what looks like a secret, by file."""
    printed = succeed("detect-secrets", "scan", "--all-files", "--no-verify", ".", cwd=folder)
    return dict(json.loads(printed)["results"])


def test_no_secret_is_in_the_template(tmp_path: Path) -> None:
    found = secrets(copy_template(tmp_path / "copy"))
    # Its passwords are made up, to see that none is ever printed.
    assert {Path(path).parts[:2] for path in found} <= {("tests", "brokers"), ("tests", "support")}
    assert sum(map(len, found.values())) <= 4


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_no_secret_is_in_a_project(broker: str, bake: Bake) -> None:
    project = bake(broker=broker, lesson="solution")
    key = "AKIA" + "Q3EGRRU5VZ2HTOXM"  # of the shape that Amazon's keys have
    project.write("app/keys.py", f'KEY = "{key}"\n')
    assert list(secrets(project.path)) == [str(Path("app/keys.py"))]  # and no other is found
