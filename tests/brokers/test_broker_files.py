"""Files with two versions, for a broker and for none, differ in what the broker needs only."""

from difflib import ndiff
from pathlib import Path

APP = Path(__file__).parents[2] / "{{cookiecutter.project_slug}}" / "app"


def difference(one: str, other: str) -> list[str]:
    before, after = ((APP / name).read_text(encoding="utf-8").splitlines() for name in (one, other))
    return [line for line in ndiff(before, after) if line[0] in "+-"]


def test_main() -> None:
    assert difference("main.py", "main_bridged.py") == [
        "- from app import handlers",
        "+ from app import bridge, handlers",
        '-     responses={400: {"description": "The body of the request cannot be read"}},',
        "+     responses=bridge.RESPONSES,",
        "+ bridge.build(app)",
    ]


def test_events() -> None:
    removed = [line for line in difference("events.py", "events_shared.py") if line[0] == "-"]
    assert removed == [
        "- from dataclasses import dataclass",
        "- from typing import dataclass_transform",
        "- from uuid import UUID",
        "- class OrderPlaced(Event):",
    ]


def test_ci() -> None:
    workflows = APP.parent / ".github" / "workflows"
    plain = (workflows / "ci.yml").read_text(encoding="utf-8")
    assert (workflows / "ci_engine.yml").read_text(encoding="utf-8").startswith(plain)
