"""Generating over what's there, in every kind of folder and terminal, by every tool."""

import os
import sys
from pathlib import Path

import pytest

from support.processes import run, succeed
from support.projects import Project
from support.template import PROJECT, TEMPLATE, copy_template, generate

COMMAND = ("cookiecutter", TEMPLATE, "--no-input")
LEARNERS = ["app/handlers/stock.py", "answers.toml", "TUTORIAL.md", "lesson/mine.py", "LICENSE"]


@pytest.mark.parametrize("options", [["-f"], ["-f", "-s", "lesson=none"]], ids=" ".join)
def test_what_is_there_is_never_overwritten(options: list[str], tmp_path: Path) -> None:
    project = Project(generate(tmp_path))
    for name in LEARNERS:
        project.write(name, "mine\n")
    before = project.files()
    done = run(*COMMAND, *options, cwd=tmp_path)

    assert done.returncode == 1
    [sentence] = (done.stdout + done.stderr).splitlines()
    assert sentence.startswith("'event-service': this folder already exists")
    assert project.files() == before


def test_an_empty_repository_can_be_filled(tmp_path: Path) -> None:
    succeed("git", "init", "--quiet", "event-service", cwd=tmp_path)
    succeed(*COMMAND, "-f", cwd=tmp_path)
    assert (tmp_path / "event-service/app/main.py").exists()


@pytest.mark.parametrize(
    ("folder", "encoding"),
    [("数据", "cp1252"), ("数据", "ascii"), ("Ünïcode 🫖", "cp437"), ("Ünïcode 🫖", "gbk")],
)
def test_a_terminal_that_lacks_a_character_of_the_folder(
    folder: str, encoding: str, tmp_path: Path
) -> None:
    coded = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = run(*COMMAND, "--output-dir", tmp_path / folder, cwd=tmp_path, **coded)
    assert done.returncode == 0, done.stderr
    assert "event-service is ready" in done.stdout
    assert (tmp_path / folder / "event-service/app/main.py").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a link needs a privilege there")
def test_the_hint_is_short_in_a_linked_folder_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    deep = tmp_path / "real" / "deep"
    assert "    cd event-service\n" in succeed(*COMMAND, cwd=link, PWD=str(link))
    elsewhere = succeed(*COMMAND, "--output-dir", deep, cwd=tmp_path, PWD=str(tmp_path))
    assert f'    cd "{deep / "event-service"}"\n' in elsewhere


def test_a_new_file_is_rendered(tmp_path: Path) -> None:
    template = Project(copy_template(tmp_path / "evtemplate"))
    names = [f"{folder}/billing.py" for folder in ("app", "app/handlers", "lesson", "tests")]
    for name in names:
        template.write(f"{PROJECT.name}/{name}", 'NAME = "{{ cookiecutter.project_name }}"\n')
    project = Project(generate(tmp_path, template.path, project_name="Tea"))
    assert [project.read(name) for name in names] == ['NAME = "Tea"\n'] * len(names)


@pytest.mark.slow
def test_a_cookiecutter_that_is_too_old_says_so(tmp_path: Path) -> None:
    old = ("uvx", "--with", "setuptools<80", "cookiecutter@1.7.3")
    done = run(*old, TEMPLATE, "--no-input", cwd=tmp_path, UV_NO_PROGRESS="1")
    assert done.returncode != 0
    assert "needs_cookiecutter_2_1" in done.stdout + done.stderr
    assert os.listdir(tmp_path) == []
