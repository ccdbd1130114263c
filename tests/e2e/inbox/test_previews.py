"""Previews of hostile mails in a real browser: nothing asks for anything but our own server.

Every name of a mail leads to a canary listener there, or to no address at all, and the browser writes a
log of its network: the names that it wanted to know, and the connections that it made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Error, Page, expect

from tests.support.clients.tls import Authority
from tests.support.inbox.browser import a_page, chromium, profile
from tests.support.inbox.canary import Canary, canary
from tests.support.inbox.client import InboxClient, address_of, with_inbox
from tests.support.inbox.hostile import HTML, IMAGES, MAILS, NAME
from tests.support.inbox.mails import MOMENT, block, store
from tests.support.net import wait_until
from tests.support.servers.endpoint import Asked, Says, endpoint
from tests.support.servers.relay import Relay

LAST = "last"
"""The name that a test asks for itself: what it hears before came from a mail."""

EARLY = ("dns-prefetch", "preconnect")
"""Mails that ask before anything needs an answer."""

COOKIE: Any = {  # the type of Playwright is not public
    "name": "known",
    "value": "reader",
    "domain": f".{NAME}",
    "path": "/",
    "secure": True,
    "sameSite": "None",
}

FORMS = ("/view/{}.html", "/view/{}.html?embed=1", "/view/{}.txt", *(
    f"/api/v1/message/{{}}{each}" for each in ("", "/raw", "/headers", "/links", "/codes", "/deliveries")
))  # fmt: skip


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Canary]:
    identity = Authority().issue(f"*.{NAME}")
    with canary(identity.write(tmp_path_factory.mktemp("canary"))) as made:
        yield made


@pytest.fixture
def relay(new_relay: Callable[..., Relay]) -> Relay:
    relay = new_relay(with_inbox())
    for number, (name, content) in enumerate(MAILS.items()):
        store(relay.received, f"{name}.eml", content, block("bob@h.example", ms=MOMENT - number * 1_000))
    return relay.start()


@pytest.fixture(params=["names lead to the canary", "names lead nowhere"])
def flags(request: pytest.FixtureRequest, listener: Canary, tmp_path: Path) -> list[str]:
    """The browser maps names to the canary, or asks for their addresses as ever."""
    listener.requests.clear()
    listener.connections = 0
    return _flags(tmp_path, listener if "canary" in request.param else None)


def _flags(folder: Path, listener: Canary | None) -> list[str]:
    to = f"127.0.0.1:{listener.port}" if listener else "~NOTFOUND"
    pattern = f"*.{NAME}" if listener else f"{LAST}.{NAME}"
    rules = f"--host-resolver-rules=MAP {pattern} {to}, EXCLUDE localhost, EXCLUDE 127.0.0.1"
    return [
        rules,
        f"--log-net-log={folder / 'net.json'}",
        "--disable-component-update",
        "--disable-background-networking",
    ]


def ids(relay: Relay) -> dict[str, str]:
    """The ids of the mails by their subjects."""
    with InboxClient(relay) as inbox:
        wait_until(lambda: inbox.page()["total"] == len(MAILS), seconds=60, what="the index")
        found = inbox.get("/api/v1/messages", params={"limit": 1_000}).json()["messages"]
    return {one["Subject"]: one["ID"] for one in found}


def heard(listener: Canary, name: str) -> bool:
    return name in listener.names


def reached_out(listener: Canary, folder: Path, name: str) -> bool:
    return heard(listener, name) or name in logged(folder)


def ask_last(page: Page) -> None:
    """Go elsewhere, so that what a mail started comes first."""
    with suppress(Error):
        page.goto(f"http://{LAST}.{NAME}/")


def logged(folder: Path) -> set[str]:
    """The first labels of the names in the browser's log of its network."""
    text = (folder / "net.json").read_text(errors="replace")
    return set(re.findall(rf"([\w-]+)\.{re.escape(NAME)}", text))


