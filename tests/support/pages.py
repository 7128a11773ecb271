"""The lesson's page in a browser: what it shows, and whether everybody can use it."""

import re
import shutil
from typing import TYPE_CHECKING

from axe_playwright_python.sync_playwright import Axe

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = "chromium", "chromium-browser", "google-chrome"
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)


def audit(page: "Page") -> None:
    """Fail if axe-core finds anything."""
    found = Axe().run(page, options={"rules": {"target-size": {"enabled": True}}})
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 20


def shows(page: "Page", selector: str, text: str | re.Pattern[str]) -> None:
    """Wait until an element holds a text."""
    from playwright.sync_api import expect

    expect(page.locator(selector)).to_contain_text(text, timeout=10_000)


def row(page: "Page", number: int) -> str:
    """Return a row of the execution table as text."""
    return page.locator("#rows tbody tr").nth(number - 1).inner_text()
