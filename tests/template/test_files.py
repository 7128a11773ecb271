"""What no machine here can run is held against its linter or its schema."""

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from ruamel.yaml import YAML

from support.processes import succeed
from support.projects import Bake, Project
from support.template import CHOICES, PROJECT, TEMPLATE


@pytest.mark.parametrize("folder", [TEMPLATE, PROJECT], ids=["template", "project"])
def test_workflows(folder: Path) -> None:
    workflows = [str(path) for path in (folder / ".github" / "workflows").glob("*.yml")]
    assert workflows
    succeed(
        "check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows, cwd=TEMPLATE
    )
    options = ("--offline", "--persona=pedantic", "--no-progress")
    succeed("zizmor", *options, folder / ".github", cwd=TEMPLATE)


@pytest.mark.parametrize("folder", [TEMPLATE, PROJECT], ids=["template", "project"])
def test_actions_are_pinned_and_permissions_are_least(folder: Path) -> None:
    for path in (folder / ".github" / "workflows").glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        uses = re.findall(r"uses: (.+)", text)
        assert uses
        pinned = re.compile(r"@[0-9a-f]{40} # v[0-9.]+$|^\$/\.github/")  # or of this repository
        assert [use for use in uses if not pinned.search(use)] == []
        assert "\npermissions:\n  contents: read\n" in text
        write = re.findall(r"^ +(\w+): write", text, re.M)
        assert write == (["contents"] if path.name == "release.yml" else [])


@pytest.mark.parametrize("folder", [TEMPLATE, PROJECT], ids=["template", "project"])
def test_dependency_updates(folder: Path) -> None:
    config = str(folder / ".github" / "dependabot.yml")
    succeed("check-jsonschema", "--builtin-schema", "vendor.dependabot", config, cwd=TEMPLATE)


@pytest.fixture(params=CHOICES["broker"])
def project(request: pytest.FixtureRequest, baked: Bake) -> Project:
    return baked(broker=request.param, lesson="none")


def test_compose_file(project: Project) -> None:
    schema = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    compose = YAML(typ="safe", pure=True).load(project.read("compose.yaml"))  # no key stands twice
    validate(compose, schema.read_text(encoding="utf-8"))


def test_dockerfile_is_linted(project: Project) -> None:
    succeed("hadolint", "Dockerfile", cwd=project.path)


def test_devcontainer(project: Project) -> None:
    schema = (TEMPLATE / "tests/template/devcontainer.schema.json").read_text(encoding="utf-8")
    devcontainer = json.loads(project.read(".devcontainer/devcontainer.json"))
    validate(devcontainer, schema)
    assert 8000 in devcontainer["forwardPorts"]


def validate(document: object, schema: str) -> None:
    """Hold `document` against `schema`, with the formats that it names."""
    checker = jsonschema.FormatChecker()
    jsonschema.validate(document, json.loads(schema), format_checker=checker)
