"""Pictures of the page, to look at: of each view in both schemes. `make screenshot` writes them to the folder
that SCREENSHOTS names, and the README's to docs/inbox.png."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect

from tests.support.inbox.browser import PHONE, a_page, chromium
from tests.support.inbox.client import InboxClient, address_of, with_inbox
from tests.support.inbox.shown import CODE, ORDER, store_shown
from tests.support.net import wait_until
from tests.support.servers.relay import ROOT, Relay

README = "light-readme"
SMALL: ViewportSize = {"width": 1200, "height": 640}
LARGEST = 150_000
"""Bytes of the README's picture."""


def test_every_view_in_both_schemes(new_relay: Callable[..., Relay], tmp_path: Path) -> None:
    relay = new_relay(with_inbox())
    count = store_shown(relay.received)
    relay.start()
    with InboxClient(relay) as inbox:
        wait_until(lambda: inbox.page()["total"] == count, seconds=60, what="the index")
        ids = {one["Subject"]: one["ID"] for one in inbox.page()["messages"]}
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(exist_ok=True)
    with chromium() as browser:
        for scheme in ("light", "dark"):
            with a_page(browser, address_of(relay), color_scheme=scheme) as page:
                _take_all(page, address_of(relay), ids, Camera(page, folder, scheme))
    picture = folder / f"{README}.png"
    assert 20_000 < picture.stat().st_size < LARGEST
    assert len({path.read_bytes() for path in folder.glob("*.png")}) == len(list(folder.glob("*.png"))) == 28
    if os.environ.get("SCREENSHOTS"):
        shutil.copyfile(picture, ROOT / "docs" / "inbox.png")


class Camera:
    """Takes pictures of a page into a folder."""

    def __init__(self, page: Page, folder: Path, scheme: str) -> None:
        self._page, self._folder, self._scheme = page, folder, scheme

    def __call__(self, name: str) -> None:
        """Take one, once codes and links are in the list and frames show their mail."""
        page = self._page
        if page.locator("#list").is_visible() and "q=nothing" not in page.url:
            page.locator("#rows .copy").first.wait_for()
        for frame in page.locator("#view iframe").all():
            if frame.is_visible():
                frame.content_frame.get_by_text("Sum").wait_for()
        expect(page.get_by_text("Loading…")).to_have_count(0)
        page.screenshot(path=self._folder / f"{self._scheme}-{name}.png", animations="disabled")


def _take_all(page: Page, address: str, ids: dict[str, str], take: Camera) -> None:
    take("list")
    page.goto(f"{address}/view/{ids[ORDER]}")
    for view in range(1, 8):
        page.keyboard.press(str(view))
        expect(page.locator("#view")).not_to_be_empty()
        take(str(view))
    page.keyboard.press("?")
    take("keys")
    page.goto(f"{address}/search?q=nothing")
    page.get_by_text("No mail matches.").wait_for()
    take("none")
    page.set_viewport_size(PHONE)
    phone = {"list": "/", "html": f"/view/{ids[ORDER]}", "code": f"/view/{ids[CODE]}"}
    for name, path in phone.items():
        page.goto(address + path)
        page.locator("#rows .copy, #view *").locator("visible=true").first.wait_for()
        take(f"phone-{name}")
    page.set_viewport_size(SMALL)
    page.goto(f"{address}/view/{ids[ORDER]}")
    expect(page.locator("#view")).not_to_be_empty()
    take("readme")
