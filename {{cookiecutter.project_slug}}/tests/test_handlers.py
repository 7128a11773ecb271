"""app/handlers/ imports itself: a new file or folder needs no import anywhere."""

import subprocess
import sys
from pathlib import Path

import pytest

import app

NEW_FILE = """
from fastapi import APIRouter

from app.bus import on
from app.events import Startup

router = APIRouter()


@router.get("/{name}")
async def answer() -> None: ...


@on(Startup)
async def {name}(event: Startup) -> None: ...
"""
LIST = """
import {first}
from app.bus import name_of, registered
from app.main import app

print(*(name_of(listener) for _, listener in registered))
print(*app.openapi()["paths"])
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with a copy of app/."""
    source = Path(app.__file__).parent
    for file in source.rglob("*.py"):
        copy = tmp_path / "app" / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize("first", ["app.main", "app.handlers.orders"])
def test_new_files_are_imported_in_the_same_order_whatever_comes_first(
    copied: Path, first: str
) -> None:
    names = ["after_orders", "billing/__init__", "billing/invoices", "billing/deep/late", "before"]
    for name in names:
        file = copied / "app/handlers" / f"{name}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(NEW_FILE.replace("{name}", file.stem.strip("_")), encoding="utf-8")
    shares = copied / "app/handlers/billing/shares.py"
    shares.write_text("from app.handlers.billing import router as router\n", encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIST.format(first=first)],
        cwd=copied,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    listeners, paths = done.stdout.splitlines()
    ours = [name for name in listeners.split() if name.startswith("app.handlers.")]
    assert ours == sorted(ours, key=lambda name: name.rpartition(".")[0])
    new = {"after_orders", "before", "init", "invoices", "late"}
    assert {name.rpartition(".")[2] for name in ours} > new
    assert {f"/{name}" for name in new} < set(paths.split())
