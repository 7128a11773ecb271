"""Nothing that a project needs has a known hole, and no secret lies about."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from tools import CHOICES, PROJECT, TEMPLATE, generate, run, succeed, tracked


def steps(workflow: Path) -> list[str]:
    """Return the commands of the job `audit`, in order."""
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step["run"] for step in jobs["audit"]["steps"] if "run" in step]


@contextmanager
def advisories(*vulnerable: str) -> Iterator[tuple[str, list[str]]]:
    """An OSV service on this machine: its URL, and the packages that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = query["package"]["name"]
            asked.append(name)
            known = {"id": "TEST-1", "summary": "For the test", "affected": []}
            answer = json.dumps({"vulns": [known]} if name in vulnerable else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(sys.platform == "win32", reason="the workflow's commands are for sh")
@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_the_audit_asks_for_all_and_fails_for_one(broker: str, tmp_path: Path) -> None:
    """Run the workflow's own commands. The real advisories are asked in GitHub's CI only."""
    project = generate(tmp_path / "made", broker=broker)
    export, audit = steps(project / ".github/workflows/audit.yml")
    succeed("sh", "-ec", export, cwd=project)
    needed = set(succeed("uv", "export", "--no-emit-project", "--no-hashes", cwd=project).split())

    def audited(url: str) -> subprocess.CompletedProcess[str]:
        osv = {"PIP_AUDIT_VULNERABILITY_SERVICE": "osv", "PIP_AUDIT_OSV_URL": url}
        return run("sh", "-ec", audit, cwd=project, **osv)

    with advisories() as (url, asked):
        done = audited(url)
        assert done.returncode == 0, done.stderr
        assert {"fastapi", "starlette", "pydantic", "uvicorn", "pytest"} <= set(asked)
        assert ("faststream" in asked) == (broker != "none")
        pinned = {name.split("==")[0] for name in needed if "==" in name}
        assert set(asked) <= pinned  # less what other systems need
    with advisories("starlette") as (url, _):
        done = audited(url)
        assert done.returncode == 1
        assert "TEST-1" in done.stdout


def test_the_template_audits_with_the_same_commands() -> None:
    _, *ours = steps(TEMPLATE / ".github/workflows/ci.yml")
    assert ours == steps(PROJECT / ".github/workflows/audit.yml")
    jobs = yaml.safe_load((TEMPLATE / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"]
    assert jobs["audit"]["strategy"]["matrix"]["broker"] == CHOICES["broker"]


def secrets(folder: Path) -> dict[str, list[str]]:
    """Return what looks like a secret, by file."""
    printed = succeed("detect-secrets", "scan", "--all-files", "--no-verify", ".", cwd=folder)
    return {
        path: [found["type"] for found in results]
        for path, results in json.loads(printed)["results"].items()
    }


def test_no_secret_is_in_the_template(tmp_path: Path) -> None:
    for path in tracked():
        copy = tmp_path / path.relative_to(TEMPLATE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    found = secrets(tmp_path)
    # Its passwords are made up, to see that none is ever printed.
    made_up = found.pop(str(Path("tests/brokers/test_promise.py")), [])
    assert found == {}
    assert len(made_up) <= 2


@pytest.mark.parametrize("broker", CHOICES["broker"])
def test_no_secret_is_in_a_project(broker: str, tmp_path: Path) -> None:
    project = generate(tmp_path, broker=broker, lesson="solution")
    assert secrets(project) == {}
    key = "AKIA" + "Q3EGRRU5VZ2HTOXM"  # of the shape that Amazon's keys have
    (project / "app" / "keys.py").write_text(f'KEY = "{key}"\n', encoding="utf-8")
    assert list(secrets(project)) == [str(Path("app/keys.py"))]
