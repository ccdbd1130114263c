from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import pytest
from cloudevents.http import from_json
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.ids import uuid7
from functions.message.cloudevent import MIN_BYTES, build, limits_for
from functions.message.envelope import Client, Envelope, FlowNotes, Recipient, Tls
from functions.message.mail import BytesContent, Mail
from functions.message.mime import read_parts

MAIL = (
    b"From: Ann <ann@example.org>\r\n"
    b'To: "Smith, Bob" <bob@example.com>, carl@example.com\r\n'
    b"Cc: dora@example.com\r\n"
    b"Reply-To: Desk <desk@example.org>\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
    b"Date: Mon, 05 Jan 2026 10:00:00 +0100\r\n"
    b"Message-ID: <m1@example.org>\r\n"
    b"X-Priority: 1\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nHello\r\nBob\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>Hello</p>\r\n"
    b'--b\r\nContent-Type: application/pdf; name="a.pdf"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
    + base64.b64encode(b"x" * 12)
    + b"\r\n--b--\r\n"
)


def envelope(content: bytes, **changes: Any) -> Envelope:
    facts: dict[str, Any] = {
        "id": uuid7(1_767_600_000_123),
        "session": "c0ffee",
        "received": 1_767_600_000_123,
        "reverse_path": "bounce@example.org",
        "recipients": (
            Recipient(address="bob@example.com", flows=("in",)),
            Recipient(address="eve@example.com", flows=("other",)),
        ),
        "helo": "client.example",
        "client": Client(ip="192.0.2.7", port=4242, name="mail.example.org"),
        "server": "198.51.100.2:25",
        "tls": Tls(version="TLSv1.3", cipher="X"),
        "user": "ann",
        "transmission": "ESMTPSA",
        "size": len(content),
        "sha256": "",
    }
    return Envelope(**{**facts, **changes})


def event_of(content: bytes, max_bytes: int = 1_048_576, **options: Any) -> dict[str, Any]:
    changes = options.pop("changes", {})
    made = envelope(content, **changes)
    mail = Mail(made, BytesContent(content))
    text = build(made, read_parts(mail, "in"), flow="in", max_bytes=max_bytes, **options)
    assert len(text) <= max_bytes
    event: dict[str, Any] = json.loads(text)
    return event


def test_the_whole_event() -> None:
    event = event_of(MAIL, storage_url="s3://bucket/key.eml")
    assert uuid7(1_767_600_000_123)[:13] == event.pop("id")[:13]
    assert event == {
        "specversion": "1.0",
        "type": "com.loopingz.smtp-relay.v2",
        "source": "198.51.100.2",
        "subject": "<m1@example.org>",
        "time": "2026-01-05T08:00:00.123Z",
        "datacontenttype": "application/json",
        "data": {
            "email": {
                "from": {
                    "value": [{"address": "ann@example.org", "name": "Ann"}],
                    "html": '<span class="mp_address_group"><span class="mp_address_name">Ann</span> '
                    '&lt;<a href="mailto:ann@example.org" class="mp_address_email">ann@example.org</a>&gt;'
                    "</span>",
                    "text": '"Ann" <ann@example.org>',
                },
                "to": [
                    {
                        "value": [
                            {"address": "bob@example.com", "name": "Smith, Bob"},
                            {"address": "carl@example.com", "name": ""},
                        ],
                        "html": '<span class="mp_address_group"><span class="mp_address_name">Smith, Bob'
                        '</span> &lt;<a href="mailto:bob@example.com" class="mp_address_email">'
                        "bob@example.com</a>&gt;</span>, "
                        '<span class="mp_address_group"><a href="mailto:carl@example.com" '
                        'class="mp_address_email">carl@example.com</a></span>',
                        "text": '"Smith, Bob" <bob@example.com>, carl@example.com',
                    }
                ],
                "cc": [
                    {
                        "value": [{"address": "dora@example.com", "name": ""}],
                        "html": '<span class="mp_address_group"><a href="mailto:dora@example.com" '
                        'class="mp_address_email">dora@example.com</a></span>',
                        "text": "dora@example.com",
                    }
                ],
                "bcc": [],
                "replyTo": '"Desk" <desk@example.org>',
                "subject": "Grüße",
                "priority": "high",
                "date": "2026-01-05T09:00:00.000Z",
                "attachments": [{"filename": "a.pdf", "size": 12}],
                "text": "Hello\nBob\nHello",
                "html": "<p>Hello<br>\nBob</p>\n<p>Hello</p>",
            },
            "server": {
                "clientHostname": "mail.example.org",
                "remoteAddress": "192.0.2.7",
                "remotePort": 4242,
                "hostNameAppearAs": "client.example",
                "id": "c0ffee",
                "secure": True,
                "transmissionType": "ESMTPSA",
                "username": "ann",
            },
            "storage": {"url": "s3://bucket/key.eml"},
        },
    }


