"""app/handlers/ is complete by itself: a new file needs no import anywhere."""

import sys
from pathlib import Path

import pytest

from app import handlers
from app.bus import listeners, name_of
from app.events import Startup
from app.main import app

NEW_FILE = """
from app.bus import on
from app.events import Startup
from app.main import app


@app.get("/new")
async def answer() -> None: ...


@on(Startup)
async def newcomer(event: Startup) -> None: ...
"""


@pytest.mark.usefixtures("empty_bus")
def test_a_new_file_is_picked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "newcomer.py").write_text(NEW_FILE, encoding="utf-8")
    monkeypatch.setattr(handlers, "__path__", [str(tmp_path)])
    monkeypatch.setattr(app.router, "routes", [])
    monkeypatch.delitem(sys.modules, "app.handlers.newcomer", raising=False)

    handlers.load()

    assert app.url_path_for("answer") == "/new"
    assert [name_of(listener) for listener in listeners(Startup)] == [
        "app.handlers.newcomer.newcomer"
    ]
