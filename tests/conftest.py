"""The fixtures of all tests, and what is left out unless it's asked for."""

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from support.brokers import Broker, StartBroker, running
from support.processes import Server, StartServer
from support.projects import Bake, Project
from support.template import commit, copy_template, generate

collect_ignore = ["lesson/in_project"]  # a test runs those where they belong
LEFT_OUT = ("slow", "brokers", "browser")  # markers

left_out: dict[str, int] = {}
# Ctrl+C is ignored by what a shell starts in the background, and by all that this starts in turn.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_deselected(items: list[pytest.Item]) -> None:
    names = (name for item in items for name in LEFT_OUT if item.get_closest_marker(name))
    left_out.update(Counter(names))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of pytest-xdist tells the controller
        session.config.workeroutput["left_out"] = left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if left_out and not config.option.keyword:  # what -k left out is not counted apart
        counts = ", ".join(f"{count} {name}" for name, count in left_out.items())
        how = 'run one kind with `uv run pytest -m MARKER`, all with `uv run pytest -m ""`'
        terminalreporter.write_line(f"Left out by marker: {counts}; {how}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where skips are forbidden."""
    report = yield
    if report.skipped and os.environ.get("EVTEMPLATE_NO_SKIPS"):
        report.outcome = "failed"
    return report


pytest_make_collect_report = pytest_runtest_makereport  # a whole file's, too


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the defaults and replays of whoever runs the tests apart from the tests."""
    config = tmp_path_factory.mktemp("home") / "cookiecutter.yaml"
    folders = {name: str(config.with_name(name)) for name in ("replay_dir", "cookiecutters_dir")}
    config.write_text("".join(f"{key}: {json.dumps(at)}\n" for key, at in folders.items()), "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COOKIECUTTER_CONFIG", str(config))
        patch.delenv("VIRTUAL_ENV", raising=False)  # a generated project has its own
        yield


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Returns the project that some answers give, generated once; leave it as it is."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    @cache
    def bake(**answers: str) -> Project:
        made = generate(tmp_path_factory.mktemp("baked"), **answers)
        return Project(made, shared / "environments")

    return bake


@pytest.fixture
def bake(baked: Bake, tmp_path: Path) -> Bake:
    """Returns a fresh copy of the project that some answers give."""

    def bake(**answers: str) -> Project:
        project = baked(**answers)
        return project.copy(Path(mkdtemp(prefix="project", dir=tmp_path), project.path.name))

    return bake


@pytest.fixture
def server() -> Iterator[StartServer]:
    """Makes servers, `server(COMMAND, ..., cwd=FOLDER, NAME=VALUE, ...)`; kills what still runs."""
    with ExitStack() as stack:

        def make(*command: str | Path, cwd: Path, **environment: str) -> Server:
            return stack.enter_context(closing(Server(*command, cwd=cwd, **environment)))

        yield make


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[StartBroker]:
    """Starts the server of a broker, `broker(NAME, password="")`, and kills it after the test."""
    with ExitStack() as stack:

        def start(name: str, password: str = "") -> Broker:
            return stack.enter_context(running(name, tmp_path / f"{name}{password}", password))

        yield start


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if (chromium := next(filter(None, map(shutil.which, names)), None)) is None:
        pytest.skip("chromium is not installed; on Debian: apt-get install chromium")
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        yield browser


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The template as it lies here, committed in a new git repository."""
    return commit(copy_template(tmp_path / "evtemplate"))
