"""app/handlers/ is complete by itself: a new file needs no import anywhere."""

import sys
from pathlib import Path

import pytest

from app import handlers
from app.bus import listeners, name_of
from app.events import Startup

NEW_FILE = """
from fastapi import APIRouter

from app.bus import on
from app.events import Startup

router = APIRouter(prefix="/new")


@on(Startup)
async def newcomer(event: Startup) -> None: ...
"""


@pytest.mark.usefixtures("empty_bus")
def test_a_new_file_is_picked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "newcomer.py").write_text(NEW_FILE, encoding="utf-8")
    monkeypatch.setattr(handlers, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "app.handlers.newcomer", raising=False)

    routers = list(handlers.load())

    assert [router.prefix for router in routers] == ["/new"]
    assert [name_of(listener) for listener in listeners(Startup)] == [
        "app.handlers.newcomer.newcomer"
    ]
