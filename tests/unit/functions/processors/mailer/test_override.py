"""`override`: header edits on bytes, and the envelope that goes with them."""

from __future__ import annotations

import email
import email.policy
from email.message import EmailMessage
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.charset import decode_words
from functions.processors.mailer.options import Override
from functions.processors.mailer.override import Overriding, text_field

HEAD = (
    b"Received: from x\r\nFrom: Ann <ann@client.example>\r\n"
    b"TO: bob@server.example,\r\n carl@server.example\r\n"
    b"Bcc: eve@server.example\r\nSubject: old\r\n folded\r\nX-Mark: one\r\nx-mark: two\r\n"
)


def overriding(**options: Any) -> Overriding:
    return Overriding(Override.model_validate(options))


def parsed(head: bytes) -> EmailMessage:
    return cast(EmailMessage, email.message_from_bytes(head + b"\r\n", policy=email.policy.SMTP))


def test_nothing_asked_for_changes_nothing() -> None:
    edits = overriding()
    assert edits.head(HEAD) is HEAD
    assert (edits.recipients, edits.reverse_path) == (None, None)


def test_recipients() -> None:
    edits = overriding(
        to=["Staging <all@staging.example>", "b@x.example, c@x.example"],
        cc="d@x.example",
        bcc={"name": "E", "address": "e@x.example"},
    )
    assert edits.recipients == (
        "all@staging.example",
        "b@x.example",
        "c@x.example",
        "d@x.example",
        "e@x.example",
    )
    head = edits.head(HEAD)
    assert head.startswith(
        b"To: Staging <all@staging.example>,\r\n b@x.example,\r\n c@x.example\r\nCc: d@x.example\r\n"
    )
    assert head.endswith(HEAD[: HEAD.index(b"TO:")] + HEAD[HEAD.index(b"Subject:") :])
    assert b"eve" not in head
    assert b"e@x.example" not in head


def test_a_copy_for_everybody_once() -> None:
    assert overriding(to=["a@x", "a@x"], cc="a@x").recipients == ("a@x",)


def test_the_sender() -> None:
    edits = overriding(**{"from": '"Relay, Inc." <relay@x.example>'})
    assert edits.reverse_path == "relay@x.example"
    assert edits.recipients is None
    head = parsed(edits.head(HEAD))
    assert head.get_all("from") == ['"Relay, Inc." <relay@x.example>']


def test_other_fields() -> None:
    edits = overriding(
        subject="Dringend: größer",
        replyTo="Hélp <help@x.example>",
        headers={"X-Mark": "new", "List-Id": "<l>"},
    )
    head = edits.head(HEAD)
    assert head.isascii()
    found = parsed(head)
    assert found.get_all("subject") == ["Dringend: größer"]
    assert found["reply-to"] == "Hélp <help@x.example>"
    assert found["reply-to"].addresses[0].display_name == "Hélp"
    assert found.get_all("x-mark") == ["new"]
    assert found["list-id"] == "<l>"
    assert found.get_all("to") == ["bob@server.example, carl@server.example"]


def test_a_field_given_twice_is_written_once() -> None:
    head = overriding(subject="wins", headers={"subject": "loses"}).head(HEAD)
    assert parsed(head).get_all("subject") == ["wins"]


def test_international_addresses_stay_as_they_are() -> None:
    edits = overriding(to="Jörg <jörg@x.example>")
    assert edits.utf8
    assert edits.head(b"").endswith(" <jörg@x.example>\r\n".encode())
    assert not overriding(to="Jörg <j@x.example>").utf8


def test_a_long_name_is_written_in_words_that_every_reader_takes() -> None:
    name = "Größe, " * 50
    lines = overriding(to={"name": name, "address": "a@x.example"}).head(b"").split(b"\r\n")
    assert all(len(word) <= 75 for line in lines for word in line.split()), "RFC 2047 section 2"
    words, _, address = b"".join(lines).removeprefix(b"To: ").rpartition(b" ")
    assert (decode_words(words), address) == (name.strip(), b"<a@x.example>")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"to": "a@x, only a name"}, "to: 'only a name' is not a mail address"),
        ({"headers": {"X": "w" * 1_000}}, "X: a word is longer"),
        ({"headers": {"X" * 100: "v"}}, "header field name"),
        ({"to": []}, "no recipient"),
    ],
)
def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        overriding(**options)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp", "Cs"]), max_size=300)


@given(TEXT)
def test_any_text_comes_back(value: str) -> None:
    field = text_field("Subject", value)
    lines = field.split(b"\r\n")
    assert lines[-1] == b""
    assert all(len(line) <= 998 for line in lines)
    assert all(line[:1] in (b" ", b"\t") and line.strip() for line in lines[1:-1])
    if value.strip().isascii():
        assert field.replace(b"\r\n", b"") == f"Subject: {value.strip()}".encode()
    else:
        assert all(len(line) <= 76 for line in lines), "RFC 2047 section 2"
        assert decode_words(field.partition(b": ")[2].replace(b"\r\n", b"")) == value.strip()
