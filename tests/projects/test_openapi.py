"""Schemathesis asks the running service for anything that its OpenAPI document allows, and more."""

import json
from pathlib import Path

import pytest

from support.brokers import SERVERS, StartBroker
from support.processes import Server, StartServer, succeed
from support.projects import Bake

RUN = ("-m", "fastapi", "run", "--host", "127.0.0.1")
ERROR = {"properties": {"detail": {"const": "There was an error parsing the body"}}}
FASTAPIS_OWN = {"description": "Not JSON", "content": {"application/json": {"schema": ERROR}}}


def ask_everything(service: Server, folder: Path, *unchecked: str) -> None:
    """Fail if an answer isn't as documented; what Schemathesis needs and writes is in `folder`.

    FastAPI doesn't document the 400 that it gives for a body that can't be read.
    """
    document = service.get("/openapi.json")
    for operations in document["paths"].values():
        for operation in operations.values():
            if "requestBody" in operation:
                operation["responses"]["400"] = FASTAPIS_OWN
    (folder / "openapi.json").write_text(json.dumps(document), encoding="utf-8")
    command = ("schemathesis", "run", "openapi.json", "--url", service.url, "--checks=all")
    options = ("--max-examples=100", "--generation-deterministic", "--no-color")
    less = [f"--exclude-checks={check}" for check in unchecked]
    assert "No issues found" in succeed(*command, *options, *less, cwd=folder)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", ["student", "solution"])
def test_every_answer_is_documented(
    lesson: str, baked: Bake, server: StartServer, tmp_path: Path
) -> None:
    """Ask the app through the lesson that watches it, which must not change an answer."""
    project = baked(lesson=lesson)
    ask_everything(server(project.python, *RUN, cwd=project.path).up(), tmp_path)


@pytest.mark.brokers
@pytest.mark.parametrize("name", SERVERS)
def test_with_a_broker_and_without_it(
    name: str, baked: Bake, server: StartServer, broker: StartBroker, tmp_path: Path
) -> None:
    project = baked(broker=name, lesson="none")
    kept = broker(name)
    if name == "postgres":
        alembic = (project.python, "-m", "alembic", "upgrade", "head")
        succeed(*alembic, cwd=project.path, BROKER_URL=kept.url)
    service = server(project.python, *RUN, cwd=project.path, BROKER_URL=kept.url).up("/health")
    ask_everything(service, tmp_path)

    kept.kill()
    ask_everything(service, tmp_path, "not_a_server_error")
