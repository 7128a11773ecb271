"""Generating over what's there, in every kind of folder and terminal, by every tool."""

import os
import sys
from pathlib import Path

import pytest

from support.processes import run, succeed
from support.template import PROJECT, TEMPLATE, commit, copy_template, generate_from

LEARNERS = {
    "app/handlers/stock.py": "# mine\n",
    "answers.toml": "# mine\n",
    "TUTORIAL.md": "mine\n",
    "lesson/mine.py": "# mine\n",
    "LICENSE": "mine\n",
}


def generate(folder: Path, *options: str | Path) -> str:
    command: list[str | Path] = ["cookiecutter", TEMPLATE, "--no-input", *options]
    return succeed(*command, cwd=folder, PWD=str(folder))


@pytest.mark.parametrize("options", [["-f"], ["-f", "-s"]], ids=" ".join)
@pytest.mark.parametrize("lesson", ["student", "solution", "none"])
def test_what_is_there_is_never_overwritten(
    options: list[str], lesson: str, tmp_path: Path
) -> None:
    generate(tmp_path)
    project = tmp_path / "event-service"
    for name, text in LEARNERS.items():
        (project / name).write_text(text, encoding="utf-8")
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}

    asked: list[str | Path] = ["cookiecutter", TEMPLATE, "--no-input", *options, f"lesson={lesson}"]
    done = run(*asked, cwd=tmp_path)

    assert done.returncode == 1
    [sentence] = (done.stdout + done.stderr).splitlines()
    assert sentence.startswith("'event-service': this folder already exists")
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_an_empty_repository_can_be_filled(tmp_path: Path) -> None:
    project = tmp_path / "event-service"
    project.mkdir()
    succeed("git", "init", "--quiet", cwd=project)
    generate(tmp_path, "-f")
    assert (project / "app/main.py").exists()


def test_the_next_steps_are_printed_where_they_can_be_followed(
    repository: Path, tmp_path: Path
) -> None:
    template = repository
    created = succeed("cruft", "create", template.as_uri(), "--no-input", cwd=tmp_path)
    assert "event-service is ready" in created
    project = tmp_path / "event-service"
    commit(project)

    (template / PROJECT.name / "app/newer.py").write_text('"""Newer."""\n', encoding="utf-8")
    hook = template / "hooks/post_gen_project.py"
    hook.write_text(hook.read_text("utf-8").replace("is ready. Next", "is made. Next"), "utf-8")
    commit(template)
    for command in (["diff"], ["update", "--skip-apply-ask"]):
        printed = succeed("cruft", *command, cwd=project)
        assert "Next:" not in printed
    assert (project / "app/newer.py").exists()


def test_an_update_uses_the_rules_of_each_version(repository: Path, tmp_path: Path) -> None:
    """Both versions are rendered in one process, in which Python would keep the first module."""
    template = repository
    succeed("cruft", "create", template.as_uri(), "--no-input", cwd=tmp_path)
    project = tmp_path / "event-service"
    commit(project)

    for name in ("evtemplate_extensions.py", "cookiecutter.json"):
        text = (template / name).read_text(encoding="utf-8")
        (template / name).write_text(text.replace("check_answers", "check_anew"), "utf-8")
    commit(template)

    succeed("cruft", "update", "--skip-apply-ask", cwd=project)
    succeed("cruft", "check", cwd=project)


@pytest.mark.parametrize("folder", ["数据", "Ünïcode 🫖"])
@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "gbk", "ascii"])
def test_a_terminal_that_lacks_a_character_of_the_folder(
    folder: str, encoding: str, tmp_path: Path
) -> None:
    out = tmp_path / folder
    out.mkdir()
    options = ("--no-input", "--output-dir", out)
    coded = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = run("cookiecutter", TEMPLATE, *options, cwd=tmp_path, **coded)
    assert done.returncode == 0, done.stderr
    assert "event-service is ready" in done.stdout
    assert (out / "event-service/app/main.py").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="a link needs a privilege there")
def test_the_hint_is_short_in_a_linked_folder_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "real")
    assert "    cd event-service\n" in generate(link)
    assert "    cd event-service\n" in generate(tmp_path)
    elsewhere = generate(tmp_path, "--output-dir", tmp_path / "real" / "deep")
    assert f'    cd "{tmp_path / "real" / "deep" / "event-service"}"\n' in elsewhere


@pytest.mark.parametrize(
    "name", ["app/billing.py", "app/handlers/billing.py", "lesson/billing.py", "tests/billing.py"]
)
def test_a_new_file_is_rendered(name: str, tmp_path: Path) -> None:
    template = copy_template(tmp_path / "evtemplate")
    file = template / PROJECT.name / name
    file.write_text('NAME = "{{ cookiecutter.project_name }}"\n', encoding="utf-8")
    project = generate_from(template, tmp_path, project_name="Tea")
    assert (project / name).read_text(encoding="utf-8") == 'NAME = "Tea"\n'


@pytest.mark.slow
def test_a_cookiecutter_that_is_too_old_says_so(tmp_path: Path) -> None:
    old = ("uvx", "--with", "setuptools<80", "cookiecutter@1.7.3")
    done = run(*old, TEMPLATE, "--no-input", cwd=tmp_path, UV_NO_PROGRESS="1")
    assert done.returncode != 0
    assert "needs_cookiecutter_2_1" in done.stdout + done.stderr
    assert os.listdir(tmp_path) == []
