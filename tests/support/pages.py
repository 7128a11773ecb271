"""The lesson's page in a browser: what it shows, and whether everybody can use it."""

import re
import shutil
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = "chromium", "chromium-browser", "google-chrome"
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)


def audit(page: "Page") -> None:
    """Fail if axe-core finds anything."""
    if not page.evaluate("'axe' in window"):
        page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({rules: {'target-size': {enabled: true}}})")
    assert [
        (violation["id"], [node["html"][:200] for node in violation["nodes"]])
        for violation in found["violations"]
    ] == []
    assert len(found["passes"]) > 20


def shows(page: "Page", selector: str, text: str | re.Pattern[str], seconds: float = 10) -> None:
    """Wait until an element holds a text."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_contain_text(text, timeout=seconds * 1000)


def row(page: "Page", number: int) -> str:
    """Return a row of the execution table as text."""
    return page.locator("#rows tbody tr").nth(number - 1).inner_text()
