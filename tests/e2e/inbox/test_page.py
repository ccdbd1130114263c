"""The page of the inbox in a real browser."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.inbox.browser import AXE, PHONE, a_page, chromium, faults
from tests.support.inbox.client import (
    PATIENCE,
    InboxClient,
    address_of,
    inbox_processes,
    send,
    with_inbox,
)
from tests.support.inbox.mails import MOMENT, block, mail, store
from tests.support.net import HOST, free_port, wait_until
from tests.support.servers.relay import Relay, flow
from tests.support.servers.smarthost import smarthost

RIGHTS: dict[str, list[str]] = {"ann": [], "bob": ["delete"]}

SHORT = 5_000
"""Milliseconds in which the page does what it has all it needs for."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def relay(new_relay: Callable[..., Relay]) -> Relay:
    return new_relay(with_inbox()).start()


def fill(relay: Relay, count: int, **fields: str) -> None:
    """Put mails there before the server starts: `Mail 0` is the newest."""
    relay.received.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        made = mail(f"Mail {number}", f"text of {number}\n", **fields)
        top = block("bob@h.example", ms=MOMENT - number * 1_000)
        store(relay.received, f"{number:06}.eml", made, top)


def filled(new_relay: Callable[..., Relay], count: int, **options: Any) -> Relay:
    relay = new_relay(with_inbox(options))
    fill(relay, count)
    relay.start()
    with InboxClient(relay) as inbox:
        wait_until(lambda: inbox.page()["total"] == count, seconds=60, what="the index")
    return relay


def row(page: Page, subject: str) -> Locator:
    return page.locator("#rows li").filter(
        has=page.locator(".subject", has_text=re.compile(f"^{re.escape(subject)}$"))
    )


def subjects(page: Page) -> list[str]:
    return page.locator("#rows li .subject").all_inner_texts()


def title(page: Page) -> Locator:
    return page.locator("#reader h2")


def is_live(page: Page) -> None:
    expect(page.locator("#live.on")).to_be_attached(timeout=SHORT)


def box(element: Locator) -> dict[str, float]:
    """The place of an element. A row is made anew when its codes and links arrive, which may be while the
    browser is asked: the next question finds the new one."""
    for _ in range(10):
        if (found := element.bounding_box()) is not None:
            return dict(found)
    raise AssertionError(f"{element} has no place")


def test_a_mail_is_in_sight_less_than_a_second_after_it_was_accepted(relay: Relay, browser: Browser) -> None:
    with a_page(browser, address_of(relay)) as page:
        expect(page.get_by_text("No mail yet.")).to_be_visible()
        is_live(page)
        took = []
        for number in range(5):
            send(relay, mail(f"Now {number}"))
            began = time.monotonic()
            row(page, f"Now {number}").wait_for(timeout=SHORT)
            took.append(time.monotonic() - began)
        assert sorted(took)[2] < 1, took
        expect(page.locator("#count")).to_have_text("5 mails, 5 unread")
        expect(page).to_have_title("(5) Inbox")
        assert subjects(page) == [f"Now {number}" for number in (4, 3, 2, 1, 0)]


@pytest.mark.parametrize("count", [3, 60])
def test_what_is_read_stays_where_it_is_while_mails_arrive(
    new_relay: Callable[..., Relay], browser: Browser, count: int
) -> None:
    relay = filled(new_relay, count)
    with a_page(browser, address_of(relay)) as page:
        row(page, "Mail 2").get_by_role("link").click()
        expect(title(page)).to_have_text("Mail 2")
        is_live(page)
        rows = [box(row(page, "Mail 2")), box(title(page)), box(page.locator("#reader pre"))]
        address = page.url
        for number in range(3):
            send(relay, mail(f"New {number}"))
        expect(page.locator("#arrived")).to_contain_text("3 new", timeout=SHORT)
        assert [box(row(page, "Mail 2")), box(title(page)), box(page.locator("#reader pre"))] == rows
        assert page.url == address
        page.locator("#arrived").click()
        expect(page.locator("#arrived")).to_be_hidden()
        expect(row(page, "New 2")).to_be_in_viewport(ratio=0.9)
        expect(title(page)).to_have_text("Mail 2")