def only_last(folder: Path, listener: Canary, *, mapped: bool) -> None:
    assert logged(folder) == {LAST}
    assert listener.names == ({LAST} if mapped else set())


def watch(context: BrowserContext) -> list[str]:
    """What a mail opened: windows and questions."""
    opened: list[str] = []
    context.on("page", lambda page: opened.append(page.url))
    context.on("dialog", lambda dialog: (opened.append(dialog.message), dialog.dismiss()))
    return opened


def test_there_are_at_least_forty_hostile_mails_and_without_protection_they_reach_out(
    listener: Canary, tmp_path: Path
) -> None:
    """The canary hears what it should not hear from a preview."""
    assert len(MAILS) >= 60
    reached: set[str] = set()
    for mapped in (True, False):
        folder = tmp_path / str(mapped)
        folder.mkdir()
        listener.requests.clear()
        with (
            endpoint() as server,
            profile(
                folder / "profile", *_flags(folder, listener if mapped else None), ignore_https_errors=True
            ) as context,
        ):
            server.answer = lambda asked: Says(
                body=HTML.get(asked.path[1:], "").encode(),
                headers={"Content-Type": "text/html; charset=utf-8"},
            )
            context.add_cookies([COOKIE])
            for name in HTML:
                page = context.new_page()
                with suppress(Error):
                    page.goto(f"http://localhost:{urlsplit(server.url).port}/{name}")
                if name in EARLY:  # nothing of the page waits for these
                    with suppress(TimeoutError):
                        wait_until(partial(reached_out, listener, folder, name), seconds=5, what=name)
                page.close()
        reached |= listener.names | logged(folder)
        if mapped:
            sent = [one.fields for one in listener.requests if one.host.startswith("image-tls.")]
            assert sent
            assert all("referer" in one for one in sent)
    silent = set(HTML) - reached
    assert {*EARLY, "refresh", "script", "import", "font"} <= reached, silent
    assert len(reached) >= 40, silent


def test_a_mail_opened_by_itself_asks_for_nothing(
    relay: Relay, listener: Canary, flags: list[str], tmp_path: Path
) -> None:
    with profile(tmp_path / "profile", *flags, ignore_https_errors=True, accept_downloads=True) as context:
        page = context.new_page()
        opened = watch(context)
        for name, mail_id in ids(relay).items():
            for form in FORMS[:1] if name in HTML and name != "script" else FORMS:
                url = f"{address_of(relay)}{form.format(mail_id)}"
                page.goto(url)
                assert page.url == url
        assert (opened, listener.connections) == ([], 0)
        ask_last(page)
    only_last(tmp_path, listener, mapped="127.0.0.1:" in flags[0].partition(",")[0])


def test_a_mail_in_the_page_asks_for_nothing(
    relay: Relay, listener: Canary, flags: list[str], tmp_path: Path
) -> None:
    with profile(tmp_path / "profile", *flags, ignore_https_errors=True) as context:
        page = context.new_page()
        opened = watch(context)
        for name, mail_id in ids(relay).items():
            page.goto(f"{address_of(relay)}/view/{mail_id}")
            expect(page.locator("#reader h2")).to_have_text(name)
            for frame in page.locator("#view iframe").all():
                expect(frame.content_frame.locator("body")).to_be_attached()
            assert page.evaluate("[window.canary, document.title.includes('canary')]") == [None, False]
        assert (opened, listener.connections) == ([], 0)
        ask_last(page)
    only_last(tmp_path, listener, mapped="127.0.0.1:" in flags[0].partition(",")[0])


