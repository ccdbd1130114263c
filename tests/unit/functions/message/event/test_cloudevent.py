from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cloudevents.http import from_json
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.ids import uuid7
from functions.message.envelope import Client, Envelope, FlowNotes, Recipient, Tls
from functions.message.envelope import from_json as from_json_envelope
from functions.message.event.cloudevent import MIN_BYTES, MOST_TEXT, build, limits_for
from functions.message.event.objects import Digest, StoredMail, StoredObject
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


STORED = StoredMail({"raw": StoredObject("s3://bucket/key.eml", "bucket", "key.eml", Digest(12, "ab"))})


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
    event = event_of(MAIL, stored=STORED)
    assert uuid7(1_767_600_000_123)[:13] == event.pop("id")[:13]
    assert event == {
        "specversion": "1.0",
        "type": "com.loopingz.smtp-relay.v2",
        "source": "198.51.100.2",
        "subject": "<m1@example.org>",
        "time": "2026-01-05T08:00:00.123Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:smtp-relay:v2:cloudevent.schema.json#/$defs/EventData",
        "data": {
            "flow": "in",
            "size": len(MAIL),
            "envelope": {"from": "bounce@example.org", "to": ["bob@example.com"], "parameters": []},
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
                "messageId": "<m1@example.org>",
                "references": [],
                "headers": [
                    {"name": "From", "value": "Ann <ann@example.org>"},
                    {"name": "To", "value": '"Smith, Bob" <bob@example.com>, carl@example.com'},
                    {"name": "Cc", "value": "dora@example.com"},
                    {"name": "Reply-To", "value": "Desk <desk@example.org>"},
                    {"name": "Subject", "value": "Grüße"},
                    {"name": "Date", "value": "Mon, 05 Jan 2026 10:00:00 +0100"},
                    {"name": "Message-ID", "value": "<m1@example.org>"},
                    {"name": "X-Priority", "value": "1"},
                    {"name": "MIME-Version", "value": "1.0"},
                    {"name": "Content-Type", "value": 'multipart/mixed; boundary="b"'},
                ],
                "attachments": [
                    {
                        "filename": "a.pdf",
                        "size": 12,
                        "contentType": "application/pdf",
                        "sha256": hashlib.sha256(b"x" * 12).hexdigest(),
                    }
                ],
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
            "storage": {
                "url": "s3://bucket/key.eml",
                "bucket": "bucket",
                "key": "key.eml",
                "size": 12,
                "sha256": "ab",
            },
            "truncated": {"fields": [], "rest": "s3://bucket/key.eml"},
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


def test_a_large_event_is_made_as_a_small_one() -> None:
    line = 'a\ufffe\uffff\U0001f600"\\\t\x01 \u00e9\r\n'
    small, large = (
        event_of(
            b"Subject: \xc3\xa9\xef\xbf\xbf\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n"
            + line.encode() * count,
            10_000_000,
        )["data"]["email"]
        for count in (10, 100_000)
    )
    assert large.pop("text").rstrip("\n") == "\n".join([small.pop("text").split("\n")[0]] * 100_000)
    assert large == small


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
    recipients = tuple(Recipient(address=f"{n}@{'d' * 240}.example", flows=("in",)) for n in range(1_000))
    changes = {"helo": "h" * 500, "user": "\x01" * 10_000, "recipients": recipients}
    where = StoredObject("s3://b/" + "k" * 1024, "b", "k" * 1024, Digest(1, "a" * 64))
    stored = StoredMail({"raw": where, "manifest": where}, dict.fromkeys(range(900), where))
    for max_bytes in (MIN_BYTES, 262_144, 1_048_576):
        event = event_of(content, max_bytes, auth=auth, changes=changes, stored=stored)
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


# -- additions to the events of version 3.0 -----------------------------------------------------

# The bodies of a multipart/mixed are those of today: all of its texts are read, where 3.0 read the first.
EVENTS = Path(__file__).parents[2] / "golden" / "events-3.0.json"
BEFORE: list[dict[str, Any]] = json.loads(EVENTS.read_text(encoding="utf-8"))


def lost(before: Any, now: Any, place: str = "event") -> list[str]:
    """The places whose name, type or value is not what it was; new names do not count."""
    if isinstance(before, dict) and isinstance(now, dict):
        gone = [f"{place}.{name}" for name in before if name not in now]
        both = ((name, value) for name, value in before.items() if name in now)
        return gone + [each for name, value in both for each in lost(value, now[name], f"{place}.{name}")]
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        pairs = enumerate(zip(before, now, strict=True))
        return [each for n, (old, new) in pairs for each in lost(old, new, f"{place}[{n}]")]
    return [] if type(before) is type(now) and before == now else [place]


@pytest.mark.parametrize("case", BEFORE, ids=[case["name"] for case in BEFORE])
def test_everything_that_an_event_of_3_0_says_is_still_there(case: dict[str, Any]) -> None:
    content = base64.b64decode(case["mail"])
    options = dict(case["options"])
    url = options.pop("storage_url", None)
    stored = None if url is None else StoredMail({"raw": StoredObject(url, "bucket", "in/key.eml")})
    read = from_json_envelope(json.dumps(case["envelope"]))
    parts = read_parts(Mail(read, BytesContent(content)), "in")
    now = json.loads(build(read, parts, flow="in", stored=stored, **options))
    cut = {each["field"] for each in now["data"]["truncated"]["fields"]}
    for body in ("text", "html"):
        before = case["event"]["data"]["email"].get(body)
        if before is not None and f"email.{body}" in cut:
            # Where the room decides, new fields take some of it.
            shown = now["data"]["email"][body]
            assert before.startswith(shown)
            case["event"]["data"]["email"][body] = shown
    assert lost(case["event"], now) == []


def test_the_comparison_finds_what_is_lost() -> None:
    before = {"a": {"b": [1, {"c": "x"}], "d": True}}
    assert lost(before, {"a": {"b": [1, {"c": "x", "new": 1}], "d": True, "e": 1}, "f": []}) == []
    assert lost(before, {"a": {"b": [1, {"c": "y"}], "d": 1}}) == ["event.a.b[1].c", "event.a.d"]
    assert lost(before, {"a": {"b": [1], "d": True}}) == ["event.a.b"]
    assert lost(before, {"a": {"b": [1, {}]}}) == ["event.a.d", "event.a.b[1].c"]


# -- what was cut -------------------------------------------------------------------------------


def cuts_of(event: dict[str, Any]) -> dict[str, tuple[int, int]]:
    return {each["field"]: (each["kept"], each["total"]) for each in event["data"]["truncated"]["fields"]}


def test_every_list_is_present_in_the_event_of_an_empty_mail() -> None:
    data = event_of(b"")["data"]
    assert data["envelope"]["parameters"] == data["truncated"]["fields"] == []
    for name in ("bcc", "cc", "references", "headers", "attachments"):
        assert data["email"][name] == []
    assert "rest" not in data["truncated"]


def test_what_was_cut_is_named_with_its_true_count_and_the_place_of_the_rest() -> None:
    content = MAIL.replace(b"Hello\r\nBob", b"t" * 500).replace(b"a.pdf", b"f" * 60 + b".pdf")
    event = event_of(content, text_limit=20, stored=STORED)
    assert cuts_of(event) == {
        "email.attachments.filename": (20, 64),
        "email.text": (20, 506),
        "email.html": (20, 520),
    }
    assert event["data"]["truncated"]["rest"] == "s3://bucket/key.eml"


def test_header_fields_go_before_addresses_and_attachments() -> None:
    many = b",".join(b"u%d@example.org" % n for n in range(100))
    fields = b"".join(b"X-%d: %s\r\n" % (n, b"v" * 500) for n in range(400))
    parts = b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n" * 40
    content = b"Content-Type: multipart/mixed; boundary=b\r\nTo: " + many + b"\r\n" + fields + b"\r\n" + parts
    event = event_of(content, MIN_BYTES)
    kept, total = cuts_of(event).pop("email.headers")
    assert total == 402
    assert kept == len(event["data"]["email"]["headers"]) < 20
    assert len(event["data"]["email"]["to"][0]["value"]) == 100
    assert len(event["data"]["email"]["attachments"]) == 40
    assert set(cuts_of(event)) == {"email.headers"}


def test_without_headers_the_list_is_empty_and_named() -> None:
    event = event_of(MAIL, headers=False)
    assert event["data"]["email"]["headers"] == []
    assert cuts_of(event) == {"email.headers": (0, 10)}


def test_counts_are_true_however_much_is_cut() -> None:
    many = b",".join(b'"name %d" <x%d@example.org>' % (n, n) for n in range(1500))
    fields = b"".join(b"X-%d: %s\r\n" % (n, b"v" * 50) for n in range(2_500))
    parts = b"--b\r\nContent-Type: image/png\r\n\r\nx\r\n" * 900
    references = b"References: " + b" ".join(b"<%d@x>" % n for n in range(900)) + b"\r\n"
    content = (
        b"Content-Type: multipart/mixed; boundary=b\r\nTo: " + many + b"\r\n" + references + fields + b"\r\n"
        b"--b\r\n\r\n" + b"word " * 60_000 + b"\r\n" + parts
    )
    recipients = tuple(Recipient(address=f"{n}@example.com", flows=("in",)) for n in range(700))
    found = cuts_of(event_of(content, MIN_BYTES, changes={"recipients": recipients}))
    assert {name: total for name, (_, total) in found.items() if "." not in name.partition(".")[2]} == {
        "envelope.to": 700,
        "email.references": 900,
        "email.headers": 2_503,
        "email.attachments": 900,
        "email.text": 300_000,
    }
    assert found["email.to.value"] == (min(found["email.to.value"][0], 1499), 1500)


def test_more_than_the_reader_reads_is_said() -> None:
    content = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
        + b"--b\r\nContent-Type: a/b\r\n\r\nx\r\n" * 3_000
    )
    named = {each["field"]: each for each in event_of(content)["data"]["truncated"]["fields"]}
    assert named["email.attachments"]["atLeast"] is True


def test_a_reply_shows_what_its_author_wrote() -> None:
    quoted = b"Thanks!\r\n\r\nOn Mon, Jan 5, 2026 at 10:00 Ann <ann@example.org> wrote:\r\n> Hello\r\n"
    head = b"Subject: Re: x\r\nIn-Reply-To: <m1@example.org>\r\n\r\n"
    email = event_of(head + quoted)["data"]["email"]
    assert (email["replyText"], email["inReplyTo"]) == ("Thanks!", "<m1@example.org>")
    assert "replyText" not in event_of(head + b"Thanks!\r\n")["data"]["email"]
    cut = event_of(head + b"long " * 100 + quoted, text_limit=10)
    assert cut["data"]["email"]["replyText"] == "long long "
    assert cuts_of(cut)["email.replyText"] == (10, 507)


def test_a_small_multiple_of_what_an_event_holds_is_read() -> None:
    assert limits_for(1_048_576).text == 1_048_576
    assert limits_for(10_000_000, 8_192).text == 262_144
    assert limits_for(10_000_000, 500_000).text == 2_000_000
    assert limits_for(1_048_576, 50_000_000).text == 1_048_576
    assert limits_for(10_000_000, 10_000_000).text == MOST_TEXT