def test_a_click_counts_although_the_list_changes_meanwhile(
    new_relay: Callable[..., Relay], browser: Browser
) -> None:
    relay = filled(new_relay, 5)
    with a_page(browser, address_of(relay)) as page:
        row(page, "Mail 2").hover()
        is_live(page)
        page.mouse.down()
        send(relay, mail("New"))
        expect(page.locator("#count")).to_have_text("6 mails, 6 unread", timeout=SHORT)
        page.mouse.up()
        expect(title(page)).to_have_text("Mail 2")
        row(page, "New").wait_for(timeout=SHORT)


def test_a_list_that_is_scrolled_stays_where_it_is(new_relay: Callable[..., Relay], browser: Browser) -> None:
    relay = filled(new_relay, 200)
    with a_page(browser, address_of(relay)) as page:
        row(page, "Mail 0").wait_for()
        is_live(page)
        page.locator("#scroll").evaluate("each => (each.scrollTop = 84 * 120 + 17)")
        row(page, "Mail 122").wait_for()
        before = box(row(page, "Mail 122"))
        for number in range(4):
            send(relay, mail(f"New {number}"))
        expect(page.locator("#arrived")).to_contain_text("4 new", timeout=SHORT)
        assert box(row(page, "Mail 122")) == before


def test_ten_thousand_mails_are_a_few_elements(new_relay: Callable[..., Relay], browser: Browser) -> None:
    relay = filled(new_relay, 10_000)
    with a_page(browser, address_of(relay)) as page:
        expect(page.locator("#count")).to_have_text("10,000 mails, 10,000 unread")
        row(page, "Mail 0").wait_for()
        scroll = page.locator("#scroll")
        for place, wanted in ((0.5, None), (1.0, "Mail 9999"), (0.0, "Mail 0")):
            scroll.evaluate("(each, part) => (each.scrollTop = part * each.scrollHeight)", place)
            if wanted:
                row(page, wanted).wait_for(timeout=SHORT)
                expect(row(page, wanted)).to_be_in_viewport()
            assert page.locator("#rows li").count() < 40
        assert page.evaluate("document.querySelectorAll('*').length") < 1_000
        last = page.locator("#rows li").last
        assert last.get_attribute("aria-setsize") == "10000"


def test_the_search_follows_what_is_typed(relay: Relay, browser: Browser) -> None:
    for name in ("Apple pie", "Apple cake", "Pear cake"):
        send(relay, mail(name))
    with a_page(browser, address_of(relay)) as page:
        row(page, "Pear cake").wait_for()
        page.keyboard.press("/")
        page.keyboard.type("apple")
        expect(page.locator("#rows li")).to_have_count(2, timeout=SHORT)
        assert page.url.endswith("/search?q=apple")
        page.keyboard.type(" -pie")
        expect(page.locator("#rows li")).to_have_count(1, timeout=SHORT)
        assert subjects(page) == ["Apple cake"]
        expect(page.locator("#count")).to_have_text("1 mail of 3")
        is_live(page)
        send(relay, mail("Apple tart"))
        row(page, "Apple tart").wait_for(timeout=SHORT)
        send(relay, mail("Plum tart"))
        expect(page.locator("#count")).to_have_text("2 mails of 5", timeout=SHORT)
        page.reload()
        expect(page.locator("#query")).to_have_value("apple -pie")
        expect(page.locator("#rows li")).to_have_count(2)
        page.locator("#query").focus()
        page.keyboard.press("Escape")
        expect(page.locator("#rows li")).to_have_count(5)
        page.go_back()
        expect(page.locator("#rows li")).to_have_count(2)
        page.locator("#query").fill("nothing like it")
        expect(page.get_by_text("No mail matches.")).to_be_visible()


