"""What the service answers with an engine, and without it, is what its OpenAPI document says."""

from pathlib import Path

import pytest
from engines import SERVERS, running
from test_openapi import RUN, ask_everything
from tools import Server, generate


@pytest.mark.parametrize("engine", SERVERS)
def test_every_answer_is_documented(engine: str, tmp_path: Path) -> None:
    project = generate(tmp_path / "made", broker=engine, lesson="none")
    with (
        running(engine, tmp_path / "engine") as kept,
        Server(*RUN, cwd=project, BROKER_URL=kept.url) as service,
    ):
        service.wait_for("App is starting")
        service.get("/health")
        assert "No issues found" in ask_everything(service.url, tmp_path)

        kept.kill()
        away = ask_everything(service.url, tmp_path, "--exclude-checks=not_a_server_error")
        assert "No issues found" in away