def test_after_a_click_the_browser_loads_images_alone_and_tells_no_more_than_that(
    relay: Relay, listener: Canary, tmp_path: Path
) -> None:
    listener.requests.clear()
    found = ids(relay)
    with profile(tmp_path / "profile", *_flags(tmp_path, listener), ignore_https_errors=True) as context:
        context.add_cookies([COOKIE])
        page = context.new_page()
        opened = watch(context)
        page.goto(f"{address_of(relay)}/view/{found['image']}")
        page.get_by_role("button", name="Load images").click()
        wait_until(lambda: "image" in listener.names, seconds=30, what="the image")
        page.goto(f"{address_of(relay)}/view/{found['image-tls']}")
        page.get_by_role("button", name="Load images").click()
        wait_until(lambda: "image-tls" in listener.names, seconds=30, what="the image over TLS")
        for name, mail_id in found.items():
            page.goto(f"{address_of(relay)}/view/{mail_id}.html?images=1")
            if name in IMAGES:
                wait_until(partial(heard, listener, name), seconds=30, what=name)
        assert opened == []
        ask_last(page)
    mails = [one for one in listener.requests if one.host.endswith(NAME) and not one.host.startswith(LAST)]
    assert {one.fields["accept"].partition("/")[0] for one in mails} == {"image"}
    assert [one for one in mails if {"cookie", "referer", "authorization"} & set(one.fields)] == []
    assert logged(tmp_path) == listener.names
    assert set(IMAGES) <= listener.names


def test_a_link_opens_a_tab_of_its_own_without_telling_where_it_was(
    relay: Relay, listener: Canary, tmp_path: Path
) -> None:
    listener.requests.clear()
    found = ids(relay)
    with chromium(*_flags(tmp_path, listener)) as browser, a_page(browser, address_of(relay)) as page:
        page.goto(f"{address_of(relay)}/view/{found['referrer']}")
        frame = page.locator("#view iframe >> visible=true").first
        with page.context.expect_page() as opened:
            frame.content_frame.get_by_role("link", name="x").click()
        opened.value.wait_for_url(f"http://referrer.{NAME}/")
        assert opened.value.evaluate("[window.opener, document.referrer, origin]") == [
            None,
            "",
            f"http://referrer.{NAME}",
        ]
    (asked,) = [one for one in listener.requests if one.target == "/"]
    assert "referer" not in asked.fields


def test_no_page_but_ours_frames_a_mail(relay: Relay) -> None:
    mail_id = ids(relay)["image"]
    url = f"{address_of(relay)}/view/{mail_id}.html"

    def foreign(_: Asked) -> Says:
        return Says(body=f"<iframe src={url}></iframe>".encode(), headers={"Content-Type": "text/html"})

    with endpoint() as server, chromium() as browser:
        server.answer = foreign
        page = browser.new_page()
        page.goto(server.url)

        def is_refused() -> bool:
            page.evaluate("1")  # Playwright takes the browser's events only while it is called
            return any(frame.url.startswith("chrome-error:") for frame in page.frames)

        wait_until(is_refused, seconds=30, what="the browser's refusal")


def test_the_server_asks_for_nothing_that_a_mail_names(relay: Relay, listener: Canary) -> None:
    """Its names lead nowhere, so this mail names the canary by its address."""
    listener.connections = 0
    markup = "".join(
        html.replace(f"{name}.{NAME}", f"127.0.0.1:{listener.port}") for name, html in HTML.items()
    )
    top = "From: a@h.example\r\nSubject: address\r\nContent-Type: text/html\r\n"
    top += f"List-Unsubscribe: <http://127.0.0.1:{listener.port}/>\r\n\r\n"
    with InboxClient(relay) as inbox:
        ids(relay)
        store(relay.received, "address.eml", (top + markup).encode(), block("bob@h.example"))
        wait_until(lambda: inbox.page()["total"] == len(MAILS) + 1, seconds=30, what="the mail")
        (mail,) = inbox.get("/api/v1/search", params={"query": "subject:address"}).json()["messages"]
        paths = [form.format(mail["ID"]) for form in FORMS]
        paths += [f"/view/{mail['ID']}.html?images=1", f"/api/v1/message/{mail['ID']}/link-check"]
        for path in paths:
            assert inbox.get(path).status_code in (200, 501), path
    assert listener.connections == 0