def test_all_goes_by_keys(new_relay: Callable[..., Relay], browser: Browser) -> None:
    relay = filled(new_relay, 30)
    with a_page(browser, address_of(relay)) as page:
        row(page, "Mail 0").wait_for()
        for key in ("j", "j", "k", "j"):
            page.keyboard.press(key)
        expect(title(page)).to_have_count(0)
        page.keyboard.press("Enter")
        expect(title(page)).to_have_text("Mail 1")
        page.keyboard.press("j")
        expect(title(page)).to_have_text("Mail 2")
        page.keyboard.press("k")
        expect(title(page)).to_have_text("Mail 1")
        expect(row(page, "Mail 1")).not_to_have_class(re.compile("new"))
        page.keyboard.press("u")
        expect(row(page, "Mail 1")).to_have_class(re.compile("new"))
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_contain_text("Delete the mail")
        page.keyboard.press("j")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(title(page)).to_have_text("Mail 1")
        page.keyboard.press("#")
        expect(title(page)).to_have_text("Mail 2")
        expect(row(page, "Mail 1")).to_have_count(0)
        page.keyboard.press("Delete")
        expect(title(page)).to_have_text("Mail 3")
        page.keyboard.press("Escape")
        expect(title(page)).to_have_count(0)
        for _ in range(40):
            page.keyboard.press("j")
        page.keyboard.press("Enter")
        expect(title(page)).to_have_text("Mail 29")
        expect(row(page, "Mail 29")).to_be_in_viewport(ratio=0.9)
        page.keyboard.press("g")
        expect(row(page, "Mail 0")).to_be_in_viewport(ratio=0.9)
    assert len(relay.files()) == 28


def test_a_deleted_mail_is_gone_from_the_folder_and_from_other_windows(
    relay: Relay, browser: Browser
) -> None:
    for number in range(3):
        send(relay, mail(f"{number}"))
    with a_page(browser, address_of(relay)) as page, a_page(browser, address_of(relay)) as other:
        row(other, "1").get_by_role("link").click()
        expect(title(other)).to_have_text("1")
        is_live(other)
        row(page, "1").get_by_role("link").click()
        page.get_by_role("button", name="Delete", exact=True).click()
        expect(row(other, "1")).to_have_count(0, timeout=SHORT)
        expect(other.get_by_text("This mail was deleted.")).to_be_visible()
        expect(title(other)).to_have_text("1")
        assert len(relay.files()) == 2
        page.locator("#menu summary").click()
        page.get_by_role("button", name="Delete all…").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_text("No mail yet.")).to_be_visible()
        expect(other.get_by_text("No mail yet.")).to_be_visible(timeout=SHORT)
    assert relay.files() == []


def test_only_what_was_found_is_deleted_with_a_search(relay: Relay, browser: Browser) -> None:
    for name in ("keep", "old 1", "old 2"):
        send(relay, mail(name))
    with a_page(browser, f"{address_of(relay)}/search?q=subject:old") as page:
        expect(page.locator("#rows li")).to_have_count(2)
        page.locator("#menu summary").click()
        page.get_by_role("button", name="Delete the found…").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
        expect(page.get_by_text("No mail matches.")).to_be_visible()
    with InboxClient(relay) as inbox:
        inbox.wait_for("keep")


def test_why_a_mail_is_not_delivered_is_one_sentence_and_its_file_stays(
    new_relay: Callable[..., Relay], browser: Browser
) -> None:
    both = flow(filename="${id}.eml", addRawHeaders=True)
    both["outputs"].append({"type": "mailer", "nodemailer": {"host": HOST, "port": free_port()}})
    relay = new_relay(with_inbox(all=both)).start()
    send(relay, mail("waits"))
    with InboxClient(relay) as inbox:
        inbox.wait_for("waits")
        wait_until(
            lambda: inbox.get("/api/v1/message/latest/deliveries").json()[1]["Reason"],
            seconds=PATIENCE,
            what="a failed attempt",
        )
    with a_page(browser, address_of(relay)) as page:
        row(page, "waits").get_by_role("link").click()
        banner = page.locator(".banner.waiting p")
        expect(banner).to_contain_text("Why not delivered?")
        expect(banner).to_contain_text("refused")
        assert banner.inner_text().rstrip().endswith(".")
        page.get_by_role("tab", name="Delivery").click()
        expect(page.locator(".deliveries li.delivered strong")).to_have_text("file_0")
        expect(page.locator(".deliveries li.waiting strong")).to_have_text("mailer_1")
        page.keyboard.press("#")
        expect(page.locator(".notice.failed")).to_contain_text("is still being delivered")
        expect(row(page, "waits")).to_be_visible()
    assert len(relay.files()) == 1


