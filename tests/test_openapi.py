"""Schemathesis asks the running service for anything that its OpenAPI document allows, and more."""

from pathlib import Path

import pytest
from tools import Server, generate, succeed

RUN = ("uv", "run", "fastapi", "run", "--host", "127.0.0.1")


def ask_everything(url: str, folder: Path, *options: str) -> str:
    """Fail if an answer is not as documented; what Schemathesis writes goes to `folder`."""
    command = ("schemathesis", "run", f"{url}/openapi.json", "--checks=all", *options)
    return succeed(
        *command, "--max-examples=100", "--generation-deterministic", "--no-color", cwd=folder
    )


@pytest.mark.parametrize("lesson", ["student", "solution"])
def test_every_answer_is_documented(lesson: str, tmp_path: Path) -> None:
    """Ask the app through the lesson that watches it, which must not change an answer."""
    project = generate(tmp_path / "made", lesson=lesson)
    with Server(*RUN, cwd=project) as server:
        server.wait_for("App is starting")
        server.get("/")
        assert "No issues found" in ask_everything(server.url, tmp_path)