def test_an_independent_reader_takes_it() -> None:
    content = b"Subject: x\r\n\r\nbody\r\n"
    made = envelope(content)
    text = build(made, read_parts(Mail(made, BytesContent(content)), "in"), flow="in", max_bytes=MIN_BYTES)
    read = from_json(text)
    assert (read["type"], read["id"]) == ("com.loopingz.smtp-relay.v2", made.id)
    assert read.data["email"]["subject"] == "x"


def test_the_envelope_stands_in_for_missing_headers() -> None:
    email = event_of(b"Subject: x\r\n\r\nbody\r\n")["data"]["email"]
    assert email["from"]["value"] == [{"address": "bounce@example.org", "name": ""}]
    assert [box["address"] for to in email["to"] for box in to["value"]] == ["bob@example.com"]
    assert email["cc"] == email["bcc"] == email["attachments"] == []


def test_a_bare_mail_from_the_null_sender() -> None:
    event = event_of(b"", changes={"reverse_path": "", "tls": None, "user": None, "server": ""})
    assert "from" not in event["data"]["email"]
    assert "subject" not in event
    assert event["source"]
    assert event["data"]["server"]["secure"] is False
    assert event["data"]["server"]["username"] == ""


def test_text_is_made_from_html() -> None:
    email = event_of(b"Content-Type: text/html\r\n\r\n<p>One</p><p>Two</p>")["data"]["email"]
    assert email["html"] == "<p>One</p><p>Two</p>"
    assert email["text"] == "One\n\nTwo"


def test_auth_comes_from_the_notes_of_the_flow_or_the_caller() -> None:
    notes = {"in": FlowNotes(results={"spf": {"result": "pass"}, "dkim": [{"result": "fail"}], "other": 1})}
    event = event_of(b"\r\n", changes={"notes": notes})
    assert event["data"]["auth"] == {"spf": {"result": "pass"}, "dkim": [{"result": "fail"}]}
    given_auth = event_of(b"\r\n", changes={"notes": notes}, auth={"arc": "none"})
    assert given_auth["data"]["auth"] == {"arc": "none"}
    assert "auth" not in event_of(b"\r\n")["data"]


def test_text_limit_cuts_texts_and_no_addresses() -> None:
    content = MAIL.replace(b"Hello\r\nBob", b"t" * 500).replace(b"a.pdf", b"f" * 60 + b".pdf")
    email = event_of(content, text_limit=20)["data"]["email"]
    assert email["text"] == "t" * 20
    assert email["html"] == "<p>" + "t" * 17
    assert email["attachments"][0]["filename"] == "f" * 20
    assert email["from"]["value"][0]["address"] == "ann@example.org"