def test_a_mail_is_released_into_another_relay(new_relay: Callable[..., Relay], browser: Browser) -> None:
    other = new_relay(with_inbox()).start()
    hop = {"host": HOST, "port": other.port, "ignoreTLS": True}
    out = {
        "filters": [{"type": "whitelist", "to": "never@h.example"}],
        "outputs": [{"type": "mailer", "name": "out", "nodemailer": hop}],
    }
    release = {"output": "out", "recipients": ["glob:*@team.example"]}
    stored = flow(filename="${id}.eml", addRawHeaders=True)
    relay = new_relay(with_inbox({"release": release}, all=stored, out=out)).start()
    send(relay, mail("for the team"))
    with a_page(browser, address_of(relay)) as page, InboxClient(other) as there:
        row(page, "for the team").get_by_role("link").click()
        expect(page.locator("#reader h2")).to_have_text("for the team")
        page.keyboard.press("r")
        page.get_by_label("Recipients").fill("eve@elsewhere.example")
        page.get_by_role("dialog").get_by_role("button", name="Release").click()
        expect(page.locator(".notice.failed")).to_contain_text("is not in inbox.release.recipients")
        page.keyboard.press("r")
        page.get_by_label("Recipients").fill("cy@team.example")
        page.get_by_role("dialog").get_by_role("button", name="Release").click()
        expect(page.get_by_text("Released to cy@team.example")).to_be_visible()
        there.wait_for("for the team")


def test_a_delivery_that_was_given_up_is_retried(new_relay: Callable[..., Relay], browser: Browser) -> None:
    both = flow(filename="${id}.eml", addRawHeaders=True)
    with smarthost(lambda heard: "550 5.1.1 no" if heard.verb == "RCPT" else None) as host:
        hop = {"host": HOST, "port": host.port, "ignoreTLS": True}
        both["outputs"].append({"type": "mailer", "nodemailer": hop})
        relay = new_relay(with_inbox(all=both)).start()
        send(relay, mail("given up"))
        with InboxClient(relay) as inbox:
            inbox.wait_for("given up")
            states = "/api/v1/message/latest/deliveries"
            wait_until(
                lambda: inbox.get(states).json()[1]["State"] == "dead", seconds=PATIENCE, what="an end"
            )
        host.script = lambda heard: None
        with a_page(browser, address_of(relay)) as page:
            row(page, "given up").get_by_role("link").click()
            expect(page.locator(".banner.dead p")).to_contain_text("mailer_1 gave up")
            page.get_by_role("button", name="Retry").first.click()
            wait_until(lambda: len(host.taken) == 1, seconds=PATIENCE, what="the mail at the next hop")
    assert len(host.taken) == 1


def test_inboxes_are_switched_and_each_has_its_own_addresses(
    new_relay: Callable[..., Relay], browser: Browser
) -> None:
    flows = {
        name: {
            "filters": [{"type": "whitelist", "to": f"a@{name}.example"}],
            "outputs": [
                {"type": "file", "path": f"{{folder}}/{name}", "filename": "${id}.eml", "addRawHeaders": True}
            ],
        }
        for name in ("red", "blue")
    }
    relay = new_relay(with_inbox({"path": "/mails"}, **flows)).start()
    send(relay, mail("to red"), "a@red.example")
    send(relay, mail("to blue"), "a@blue.example")
    with a_page(browser, f"{address_of(relay)}/") as page:
        expect(page.locator("#rows li")).to_have_count(2)
        expect(row(page, "to red").locator(".tag.inbox")).to_have_text("red")
        page.locator("#inbox").select_option("red")
        expect(page.locator("#rows li")).to_have_count(1)
        assert page.url == f"{address_of(relay)}/inbox/red/"
        row(page, "to red").get_by_role("link").click()
        expect(title(page)).to_have_text("to red")
        assert re.fullmatch(rf"{re.escape(address_of(relay))}/inbox/red/view/\w{{22}}", page.url)
        is_live(page)
        send(relay, mail("again blue"), "a@blue.example")
        send(relay, mail("again red"), "a@red.example")
        expect(page.locator("#arrived")).to_contain_text("1 new", timeout=SHORT)
        page.reload()
        expect(title(page)).to_have_text("to red")
        assert sorted(subjects(page)) == ["again red", "to red"]
        page.goto(page.url.replace("/red/", "/blue/"))
        expect(page.get_by_text("This mail does not exist, or was deleted.")).to_be_visible()


