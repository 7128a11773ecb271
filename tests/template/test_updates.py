"""A project follows its template from release to release, and keeps what its owner changed."""

from pathlib import Path

from support.processes import succeed
from support.projects import Project
from support.template import PROJECT, commit

FIELD = "    quantity: int\n"


def test_an_update_keeps_edits(repository: Path, tmp_path: Path) -> None:
    """Both versions are rendered in one process, in which Python would keep the first module."""
    template = Project(repository, tmp_path)
    succeed("git", "tag", "v1.0.0", cwd=repository)
    create = ("cruft", "create", repository.as_uri(), "--no-input", "--checkout", "v1.0.0")
    assert "event-service is ready" in succeed(*create, cwd=tmp_path)
    project = Project(tmp_path / "event-service", tmp_path)
    commit(project.path, "Generated")

    project.edit("app/events.py", FIELD, f"{FIELD}    gift: bool = False\n")
    commit(project.path, "What a learner did")

    template.edit(f"{PROJECT.name}/app/events.py", '"""', '"""All that follows: ')
    template.edit(f"{PROJECT.name}/answers-student.toml", "q2 =", "# New.\nq2 =")
    template.write(f"{PROJECT.name}/app/handlers/news.py", '"""News."""\n')
    template.edit("hooks/post_gen_project.py", "is ready. Next", "is made. Next")
    for name in ("evtemplate_extensions.py", "cookiecutter.json"):
        template.write(name, template.read(name).replace("check_answers", "check_anew"))
    commit(repository, "Newer")
    succeed("git", "tag", "v1.1.0", cwd=repository)

    assert "Next:" not in succeed("cruft", "diff", cwd=project.path)
    update = ("cruft", "update", "--skip-apply-ask", "--checkout", "v1.1.0")
    assert "Next:" not in succeed(*update, cwd=project.path)
    for name, text in (
        ("app/events.py", "All that follows: "),
        ("app/events.py", "gift: bool = False"),
        ("app/handlers/news.py", "News."),
        ("answers.toml", "# New."),
    ):
        assert text in project.read(name), name
    assert not (project.path / "UNFINISHED.md").exists()
    succeed("cruft", "check", "--checkout", "v1.1.0", cwd=project.path)
