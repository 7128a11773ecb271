"""A project follows its template through cruft, and keeps what its owner changed."""

import shutil
from pathlib import Path

from tools import PROJECT, TEMPLATE, run, succeed, tracked

FIRST_SHAPE = "d9593f36dea6"  # the first commit that was published
WHO = ("-c", "user.name=Test", "-c", "user.email=test@example.org")


def commit(repository: Path, message: str) -> None:
    succeed("git", "add", "--all", cwd=repository)
    succeed(
        "git", *WHO, "commit", "--allow-empty", "--quiet", f"--message={message}", cwd=repository
    )


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_an_update_is_applied_and_edits_are_kept(repository: Path, tmp_path: Path) -> None:
    succeed("cruft", "create", repository.as_uri(), "--no-input", cwd=tmp_path)
    project = tmp_path / "event-service"
    succeed("git", "init", "--quiet", cwd=project)
    commit(project, "Generated")

    edit(project / "app/handlers/orders.py", "Receipt sent", "Receipt printed")
    edit(
        project / "app/events.py",
        "    quantity: int\n",
        "    quantity: int\n    gift: bool = False\n",
    )
    (project / "app/handlers/mine.py").write_text('"""Mine."""\n', encoding="utf-8")
    commit(project, "What a learner did")

    template = repository / PROJECT.name
    edit(template / "app/bus.py", '"""The event-emit helper:', '"""The better event-emit helper:')
    edit(template / "app/events.py", '"""What can happen:', '"""All that can happen:')
    (template / "app/handlers/news.py").write_text('"""News."""\n', encoding="utf-8")
    edit(repository / "hooks/post_gen_project.py", "is ready. Next:", "is ready now. Next:")
    commit(repository, "The template went on")

    succeed("cruft", "update", "--skip-apply-ask", cwd=project)

    assert list(project.rglob("*.rej")) == []
    assert "better" in (project / "app/bus.py").read_text(encoding="utf-8")
    assert (project / "app/handlers/news.py").exists()
    assert "Receipt printed" in (project / "app/handlers/orders.py").read_text(encoding="utf-8")
    assert (project / "app/handlers/mine.py").exists()
    events = (project / "app/events.py").read_text(encoding="utf-8")
    assert "All that can happen" in events
    assert "gift: bool = False" in events
    succeed("cruft", "check", cwd=project)
    assert not (project / "UNFINISHED.md").exists()


def test_an_update_from_the_first_shape(tmp_path: Path) -> None:
    repository = tmp_path / "evtemplate"
    succeed("git", "clone", "--quiet", TEMPLATE, repository, cwd=tmp_path)
    there = run("git", "cat-file", "-e", FIRST_SHAPE, cwd=repository).returncode == 0
    shape = FIRST_SHAPE if there else "HEAD"  # a shallow clone has no other
    succeed("git", "checkout", "--quiet", "-B", "main", shape, cwd=repository)
    succeed("cruft", "create", repository.as_uri(), "--no-input", cwd=tmp_path)
    project = tmp_path / "event-service"
    succeed("git", "init", "--quiet", cwd=project)
    commit(project, "Generated")

    with (project / "app/handlers/orders.py").open("a", encoding="utf-8") as orders:
        orders.write("\n\n@on(OrderPlaced)\nasync def mine(event: OrderPlaced) -> None: ...\n")
    edit(project / "answers.toml", 'q1 = ""', 'q1 = "B"')
    commit(project, "What a learner did")

    succeed("git", "rm", "-r", "--quiet", ".", cwd=repository)
    for path in tracked():
        copy = repository / path.relative_to(TEMPLATE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
    commit(repository, "Today's shape")
    succeed("cruft", "update", "--skip-apply-ask", cwd=project)

    assert list(project.rglob("*.rej")) == []
    assert "def mine(" in (project / "app/handlers/orders.py").read_text(encoding="utf-8")
    assert 'q1 = "B"' in (project / "answers.toml").read_text(encoding="utf-8")
    succeed("cruft", "check", cwd=project)
    succeed("uv", "run", "pytest", "-q", cwd=project)