def test_a_mail_has_a_permanent_link(relay: Relay, browser: Browser) -> None:
    send(relay, mail("kept"))
    with InboxClient(relay) as inbox:
        (one,) = inbox.wait_for("kept")
        with a_page(browser, f"{address_of(relay)}/view/latest") as page:
            expect(title(page)).to_have_text("kept")
            assert page.url == f"{address_of(relay)}/view/{one['ID']}"
            page.context.grant_permissions(["clipboard-read", "clipboard-write"])
            page.keyboard.press("y")
            wait_until(
                lambda: page.evaluate("navigator.clipboard.readText()") == page.url,
                seconds=5,
                what="the copy",
            )
            page.go_back()
            inbox.delete("/api/v1/messages")
            page.goto(f"{address_of(relay)}/view/{one['ID']}")
            expect(page.get_by_text("This mail does not exist, or was deleted.")).to_be_visible()


def test_codes_and_links_are_copied_from_the_list(relay: Relay, browser: Browser) -> None:
    send(relay, mail("Sign in", "Your code is 493 021, or open https://app.example/login?token=9f\n"))
    with a_page(browser, address_of(relay), permissions=["clipboard-read", "clipboard-write"]) as page:
        row(page, "Sign in").get_by_role("button", name="Copy 493021").click()
        expect(page.locator(".notice")).to_have_text("Copied 493021")
        assert page.evaluate("navigator.clipboard.readText()") == "493021"
        row(page, "Sign in").get_by_role("button", name="Link: copy https://app.example").click()
        expect(page.locator(".notice")).to_contain_text("Copied https://")
        assert page.evaluate("navigator.clipboard.readText()") == "https://app.example/login?token=9f"
        expect(title(page)).to_have_count(0)


def shown_mail() -> EmailMessage:
    """A mail with all that the page shows."""
    results = (
        "mx.example; spf=pass smtp.mailfrom=h.example; dkim=fail (body; hash) header.d=h.example; dmarc=none"
    )
    made = mail(
        "Order <b>20817</b>", "On its way: https://shop.example/track/20817\n", Authentication_Results=results
    )
    made.add_alternative("<p>On its <i>way</i></p><script>parent.canary = 1</script>", subtype="html")
    made.add_attachment(
        b"%PDF-1.4", maintype="application", subtype="pdf", filename='<img src=x onerror="canary=1">.pdf'
    )
    return made


