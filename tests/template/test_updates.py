"""A project follows its template through cruft, and keeps what its owner changed."""

from pathlib import Path

import pytest

from support.processes import succeed
from support.projects import Project
from support.template import PROJECT, commit


@pytest.mark.slow
def test_an_update_is_applied_and_edits_are_kept(repository: Path, tmp_path: Path) -> None:
    succeed("cruft", "create", repository.as_uri(), "--no-input", cwd=tmp_path)
    project = Project(tmp_path / "event-service", tmp_path)
    commit(project.path, "Generated")

    project.edit("app/handlers/orders.py", "Receipt sent", "Receipt printed")
    field = "    quantity: int\n"
    project.edit("app/events.py", field, f"{field}    gift: bool = False\n")
    project.write("app/handlers/mine.py", '"""Mine."""\n')
    project.edit("answers.toml", 'q1 = ""', 'q1 = "B"')
    commit(project.path, "What a learner did")

    template = Project(repository / PROJECT.name, tmp_path)
    template.edit("app/bus.py", '"""', '"""Better: ')
    template.edit("app/events.py", '"""', '"""All that follows: ')
    template.write("app/handlers/news.py", '"""News."""\n')
    Project(repository, tmp_path).edit("hooks/post_gen_project.py", "is ready.", "is ready now.")
    commit(repository, "The template went on")

    succeed("cruft", "update", "--skip-apply-ask", cwd=project.path)

    assert list(project.path.rglob("*.rej")) == []
    assert "Better: " in project.read("app/bus.py")
    assert "All that follows: " in project.read("app/events.py")
    assert "gift: bool = False" in project.read("app/events.py")
    assert "Receipt printed" in project.read("app/handlers/orders.py")
    assert 'q1 = "B"' in project.read("answers.toml")
    assert (project.path / "app/handlers/news.py").exists()
    assert (project.path / "app/handlers/mine.py").exists()
    assert not (project.path / "UNFINISHED.md").exists()
    succeed("cruft", "check", cwd=project.path)
