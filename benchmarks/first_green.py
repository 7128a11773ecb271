"""From nothing to green tests, or to the first answer, beside the peers: seconds, cold and warm.

Cold has an empty cache of packages, warm the same cache filled; the speed of the package index is in
both. `cookiecutter-uv` is no package with the template in it, so it is measured where the environment
variable COOKIECUTTER_UV names a checkout of it. `fastapi-new` has no tests, and uses uv itself.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

TEMPLATE = Path(__file__).parent.parent
BIN = "Scripts" if os.name == "nt" else "bin"

Run = Callable[..., None]


def tests_with_uv(run: Run, project: Path) -> None:
    run("uv", "sync", cwd=project)
    run("uv", "run", "pytest", cwd=project)


def tests_with_pip(run: Run, project: Path) -> None:
    python = project / ".venv" / BIN / "python"
    run(sys.executable, "-m", "venv", ".venv", cwd=project)
    run(python, "-m", "pip", "install", "--upgrade", "pip", cwd=project)
    run(python, "-m", "pip", "install", "--editable", ".", "--group", "dev", cwd=project)
    run(python, "-m", "pytest", cwd=project)


def answer_with_uv(run: Run, project: Path) -> None:
    """Start the project as its README says, and wait for the first answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run("uv", "sync", cwd=project)
    command = [project / ".venv" / BIN / "fastapi", "run", "--host", "127.0.0.1"]
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=project,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                return
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    raise RuntimeError(f"{project} does not answer") from None
                time.sleep(0.02)
    finally:
        server.terminate()
        server.wait()


def ours(*answers: str) -> Callable[[Run, Path], Path]:
    def generate(run: Run, folder: Path) -> Path:
        command = (sys.executable, "-m", "cookiecutter", TEMPLATE, "--no-input", *answers)
        run(*command, cwd=folder)
        return folder / "event-service"

    return generate


def cookiecutter_uv(run: Run, folder: Path) -> Path:
    template = os.environ["COOKIECUTTER_UV"]
    run(sys.executable, "-m", "cookiecutter", template, "--no-input", cwd=folder)
    [project] = folder.iterdir()
    return project


def fastapi_new(run: Run, folder: Path) -> Path:
    run(Path(sys.executable).with_name("fastapi-new"), "peer", cwd=folder)
    return folder / "peer"


def contenders(
    tools: Sequence[str],
) -> dict[str, tuple[Callable[[Run, Path], Path], Callable[[Run, Path], None]]]:
    """Return what makes a project and what is done with it then, by the name of the row."""
    tests = {"uv": tests_with_uv, "pip": tests_with_pip}
    peers = {"cookiecutter-uv": cookiecutter_uv} if "COOKIECUTTER_UV" in os.environ else {}
    makers = peers | {
        "**evtemplate**, the service alone": ours("lesson=none"),
        "**evtemplate**, the defaults": ours(),
    }
    rows = {
        f"{name}, tests green with {tool}": (make, tests[tool])
        for tool in tools
        for name, make in makers.items()
    }
    rows["fastapi-new, first answer with uv"] = (fastapi_new, answer_with_uv)
    rows["**evtemplate**, first answer with uv"] = (ours("lesson=none"), answer_with_uv)
    return rows


def seconds(
    make: Callable[[Run, Path], Path], then: Callable[[Run, Path], None], folder: Path, cache: Path
) -> float:
    """Return how long it takes in a new `folder` with the packages that are in `cache`."""
    environment = {
        **{name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"},
        "UV_CACHE_DIR": str(cache / "uv"),
        "PIP_CACHE_DIR": str(cache / "pip"),
        "UV_PYTHON": sys.executable,
    }

    def run(*command: str | Path, cwd: Path) -> None:
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True)
        if done.returncode:
            raise RuntimeError(f"{command}\n{done.stdout.decode()}\n{done.stderr.decode()}")

    folder.mkdir(parents=True)
    start = time.perf_counter()
    then(run, make(run, folder))
    taken = time.perf_counter() - start
    shutil.rmtree(folder)
    return taken


def measure(folder: Path, tools: Sequence[str] = ("uv", "pip")) -> str:
    """Return the table; `folder` is an empty one to work in."""
    lines = ["| seconds | cold | warm |", "|---|---|---|"]
    for number, (name, (make, then)) in enumerate(contenders(tools).items()):
        place, cache = folder / f"made-{number}", folder / f"cache-{number}"
        cold = seconds(make, then, place, cache)
        warm = seconds(make, then, place, cache)
        shutil.rmtree(cache, ignore_errors=True)  # pip may be told to have none
        lines.append(f"| {name} | {cold:.1f} | {warm:.1f} |")
        print(lines[-1], flush=True)
    if "COOKIECUTTER_UV" not in os.environ:
        lines.append("| cookiecutter-uv | not measured | |")
    return "\n".join(lines)