@pytest.mark.parametrize("piece", [b"x", b'"', b"\\", b"\xe2\x82\xac", b"\xf0\x9f\x98\x80", b"\x01"])
def test_long_bodies_fill_the_room_and_no_more(piece: bytes) -> None:
    both = (
        b'Content-Type: multipart/alternative; boundary="b"\r\n\r\n'
        b"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s\r\n"
        b"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n%s\r\n--b--\r\n"
    )
    limit = 100_000
    for text, markup in ((limit, limit), (10, limit), (limit, 10)):
        content = both % (piece * (text // len(piece)), piece * (markup // len(piece)))
        made = envelope(content)
        octets = build(made, read_parts(Mail(made, BytesContent(content)), "in"), flow="in", max_bytes=limit)
        assert limit - 16 <= len(octets) <= limit
        email = json.loads(octets)["data"]["email"]
        assert email["text"]
        assert email["html"]
        assert set(email["text"]) | set(email["html"]) == set(piece.decode())


def test_what_queues_refuse_is_not_sent() -> None:
    content = "Content-Type: text/plain; charset=utf-8\r\n\r\na\ufffe\uffff\U0001fffeb".encode()
    assert event_of(content)["data"]["email"]["text"] == "a\ufffd\ufffd\U0001fffeb"
    assert event_of(b"\r\n", auth={"spf": "\ud800"})["data"]["auth"] == {"spf": "\ufffd"}


def test_a_monstrous_mail_still_fits() -> None:
    name = b'"' + b"\\\\" * 30_000 + b'" <' + b"a" * 30_000 + b"@example.org>"
    many = b",".join(b'"name %d" <x%d@example.org>' % (n, n) for n in range(1900))
    part = b'--b\r\nContent-Disposition: attachment; filename="' + b"f" * 5_000 + b'"\r\n\r\nx\r\n'
    content = (
        b'Content-Type: multipart/mixed; boundary="b"\r\n'
        b"From: " + name + b"\r\nTo: " + many + b"\r\nCc: " + many + b"\r\nBcc: " + name + b"\r\nReply-To: "
        b"" + name + b"\r\nSubject: " + b"s" * 60_000 + b"\r\nMessage-ID: <" + b"m" * 60_000 + b">\r\n"
        b"\r\n--b\r\n\r\n" + b"text " * 50_000 + b"\r\n" + part * 900 + b"--b--\r\n"
    )
    auth = {"dkim": [{"domain": "d" * 1000, "reason": "\x01" * 1000}] * 2000}
    changes = {"helo": "h" * 500, "user": "\x01" * 10_000}
    for max_bytes in (MIN_BYTES, 262_144, 1_048_576):
        event = event_of(content, max_bytes, auth=auth, changes=changes, storage_url="s3://b/" + "k" * 1024)
        assert event["data"]["email"]["text"].startswith("text text")
        assert event["data"]["email"]["to"][0]["value"][0]["address"] == "x0@example.org"


def test_too_little_room_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="below"):
        event_of(MAIL, MIN_BYTES - 1)


@settings(max_examples=150)
@given(st.binary(max_size=400), st.text(max_size=30), st.integers(0, 50))
def test_any_mail_has_an_event(content: bytes, user: str, limit: int) -> None:
    for octets in (content, MAIL[:600] + content, b"From: " + content + b"\r\nDate: " + content):
        event = event_of(octets, MIN_BYTES, text_limit=limit, changes={"user": user})
        assert event["type"] == "com.loopingz.smtp-relay.v2"
        for field in ("to", "cc", "bcc", "attachments"):
            assert isinstance(event["data"]["email"][field], list)
        if (date := event["data"]["email"].get("date")) is not None:
            datetime.fromisoformat(date)


def test_a_small_multiple_of_what_an_event_holds_is_read() -> None:
    assert limits_for(1_048_576).text == 1_048_576
    assert limits_for(10_000_000, 8_192).text == 262_144
    assert limits_for(10_000_000, 1_000_000).text == 4_000_000
    assert limits_for(1_048_576, 50_000_000).text == 1_048_576
