"""What no machine here can run is checked by its linter or its schema, and holds no secret."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.processes import succeed
from support.projects import Bake
from support.template import CHOICES, PROJECT, TEMPLATE, copy_template


def conforms(schema: str, *files: Path) -> None:
    """Fail if a file isn't as one of check-jsonschema's own schemas wants it."""
    succeed("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files, cwd=TEMPLATE)


@pytest.mark.parametrize("folder", [TEMPLATE, PROJECT], ids=["template", "project"])
def test_workflows_and_dependency_updates(folder: Path) -> None:
    """That actions are pinned by their hashes and permissions given is what zizmor wants."""
    workflows = list((folder / ".github/workflows").glob("*.yml"))
    conforms("github-workflows", *workflows)
    conforms("dependabot", folder / ".github/dependabot.yml")
    options = ("--offline", "--persona=pedantic", "--no-progress")
    succeed("zizmor", *options, folder / ".github", cwd=TEMPLATE)
    writing = [path.name for path in workflows if ": write" in path.read_text(encoding="utf-8")]
    assert writing in ([], ["release.yml"])


def test_what_containers_are_made_of(baked: Bake) -> None:
    projects = [baked(broker=broker, lesson="none").path for broker in CHOICES["broker"]]
    conforms("compose-spec", *(project / "compose.yaml" for project in projects))
    succeed("hadolint", *(project / "Dockerfile" for project in projects), cwd=TEMPLATE)


def secrets(folder: Path) -> dict[str, list[Any]]:
    """Return what looks like a secret, by file."""
    printed = succeed("detect-secrets", "scan", "--all-files", "--no-verify", ".", cwd=folder)
    return dict(json.loads(printed)["results"])


def test_no_secret_is_in_the_template(tmp_path: Path) -> None:
    found = secrets(copy_template(tmp_path / "copy"))
    # Its passwords are made up, to see that none is ever printed.
    assert {Path(path).parts[:2] for path in found} <= {("tests", "brokers"), ("tests", "support")}
    assert sum(map(len, found.values())) <= 4


@pytest.mark.slow
def test_no_secret_is_in_a_project(baked: Bake, tmp_path: Path) -> None:
    for broker in CHOICES["broker"]:
        baked(broker=broker, lesson="solution").copy(tmp_path / broker)
    key = "AKIA" + "Q3EGRRU5VZ2HTOXM"  # of the shape that Amazon's keys have
    (tmp_path / "keys.py").write_text(f'KEY = "{key}"\n', encoding="utf-8")
    assert list(secrets(tmp_path)) == ["keys.py"]  # and no other is found
