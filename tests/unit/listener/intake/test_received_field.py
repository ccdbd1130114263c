"""The Received field: its grammar, and that no client can end it."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.envelope import Tls
from listener.intake.received_field import address_literal, mail_date, received_field

FACTS: dict[str, Any] = {
    "helo": "client.example.org",
    "ip": "192.0.2.1",
    "name": "client.example.org",
    "by": "mx.example.net",
    "transmission": "ESMTP",
    "mail_id": "019b7d2a-0000-7000-8000-000000000000",
    "received": 1_767_323_045_678,
}


def test_a_plain_session() -> None:
    assert received_field(**FACTS) == (
        b"Received: from client.example.org (client.example.org [192.0.2.1])\r\n"
        b"\tby mx.example.net with ESMTP id 019b7d2a-0000-7000-8000-000000000000;\r\n"
        b"\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
    )


def test_tls_one_recipient_and_an_ipv6_client_without_name() -> None:
    field = received_field(
        **FACTS
        | {
            "ip": "2001:db8::1",
            "name": "[2001:db8::1]",
            "transmission": "ESMTPSA",
            "tls": Tls(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"),
            "recipient": "bob@example.net",
        }
    )
    assert field == (
        b"Received: from client.example.org ([IPv6:2001:db8::1])\r\n"
        b"\tby mx.example.net with ESMTPSA id 019b7d2a-0000-7000-8000-000000000000\r\n"
        b"\t(version=TLSv1.3 cipher=TLS_AES_256_GCM_SHA384)\r\n"
        b"\tfor <bob@example.net>;\r\n"
        b"\tFri, 02 Jan 2026 03:04:05 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("helo", "shown"),
    [("", b"unknown"), ("[IPv6:::1]", b"[IPv6:::1]"), ("a b (c)", b"a?b??c?"), ("é.example", b"?.example")],
)
def test_the_helo_is_reduced_to_a_domain(helo: str, shown: bytes) -> None:
    assert received_field(**FACTS | {"helo": helo}).startswith(b"Received: from " + shown + b" (")


@pytest.mark.parametrize(
    "recipient", ["a>b@example.org", "a;b@example.org", "é@example.org", "a\r\nb@example.org", ""]
)
def test_a_recipient_that_the_clause_cannot_hold_is_left_out(recipient: str) -> None:
    assert b"for <" not in received_field(**FACTS | {"recipient": recipient})


def test_a_utf8_session_may_name_its_recipient() -> None:
    field = received_field(**FACTS | {"recipient": "é@example.org", "transmission": "UTF8SMTP"})
    assert "for <é@example.org>".encode() in field


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300), st.text(max_size=60))
def test_no_client_value_breaks_the_field(helo: str, name: str, recipient: str, cipher: str) -> None:
    field = received_field(
        **FACTS
        | {
            "helo": helo,
            "name": name,
            "recipient": recipient,
            "transmission": "UTF8SMTPS",
            "tls": Tls(version="TLSv1.3", cipher=cipher),
        }
    )
    lines = field.split(b"\r\n")
    assert lines[-1] == b""
    assert all(line.startswith(b"\t") for line in lines[1:-1])
    assert all(len(line) <= 998 for line in lines)
    assert not any(octet < 32 or octet == 127 for line in lines for octet in line.lstrip(b"\t"))
    assert lines[-2] == b"\tFri, 02 Jan 2026 03:04:05 +0000"


@given(st.integers(0, 4_102_444_800_000))
def test_the_date_is_rfc_5322(ms: int) -> None:
    assert int(parsedate_to_datetime(mail_date(ms)).timestamp()) == ms // 1000


def test_address_literals() -> None:
    assert address_literal("192.0.2.1") == "[192.0.2.1]"
    assert address_literal("2001:db8::1") == "[IPv6:2001:db8::1]"
