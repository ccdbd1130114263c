"""The attributes by which subscribers filter messages."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.envelope import Recipient
from functions.message.event.attributes import attributes_of
from functions.message.mail import BytesContent, Mail
from functions.message.mime import read_parts
from tests.support.mails.spooled import MAIL, envelope_of

NAMES: Final = (
    "smtp-relay-flow",
    "smtp-relay-from-domain",
    "smtp-relay-to-domain",
    "smtp-relay-dmarc",
    "smtp-relay-id",
)


def attributes(
    content: bytes = b"From: ada@Example.com\r\n\r\n", flow: str = "in", **about: Any
) -> dict[str, str]:
    envelope = envelope_of(content, flows=(flow,), **about)
    return attributes_of(envelope, read_parts(Mail(envelope, BytesContent(content)), flow), flow)


def test_all_of_them() -> None:
    results = {"dmarc": {"result": "fail"}}
    found = attributes(recipients=["bob@EXAMPLE.net", "eve@example.net."], results=results)
    assert tuple(found) == NAMES
    assert list(found.values())[:4] == ["in", "example.com", "example.net", "fail"]


def test_what_is_not_known_is_left_out() -> None:
    assert set(attributes(b"\r\n", reverse_path="")) == {NAMES[0], NAMES[2], NAMES[4]}


def test_the_senders_domain_is_that_of_the_author_and_else_of_the_reverse_path() -> None:
    assert (
        attributes(b"From: a@author.example\r\n\r\n", reverse_path="b@bounce.example")[NAMES[1]]
        == "author.example"
    )
    assert attributes(b"Subject: x\r\n\r\n", reverse_path="b@bounce.example")[NAMES[1]] == "bounce.example"


def test_several_domains_are_none() -> None:
    assert NAMES[2] not in attributes(recipients=["a@one.example", "b@two.example"])
    assert NAMES[1] not in attributes(b"From: a@one.example, b@two.example\r\n\r\n")
    assert NAMES[2] not in attributes(recipients=["a@one.example", "b@[192.0.2.1]"])


def test_only_the_recipients_of_the_flow_count() -> None:
    recipients = (
        Recipient(address="a@one.example", flows=("in",)),
        Recipient(address="b@two.example", flows=("other",)),
    )
    envelope = envelope_of().model_copy(update={"recipients": recipients})
    parts = read_parts(Mail(envelope, BytesContent(MAIL)), "in")
    assert attributes_of(envelope, parts, "in")[NAMES[2]] == "one.example"


@pytest.mark.parametrize(
    ("domain", "shown"),
    [
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("MÜNCHEN。example", "xn--mnchen-3ya.example"),
        ("[192.0.2.1]", None),
        ("a b.example", None),
        ("-.example", None),
        ("x" * 300 + ".example", None),
        ("☃\u200f.example", None),
        ("localhost", "localhost"),
        ("", None),
    ],
)
def test_domains_are_a_labels_or_left_out(domain: str, shown: str | None) -> None:
    found = attributes(f"From: <ann@{domain}>\r\n\r\n".encode(), recipients=[f"bob@{domain}"])
    assert found.get(NAMES[2]) == shown


def test_a_long_flow_is_cut_between_characters() -> None:
    assert attributes(flow="ä" * 200)[NAMES[0]] == "ä" * 128


@given(st.text(max_size=80), st.text(max_size=80))
def test_whatever_strangers_write_gives_values_that_every_service_takes(sender: str, domain: str) -> None:
    found = attributes(f"From: {sender}\r\n\r\n".encode("utf-8", "replace"), reverse_path=f"x@{domain}")
    for name in NAMES[1:4]:
        value = found.get(name, "a")
        assert value.isascii()
        assert value.isprintable()
        assert 0 < len(value) <= 256
        assert "@" not in value
