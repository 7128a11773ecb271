"""Schemathesis asks the running service for anything that its OpenAPI document allows, and more."""

from pathlib import Path

import pytest

from support.brokers import SERVERS, StartBroker
from support.processes import StartServer, succeed
from support.projects import Bake

RUN = ("-m", "fastapi", "run", "--host", "127.0.0.1")


def ask_everything(url: str, folder: Path, *unchecked: str) -> None:
    """Fail if an answer is not as documented; what Schemathesis writes goes to `folder`.

    FastAPI doesn't document the 400 that it gives for a body that can't be read.
    """
    unchecked = ("status_code_conformance", *unchecked)
    options = ("--checks=all", f"--exclude-checks={','.join(unchecked)}", "--max-examples=100")
    command = ("schemathesis", "run", f"{url}/openapi.json", *options, "--no-color")
    assert "No issues found" in succeed(*command, "--generation-deterministic", cwd=folder)


@pytest.mark.slow
@pytest.mark.parametrize("lesson", ["student", "solution"])
def test_every_answer_is_documented(
    lesson: str, baked: Bake, server: StartServer, tmp_path: Path
) -> None:
    """Ask the app through the lesson that watches it, which must not change an answer."""
    project = baked(lesson=lesson)
    ask_everything(server(project.python, *RUN, cwd=project.path).up().url, tmp_path)


@pytest.mark.brokers
@pytest.mark.parametrize("name", SERVERS)
def test_with_a_broker_and_without_it(
    name: str,
    baked: Bake,
    server: StartServer,
    broker: StartBroker,
    tmp_path: Path,
) -> None:
    project = baked(broker=name, lesson="none")
    kept = broker(name)
    if name == "postgres":
        alembic = (project.python, "-m", "alembic", "upgrade", "head")
        succeed(*alembic, cwd=project.path, BROKER_URL=kept.url)
    service = server(project.python, *RUN, cwd=project.path, BROKER_URL=kept.url).up("/health")
    ask_everything(service.url, tmp_path)

    kept.kill()
    ask_everything(service.url, tmp_path, "not_a_server_error")
