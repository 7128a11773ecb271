"""The lesson's page in a browser: what it shows, and whether everybody can use it."""

import re

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect


def audit(page: Page) -> None:
    """Fail if axe-core finds anything."""
    found = Axe().run(page, options={"rules": {"target-size": {"enabled": True}}})
    assert found.violations_count == 0, found.generate_report()
    assert len(found.response["passes"]) > 20


def shows(page: Page, selector: str, text: str | re.Pattern[str]) -> None:
    """Wait until an element holds a text."""
    expect(page.locator(selector)).to_contain_text(text, timeout=60_000)


def row(page: Page, number: int) -> str:
    """Return a row of the execution table as text."""
    return page.locator("#rows tbody tr").nth(number - 1).inner_text()