def test_every_view_of_a_mail(relay: Relay, browser: Browser) -> None:
    send(relay, shown_mail(), "bob@h.example", "hidden@h.example")
    with a_page(browser, address_of(relay)) as page:
        page.locator("#rows a").click()
        expect(title(page)).to_have_text("Order <b>20817</b>")
        assert [one.inner_text() for one in page.locator(".badge").all()] == [
            "SPF pass",
            "DKIM fail",
            "DMARC none",
        ]
        expect(page.locator(".badge.bad")).to_have_attribute("title", re.compile("body; hash"))
        phone, desktop = page.locator(".frame.phone iframe"), page.locator(".frame.desktop iframe")
        assert phone.evaluate("each => each.clientWidth") == 375
        assert desktop.evaluate("each => each.clientWidth") >= 800
        for frame in (phone, desktop):
            assert frame.get_attribute("sandbox") == "allow-popups allow-popups-to-escape-sandbox"
            expect(frame.content_frame.locator("i")).to_have_text("way")
        page.get_by_role("tab", name="Text").click()
        expect(page.locator("#view pre")).to_contain_text("On its way: https://shop.example")
        page.get_by_role("tab", name="Links").click()
        expect(page.locator("#view a")).to_have_attribute("href", "https://shop.example/track/20817")
        expect(page.locator("#view a")).to_have_attribute("rel", "noreferrer noopener")
        page.get_by_role("tab", name="Parts").click()
        assert page.locator("#view .tree code").all_inner_texts() == [
            "multipart/mixed",
            "multipart/alternative",
            "text/plain",
            "text/html",
            "application/pdf",
        ]
        with page.expect_download() as download:
            page.get_by_role("link", name="Download <img").click()
        assert download.value.path().read_bytes() == b"%PDF-1.4"
        page.get_by_role("tab", name="Header").click()
        expect(page.locator("#view")).to_contain_text("X-Smtp-Relay-Rcpt_to")
        page.get_by_role("tab", name="Raw").click()
        expect(page.locator("#view pre")).to_contain_text("X-smtp-relay-FIELDS: 9")
        page.get_by_role("tab", name="Delivery").click()
        expect(page.locator(".envelope")).to_contain_text("<env@h.example>")
        expect(page.locator(".envelope")).to_contain_text("<hidden@h.example>")
        assert page.evaluate("window.canary") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_from_using_the_page(relay: Relay, browser: Browser, scheme: Any) -> None:
    assert AXE.exists(), "npm's axe-core is missing (`make test` installs it)"
    send(relay, mail("Code 4711"))
    send(relay, shown_mail())
    with a_page(browser, address_of(relay), color_scheme=scheme) as page:
        page.locator("#rows .copy").first.wait_for()
        assert faults(page) == []
        page.locator("#rows a").first.click()
        expect(title(page)).to_be_visible()
        for number in range(1, 8):
            page.keyboard.press(str(number))
            assert faults(page) == [], number
        page.keyboard.press("?")
        assert faults(page) == []
        page.keyboard.press("Escape")
        page.set_viewport_size(PHONE)
        assert faults(page) == []
        page.get_by_role("button", name="Back", exact=True).click()
        expect(page.locator("#list")).to_be_visible()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_only_what_the_user_may_do_is_offered(new_relay: Callable[..., Relay], browser: Browser) -> None:
    users = {name: {"password": "plain:secret", "rights": rights} for name, rights in RIGHTS.items()}
    relay = new_relay(with_inbox({"port": free_port(), "users": users})).start()
    send(relay, mail("One"))
    for name, rights in RIGHTS.items():
        login: Any = {"username": name, "password": "secret"}
        with a_page(browser, address_of(relay), http_credentials=login) as page:
            row(page, "One").get_by_role("link").click()
            expect(title(page)).to_have_text("One")
            is_live(page)
            page.locator("#menu summary").click()
            expect(page.locator("#read-all")).to_be_visible()
            for offered in (page.locator(".tool.danger"), page.locator("#delete-all")):
                expect(offered).to_be_visible(visible="delete" in rights)
            page.locator("#menu summary").click()
            page.keyboard.press("#")
            if "delete" in rights:
                expect(page.get_by_text("No mail yet.")).to_be_visible()
    assert relay.files() == []


def test_the_colours_are_the_system_s_until_they_are_chosen(relay: Relay, browser: Browser) -> None:
    def back(page: Page) -> str:
        found: str = page.evaluate("getComputedStyle(document.body).backgroundColor || ''") or ""
        return (
            found
            if "0)" not in found
            else page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        )

    with a_page(browser, address_of(relay), color_scheme="dark") as page:
        dark = back(page)
        page.emulate_media(color_scheme="light")
        light = back(page)
        assert dark != light
        page.locator("#theme").click()
        assert back(page) == dark
        page.reload()
        assert back(page) == dark
        page.locator("#theme").click()
        assert back(page) == light


def test_the_page_comes_back_after_its_server(relay: Relay, browser: Browser) -> None:
    send(relay, mail("One"))
    with a_page(browser, address_of(relay)) as page:
        row(page, "One").wait_for()
        is_live(page)
        (child,) = inbox_processes(relay)
        os.kill(child, signal.SIGKILL)
        send(relay, mail("Two"))
        row(page, "Two").wait_for(timeout=PATIENCE * 1_000)
        is_live(page)
        assert subjects(page) == ["Two", "One"]
