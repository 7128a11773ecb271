"""A project follows its template through cruft, and keeps what its owner changed."""

from pathlib import Path

from support.processes import succeed
from support.projects import Project
from support.template import PROJECT, commit


def test_an_update_is_applied_and_edits_are_kept(repository: Path, tmp_path: Path) -> None:
    """Both versions are rendered in one process, in which Python would keep the first module."""
    created = succeed("cruft", "create", repository.as_uri(), "--no-input", cwd=tmp_path)
    assert "event-service is ready" in created
    project = Project(tmp_path / "event-service", tmp_path)
    commit(project.path, "Generated")

    project.edit("app/handlers/orders.py", "Receipt sent", "Receipt printed")
    field = "    quantity: int\n"
    project.edit("app/events.py", field, f"{field}    gift: bool = False\n")
    project.write("app/handlers/mine.py", '"""Mine."""\n')
    project.edit("answers.toml", 'q1 = ""', 'q1 = "B"')
    commit(project.path, "What a learner did")

    template = Project(repository, tmp_path)
    template.edit(f"{PROJECT.name}/app/bus.py", '"""', '"""Better: ')
    template.edit(f"{PROJECT.name}/app/events.py", '"""', '"""All that follows: ')
    template.write(f"{PROJECT.name}/app/handlers/news.py", '"""News."""\n')
    template.edit("hooks/post_gen_project.py", "is ready. Next", "is made. Next")
    for name in ("evtemplate_extensions.py", "cookiecutter.json"):
        template.write(name, template.read(name).replace("check_answers", "check_anew"))
    commit(repository, "The template went on")

    for command in (["diff"], ["update", "--skip-apply-ask"]):
        assert "Next:" not in succeed("cruft", *command, cwd=project.path)

    assert list(project.path.rglob("*.rej")) == []
    for name, text in (
        ("app/bus.py", "Better: "),
        ("app/events.py", "All that follows: "),
        ("app/events.py", "gift: bool = False"),
        ("app/handlers/orders.py", "Receipt printed"),
        ("app/handlers/news.py", "News."),
        ("app/handlers/mine.py", "Mine."),
        ("answers.toml", 'q1 = "B"'),
    ):
        assert text in project.read(name), name
    assert not (project.path / "UNFINISHED.md").exists()
    succeed("cruft", "check", cwd=project.path)
