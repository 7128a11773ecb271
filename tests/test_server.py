"""The service as a process: started, asked and stopped by a signal."""

import signal
import sys
from pathlib import Path

import pytest
from tools import Server, generate, run, succeed

RUN = ("uv", "run", "fastapi", "run", "--entrypoint", "app.main:app", "--host", "127.0.0.1")

FAILS = """

@on({event})
async def broken(event: {event}) -> None:
    raise RuntimeError("broken on purpose")


@on({event})
async def last(event: {event}) -> None:
    print("last was called", flush=True)
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = generate(tmp_path_factory.mktemp("service"))
    succeed("uv", "sync", "--quiet", cwd=project)
    return project


@pytest.mark.parametrize(
    ("stopped_by", "status"),
    [
        (signal.SIGINT, 0),
        pytest.param(
            signal.SIGTERM,
            143,
            marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM"),
        ),
    ],
)
def test_the_rows_happen(service: Path, stopped_by: signal.Signals, status: int) -> None:
    with Server(*RUN, cwd=service) as server:
        server.wait_for("App is starting")  # row 1
        assert server.get("/") == {"message": "Response sent"}  # row 2
        assert server.stop(stopped_by) == status
        assert server.printed()[-1] == "Cleanup done"  # row 3
        assert server.printed().count("App is starting") == 1


def test_a_startup_listener_that_fails_stops_the_start(tmp_path: Path) -> None:
    project = generate(tmp_path)
    with (project / "app/handlers/startup.py").open("a", encoding="utf-8") as file:
        file.write(FAILS.format(event="Startup"))

    done = run(*RUN, "--port", "0", cwd=project)

    assert done.returncode not in (0, None)
    assert "app.handlers.startup.broken failed on Startup" in done.stderr
    assert "Startup: 1 of 3 listeners failed" in done.stderr
    assert "last was called" in done.stdout
    assert "Cleanup done" not in done.stdout


def test_a_shutdown_listener_that_fails_does_not_keep_the_others(tmp_path: Path) -> None:
    project = generate(tmp_path)
    with (project / "app/handlers/shutdown.py").open("a", encoding="utf-8") as file:
        file.write(FAILS.format(event="Shutdown"))

    with Server(*RUN, cwd=project) as server:
        server.wait_for("App is starting")
        server.stop()
        assert server.printed()[-2:] == ["Cleanup done", "last was called"]
        assert "app.handlers.shutdown.broken failed on Shutdown" in str(server)


def test_the_dev_server_reloads_and_stops(tmp_path: Path) -> None:
    project = generate(tmp_path)
    with Server("uv", "run", "fastapi", "dev", cwd=project) as server:
        server.wait_for("App is starting")
        startup = project / "app/handlers/startup.py"
        code = startup.read_text(encoding="utf-8")
        startup.write_text(code.replace("App is starting", "App is back"), encoding="utf-8")
        server.wait_for("App is back")
        assert server.printed()[:3:2] == ["App is starting", "App is back"]
        assert server.printed()[1] == "Cleanup done"
        server.stop()
        assert server.printed()[-1] == "Cleanup done"
