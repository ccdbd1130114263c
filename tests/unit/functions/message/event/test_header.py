"""The header fields that an event shows, and the recipients that it keeps to itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest

from functions.message.envelope import Recipient
from functions.message.event import cloudevent, header, manifest, ses_notification
from functions.message.event.objects import StoredMail
from functions.message.mail import BytesContent, Mail
from functions.message.mime import Parts, read_parts
from tests.support.mails.spooled import envelope_of

OURS: Final = "bob@example.com"
CANARY: Final = "Canary@hidden.example"


def parts_of(content: bytes, **about: Any) -> tuple[Any, Parts]:
    envelope = envelope_of(content, **about)
    return envelope, read_parts(Mail(envelope, BytesContent(content)), "in")


def fields_of(content: bytes, mail_id: str = "x") -> list[str]:
    _, parts = parts_of(content)
    return [f"{name}: {value}" for name, value in header.shown_fields(parts, mail_id, header.NOBODY)]


def texts_of(content: bytes, *others: str) -> Iterator[str]:
    """All that this flow says about a mail that also went to other flows."""
    theirs = (Recipient(address=each, flows=("other",)) for each in others)
    recipients = (Recipient(address=OURS, flows=("in",)), *theirs)
    envelope = envelope_of(content).model_copy(update={"recipients": recipients})
    parts = read_parts(Mail(envelope, BytesContent(content)), "in")
    yield cloudevent.build(envelope, parts, flow="in", max_bytes=1_000_000).decode()
    yield ses_notification.build(
        envelope, parts, flow="in", storage_url="s3://b/k", max_bytes=1_000_000
    ).decode()
    yield manifest.build(envelope, parts, flow="in", stored=StoredMail()).decode()


def test_fields_keep_their_order_and_are_decoded() -> None:
    content = b"B: 2\r\nA: =?utf-8?q?=C3=A9?=\r\nb: folded\r\n  on\r\nB: 2\r\n\r\nbody\r\n"
    assert fields_of(content) == ["B: 2", "A: é", "b: folded  on", "B: 2"]


def test_bcc_and_the_relays_own_fields_are_left_out() -> None:
    content = (
        b"x-smtp-relay: 3\r\nReceived: from a by b with ESMTP id THE-ID\r\n\tfor <bob@example.com>; now\r\n"
        b"X-Mailbox-Line: From a\r\nX-smtp-relay-RCPT_TO: eve@example.com\r\nX-SMTP-Relay-Envelope: e30=\r\n"
        b"bcc: a@b.example\r\nResent-Bcc: a@b.example\r\nReceived: from c by d id OTHER; then\r\n"
        b"Subject: x\r\n\r\n"
    )
    assert fields_of(content, "THE-ID") == ["Received: from c by d id OTHER; then", "Subject: x"]


TRACES: Final = {
    "Bcc": b"Bcc: Canary <%s>\r\n",
    "Bcc by a name": b'Bcc: "%s" <x@y.example>\r\n',
    "Bcc that cannot be read": b"Bcc: x@y.exampleBcc: %s\r\n",
    "Bcc by a route": b"Bcc: <@relay.example:%s>\r\n",
    "Resent-Bcc": b"Resent-Bcc: %s\r\n",
    "Resent-To": b"Resent-To: %s\r\n",
    "an address in a URL": b"List-Unsubscribe: <mailto:x@y.example?to=%s>\r\n",
    "Received": b"Received: from a by b id 1\r\n\tfor <%s>; Mon, 5 Jan 2026 10:00:00 +0000\r\n",
    "Received without brackets": b"Received: from a by b id 1 for %s; now\r\n",
    "Delivered-To": b"Delivered-To: %s\r\n",
    "X-Original-To": b"X-Original-To: <%s>\r\n",
    "Envelope-To": b"Envelope-To: a@b.example, %s\r\n",
    "an unknown field": b"X-Anything: to=%s;\r\n",
    "an encoded word": b"X-Anything: =?utf-8?q?%s?=\r\n",
}


@pytest.mark.parametrize("trace", TRACES.values(), ids=TRACES)
@pytest.mark.parametrize("spelling", [CANARY, CANARY.lower(), CANARY.upper()])
def test_nothing_names_a_recipient_of_another_flow(trace: bytes, spelling: str) -> None:
    content = trace % spelling.encode() + b"To: bob@example.com\r\nSubject: x\r\n\r\nbody\r\n"
    for text in texts_of(content, CANARY):
        assert "canary@" not in text.lower()
        assert "hidden.example" not in text.lower()


@pytest.mark.parametrize("at", ["=", "%40", "=40"])
def test_an_address_of_another_flow_with_another_sign_is_found(at: str) -> None:
    trace = f"X-Trace: <mailto:bounce+{CANARY.replace('@', at)}@lists.example>\r\n"
    for text in texts_of(trace.encode() + b"Subject: x\r\n\r\n", CANARY):
        assert "hidden.example" not in text.lower()


@pytest.mark.parametrize("name", ["Bcc\u00a0", "\u00a0Bcc", "Bcc\r\n ", "Resent-Bcc\x0b"])
def test_a_bcc_field_that_only_a_lenient_reader_finds_is_no_text(name: str) -> None:
    content = f"Subject: x\r\n{name}: {CANARY}\r\n\r\nbody\r\n".encode()
    for text in texts_of(content, CANARY):
        assert "hidden.example" not in text.lower()


@pytest.mark.parametrize(
    "address", ['"a b"@hidden.example', "c@[192.0.2.1]", "o'c@hidden.example", "a+b=c@hidden.example"]
)
@pytest.mark.parametrize("around", ["%s", "<%s>", "to=%s;", "rfc822;%s", "[%s]", "'%s'", "x %s."])
def test_an_odd_address_of_another_flow_is_found(address: str, around: str) -> None:
    content = f"X-Trace: {around % address}\r\nSubject: x\r\n\r\n".encode()
    headers = json.loads(next(texts_of(content, address)))["data"]["email"]["headers"]
    assert [each["name"] for each in headers] == ["Subject"]


def test_many_hidden_recipients_and_many_addresses_take_little_time() -> None:
    many = [f"someone{n}@other{n % 50}.example" for n in range(999)]
    content = b"".join(b"X-%d: %s\r\n" % (n, b"v a@other1.example" * 6) for n in range(2_000)) + b"\r\n"
    start = time.process_time()
    list(texts_of(content, *many))
    assert time.process_time() - start < 3


def test_a_trace_that_names_no_other_recipient_stays() -> None:
    content = b"Received: from a by b id 1 for <bob@example.com>; now\r\nDelivered-To: list@l.example\r\n\r\n"
    event = next(texts_of(content, CANARY))
    headers = json.loads(event)["data"]["email"]["headers"]
    assert [each["name"] for each in headers] == ["Received", "Delivered-To"]


def test_a_received_field_only_loses_its_clause() -> None:
    content = b"Received: from a by b id 1 for <canary@hidden.example>; now\r\n\r\n"
    (field,) = json.loads(next(texts_of(content, CANARY)))["data"]["email"]["headers"]
    assert field == {"name": "Received", "value": "from a by b id 1 ; now"}


def test_recipients_that_the_mail_shows_to_everybody_are_not_hidden() -> None:
    content = (
        b"From: me@example.com\r\nTo: bob@example.com, Canary@hidden.example\r\nBcc: me@example.com\r\n\r\n"
    )
    email = json.loads(next(texts_of(content, CANARY, "me@example.com")))["data"]["email"]
    assert [each["name"] for each in email["headers"]] == ["From", "To"]
    assert email["to"][0]["value"][1]["address"] == CANARY
    assert email["bcc"][0]["value"][0]["address"] == "me@example.com"


def test_a_hidden_domain_beyond_ascii_is_found_in_both_spellings() -> None:
    for spelling in ("c@münchen.example", "c@xn--mnchen-3ya.example"):
        content = f"Delivered-To: {spelling}\r\nSubject: x\r\n\r\n".encode()
        event = json.loads(next(texts_of(content, "c@münchen.example")))
        assert [each["name"] for each in event["data"]["email"]["headers"]] == ["Subject"]


def test_threads_lists_and_automatic_mails() -> None:
    content = (
        b"Message-ID: <3@x>\r\nIn-Reply-To: <2@x>\r\nReferences: <1@x>\r\n <2@x> junk\r\n"
        b"List-Id: =?utf-8?q?Gr=C3=BC=C3=9Fe?= <friends.example.com>\r\n"
        b"Auto-Submitted: Auto-Replied (vacation); owner=x\r\n\r\n"
    )
    _, parts = parts_of(content)
    assert header.references(parts) == ["<1@x>", "<2@x>"]
    assert header.in_reply_to(parts) == "<2@x>"
    assert header.list_id(parts) == "friends.example.com"
    assert header.auto_submitted(parts) == "auto-replied"


def test_a_mail_without_such_fields_has_none_of_them() -> None:
    _, parts = parts_of(b"Subject: x\r\n\r\n")
    assert (header.references(parts), header.in_reply_to(parts)) == ([], "")
    assert (header.list_id(parts), header.auto_submitted(parts)) == ("", "")


def test_broken_fields_are_shown_as_far_as_they_can_be_read() -> None:
    _, parts = parts_of(
        b"In-Reply-To: your mail of Monday\r\nList-Id: friends.example.com\r\nAuto-Submitted: ;\r\n\r\n"
    )
    assert header.in_reply_to(parts) == "your mail of Monday"
    assert header.list_id(parts) == "friends.example.com"
    assert header.auto_submitted(parts) == ""
