"""What no machine here can run is held against its linter or its schema."""

import re
from pathlib import Path

import pytest

from support.processes import succeed
from support.projects import Bake, Project
from support.template import CHOICES, PROJECT, TEMPLATE

of_both = pytest.mark.parametrize("folder", [TEMPLATE, PROJECT], ids=["template", "project"])


def conforms(schema: str, *files: Path) -> None:
    """Fail if a file isn't as one of check-jsonschema's own schemas wants it."""
    succeed("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files, cwd=TEMPLATE)


@of_both
def test_workflows_and_dependency_updates(folder: Path) -> None:
    conforms("github-workflows", *(folder / ".github/workflows").glob("*.yml"))
    conforms("dependabot", folder / ".github/dependabot.yml")
    options = ("--offline", "--persona=pedantic", "--no-progress")
    succeed("zizmor", *options, folder / ".github", cwd=TEMPLATE)


@of_both
def test_actions_are_pinned_and_permissions_are_least(folder: Path) -> None:
    for path in (folder / ".github/workflows").glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        uses = re.findall(r"uses: (.+)", text)
        assert uses
        assert [use for use in uses if not re.search(r"@[0-9a-f]{40} # v[0-9.]+$", use)] == []
        assert "\npermissions:\n  contents: read\n" in text
        assert "write" not in text


@pytest.fixture(params=CHOICES["broker"])
def project(request: pytest.FixtureRequest, baked: Bake) -> Project:
    return baked(broker=request.param, lesson="none")


def test_what_containers_are_made_of(project: Project) -> None:
    conforms("compose-spec", project.path / "compose.yaml")
    succeed("hadolint", "Dockerfile", cwd=project.path)
