"""A project follows its template from release to release, and keeps what its owner changed."""

from pathlib import Path

from support.processes import run, succeed
from support.projects import Project
from support.template import PROJECT, commit

FIELD = "    quantity: int\n"


def release(template: Project, tag: str) -> None:
    commit(template.path, tag)
    succeed("git", "tag", tag, cwd=template.path)


def test_an_update_keeps_edits_and_tells_of_conflicts(repository: Path, tmp_path: Path) -> None:
    """Both versions are rendered in one process, in which Python would keep the first module."""
    template = Project(repository, tmp_path)
    release(template, "v1.0.0")
    create = ("cruft", "create", repository.as_uri(), "--no-input", "--checkout", "v1.0.0")
    assert "event-service is ready" in succeed(*create, cwd=tmp_path)
    project = Project(tmp_path / "event-service", tmp_path)
    commit(project.path, "Generated")

    project.edit("app/handlers/orders.py", "Receipt sent", "Receipt printed")
    project.edit("app/events.py", FIELD, f"{FIELD}    gift: bool = False\n")
    stock = "from app.bus import on\nfrom app.events import OrderPlaced\n# All my own work.\n"
    project.write("app/handlers/stock.py", stock)
    project.edit("answers.toml", 'q1 = ""', 'q1 = "B"')
    commit(project.path, "What a learner did")

    template.edit(f"{PROJECT.name}/app/bus.py", '"""', '"""Better: ')
    template.edit(f"{PROJECT.name}/app/events.py", '"""', '"""All that follows: ')
    template.edit(f"{PROJECT.name}/answers-student.toml", "q2 =", "# New.\nq2 =")
    template.edit(f"{PROJECT.name}/app/handlers/stock_student.py", "Exercise 1", "Task 1")
    template.write(f"{PROJECT.name}/app/handlers/news.py", '"""News."""\n')
    template.edit("hooks/post_gen_project.py", "is ready. Next", "is made. Next")
    for name in ("evtemplate_extensions.py", "cookiecutter.json"):
        template.write(name, template.read(name).replace("check_answers", "check_anew"))
    release(template, "v1.1.0")

    assert "Next:" not in succeed("cruft", "diff", cwd=project.path)
    done = run("cruft", "update", "--skip-apply-ask", "--checkout", "v1.1.0", cwd=project.path)

    assert done.returncode == 0, done.stderr
    assert "Next:" not in done.stdout
    for name, text in (
        ("app/bus.py", "Better: "),
        ("app/events.py", "All that follows: "),
        ("app/events.py", "gift: bool = False"),
        ("app/handlers/orders.py", "Receipt printed"),
        ("app/handlers/news.py", "News."),
        ("answers.toml", 'q1 = "B"'),
        ("answers.toml", "# New."),
    ):
        assert text in project.read(name), name
    assert not (project.path / "UNFINISHED.md").exists()
    succeed("cruft", "check", "--checkout", "v1.1.0", cwd=project.path)

    # Where both have changed the same lines, both stand there, and git's status says so.
    assert "'app/handlers/stock.py' with conflicts" in done.stdout + done.stderr
    conflicts = succeed("git", "diff", "--name-only", "--diff-filter=U", cwd=project.path)
    assert conflicts.split() == ["app/handlers/stock.py"]
    assert project.read("app/handlers/stock.py").startswith(f"<<<<<<< ours\n{stock}=======\n")
    assert list(project.path.rglob("*.rej")) == []
