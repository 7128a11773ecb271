"""The service as a process: started, asked for anything, and stopped by a signal."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from support.brokers import SERVERS, StartBroker
from support.processes import Server, StartServer, free_port, run, succeed
from support.projects import Bake

RUN = ("-m", "fastapi", "run", "--host", "127.0.0.1")
APP = (*RUN, "--entrypoint", "app.main:app")  # without the lesson
FAILS = """

@on({event})
async def broken(event: {event}) -> None:
    raise RuntimeError("broken on purpose")


@on({event})
async def last(event: {event}) -> None:
    print("last was called", flush=True)
"""
ERROR = {"properties": {"detail": {"const": "There was an error parsing the body"}}}
FASTAPIS_OWN = {"description": "Not JSON", "content": {"application/json": {"schema": ERROR}}}
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM and no images")


@pytest.mark.parametrize(
    ("stopped_by", "statuses"),
    [
        # On Windows 3 is from the C runtime, which ends a process at CTRL_BREAK.
        (signal.SIGINT, {0, 3} if sys.platform == "win32" else {0, -signal.SIGINT}),
        pytest.param(signal.SIGTERM, {143, -signal.SIGTERM}, marks=POSIX),
    ],
)
def test_the_rows_happen(
    baked: Bake, server: StartServer, stopped_by: signal.Signals, statuses: set[int]
) -> None:
    project = baked()
    service = server(project.python, *APP, cwd=project.path).start()
    service.wait_for("App is starting")  # row 1
    assert service.get("/") == {"message": "Response sent"}  # row 2
    assert service.stop(stopped_by) in statuses
    assert service.printed()[-1] == "Cleanup done"  # row 3
    assert service.printed().count("App is starting") == 1


@pytest.mark.parametrize(("event", "printed"), [("Startup", []), ("Shutdown", ["Cleanup done"])])
def test_a_listener_that_fails(
    event: str, printed: list[str], bake: Bake, server: StartServer
) -> None:
    """On Startup the service doesn't start; on Shutdown it ends all the same."""
    project, name = bake(), f"app/handlers/{event.lower()}.py"
    project.write(name, project.read(name) + FAILS.format(event=event))
    service = server(project.python, *APP, cwd=project.path).start()
    if event == "Shutdown":
        service.wait_for("App is starting")
        service.send(signal.SIGINT)
    assert service.wait() != 0 or event == "Shutdown"
    assert service.printed() == ["App is starting", *printed, "last was called"]
    assert f"app.handlers.{event.lower()}.broken failed on {event}" in str(service)


@POSIX
def test_what_the_dockerfile_starts_is_healthy(bake: Bake, server: StartServer) -> None:
    project = bake()
    dockerfile = project.read("Dockerfile")
    health, start = (
        json.loads(words) for words in re.findall(r"^ *CMD (\[.+\])$", dockerfile, re.M)
    )
    path = f"{project.python.parent}{os.pathsep}{os.environ['PATH']}"
    service = server(*start, cwd=project.path, PATH=path).up("/")

    closed = f"http://127.0.0.1:{free_port()}"  # a proxy is for what is elsewhere
    proxy = {"HTTP_PROXY": closed, "http_proxy": closed, "NO_PROXY": "", "no_proxy": ""}
    asking = {"PATH": path, "PORT": str(service.port), **proxy}
    assert run(*health, cwd=project.path, **asking).returncode == 0
    service.stop()
    assert run(*health, cwd=project.path, **asking).returncode != 0


def ask_everything(service: Server, folder: Path, *unchecked: str) -> None:
    """Fail if Schemathesis, which writes to `folder`, gets an answer that isn't as documented.

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
    lesson: str, bake: Bake, server: StartServer, tmp_path: Path
) -> None:
    """Ask the app through the lesson that watches it, which must not change an answer."""
    project = bake(lesson=lesson)
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
