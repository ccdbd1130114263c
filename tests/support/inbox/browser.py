"""Debian's chromium at the page of an inbox."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from tests.support.programs import NODE_MODULES, program

AXE: Final = NODE_MODULES / "axe-core" / "axe.min.js"
SERIOUS: Final = frozenset({"serious", "critical"})
WIDE: Final[ViewportSize] = {"width": 1440, "height": 900}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}


@contextmanager
def chromium(*more: str) -> Iterator[Browser]:
    """The browser, without windows. `more` are flags of the command line."""
    # Root has no sandbox of its own in a container; the pages are ours and of this machine.
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-lcd-text", *more]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium", "chromium"), args=flags)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def profile(folder: Path, *more: str, **options: Any) -> Iterator[BrowserContext]:
    """The browser with a profile in that folder, as people use it: a private window makes no connection
    before it needs one, so it would hide what a page asks for."""
    flags = ["--no-sandbox", "--disable-dev-shm-usage", *more]
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder, executable_path=program("chromium", "chromium"), args=flags, **options
        )
        try:
            yield context
        finally:
            context.close()


@contextmanager
def a_page(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page of its own at an address, which must not log a mistake and must not throw."""
    chosen: dict[str, Any] = {"viewport": WIDE, "locale": "en-GB", "timezone_id": "UTC", **options}
    context = browser.new_context(**chosen)
    page = context.new_page()
    mistakes: list[str] = []
    page.on("pageerror", lambda error: mistakes.append(str(error)))
    page.on("console", lambda line: mistakes.append(line.text) if "Content Security" in line.text else None)
    try:
        page.goto(url)
        yield page
        assert mistakes == []
    finally:
        context.close()


def faults(page: Page) -> list[str]:
    """What axe-core finds that is serious: its rule, and the elements."""
    page.context.new_cdp_session(page).send("Page.setBypassCSP", {"enabled": True})
    page.evaluate(AXE.read_text())
    found = page.evaluate("async () => JSON.stringify((await axe.run(document)).violations)")
    return [
        f"{one['id']}: {' '.join(str(node['target']) for node in one['nodes'])}"
        for one in json.loads(found)
        if one["impact"] in SERIOUS
    ]
