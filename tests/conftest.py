"""Projects to test: the template makes one for each combination of answers."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from tools import COMBINATIONS, TEMPLATE, generate, named, succeed, tracked

collect_ignore = ["in_project"]  # test_lesson.py runs those where they belong
NO_SKIPS = "EVTEMPLATE_NO_SKIPS" in os.environ


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where skips are forbidden."""
    report = yield
    if NO_SKIPS and report.skipped:
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session", params=COMBINATIONS, ids=named)
def answers(request: pytest.FixtureRequest) -> dict[str, str]:
    """Each combination of answers to the questions that offer a choice."""
    return dict(request.param)


@pytest.fixture(scope="session")
def project(answers: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project that these answers give; tests share it and leave it as it is."""
    return generate(tmp_path_factory.mktemp("project"), **answers)


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the defaults and replays of whoever runs the tests apart from the tests."""
    config = tmp_path_factory.mktemp("home") / "cookiecutter.yaml"
    config.write_text(
        f"replay_dir: {config.parent / 'replay'}\ncookiecutters_dir: {config.parent / 'clones'}\n",
        encoding="utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COOKIECUTTER_CONFIG", str(config))
        patch.delenv("VIRTUAL_ENV", raising=False)  # a generated project has its own
        yield


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """The template as it lies here, committed in a new git repository."""
    repository = tmp_path / "evtemplate"
    for path in tracked():
        copy = repository / path.relative_to(TEMPLATE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    succeed("git", "init", "--quiet", "--initial-branch=main", cwd=repository)
    succeed("git", "add", "--all", cwd=repository)
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    succeed("git", *who, "commit", "--quiet", "--message=Template", cwd=repository)
    return repository
