"""A stranger's mails on their whole way: SMTP, the spool, and the event that an `http-filter` posts."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.support.clients.wire import Wire, stuffed
from tests.support.mails.reading.case import seen
from tests.support.mails.reading.cases import CASES
from tests.support.mails.stored import strip_added_fields
from tests.support.servers.endpoint import endpoint
from tests.support.servers.relay import Relay, flow

BOM = b"\xef\xbb\xbf"


def test_the_endpoint_gets_what_each_mail_says(new_relay: Callable[..., Relay]) -> None:
    with endpoint() as asked:
        only = flow({"type": "http-filter", "url": asked.url})
        relay = new_relay({"flows": {"in": only}}, env={"NO_PROXY": "*"}).start()
        with Wire(relay.port, patience=60) as wire:
            wire.greet()
            for case in CASES:
                mail = case.mail if case.mail.endswith(b"\r\n") else case.mail + b"\r\n"
                wire.envelope()
                wire.send(stuffed(mail))
                assert wire.reply().code == 250, case.name
        events = [json.loads(one.body)["data"]["email"] for one in asked.asked]
    assert len(events) == len(CASES)
    for case, email in zip(CASES, events, strict=True):
        found = seen(email)
        assert {name: found[name] for name in case.expected} == case.expected, (case.kind, case.name)


def test_our_fields_make_no_body_of_a_header_behind_a_byte_order_mark(relay: Relay) -> None:
    mail = BOM + b"From: a@client.example\r\nSubject: x\r\n\r\nbody\r\n"
    with Wire(relay.port) as wire:
        wire.begin()
        wire.send(stuffed(mail))
        assert wire.reply().code == 250
    (stored,) = relay.mails()
    assert stored.endswith(b"\r\n" + mail), "the mail is stored as it came, and no empty line stands above it"
    assert stored.index(b"\r\n\r\n") > stored.index(b"Subject: x")


def test_a_mailbox_line_is_renamed_and_nothing_else(relay: Relay) -> None:
    rest = b"From: a@client.example\r\nSubject: x\r\n\r\n>From here\r\nFrom there\r\n"
    for line in (
        b"From a@client.example Mon Jan  5 10:00:00 2026\r\n",
        b">From - Mon Jan 05 10:00:00 2026\r\n",
    ):
        relay.forget()
        with Wire(relay.port) as wire:
            wire.begin()
            wire.send(stuffed(line + rest))
            assert wire.reply().code == 250
        (stored,) = relay.mails()
        assert strip_added_fields(stored) == b"X-Mailbox-Line: " + line + rest
