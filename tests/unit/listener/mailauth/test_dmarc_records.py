"""DMARC policy records (RFC 9989 section 4.7)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.mailauth.policy import MAX_RECORD, Record, parse, weakened


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v=DMARC1; p=reject", Record("reject")),
        ("v=DMARC1;p=none;", Record("none")),
        ("V = DMARC1 ; P = Quarantine", Record("quarantine")),
        (
            "v=DMARC1; p=reject; sp=quarantine; np=none; adkim=s; aspf=s; psd=n; t=y",
            Record("reject", "quarantine", "none", dkim_strict=True, spf_strict=True, psd="n", testing=True),
        ),
        ("v=DMARC1; psd=y; p=none", Record("none", psd="y")),
        # Malformed and unknown tags take their defaults; tags of RFC 7489 are gone.
        ("v=DMARC1; p=reject; adkim=x; aspf=; psd=maybe; t=1; pct=10; ri=5; x=y", Record("reject")),
        ("v=DMARC1; p=reject; p=none", Record("reject")),
        ("v=DMARC1; garbage; p=reject", Record("reject")),
        # Section 4.10.1: without a good p, or with a bad sp or np, p=none if reports go somewhere.
        ("v=DMARC1; rua=mailto:a@b.example", Record("none")),
        ("v=DMARC1; p=refuse; rua=mailto:a@b.example", Record("none")),
        ("v=DMARC1; p=reject; sp=refuse; rua=mailto:a@b.example", Record("none")),
        ("v=DMARC1; p=reject; np=x; rua=nowhere, mailto:a@b.example", Record("none")),
        ("v=DMARC1", Record("none", applies=False)),
        ("v=DMARC1; p=refuse", Record("none", applies=False)),
        ("v=DMARC1; p=reject; sp=refuse; rua=nowhere", Record("none", applies=False)),
    ],
)
def test_records(text: str, expected: Record) -> None:
    assert parse(text.encode()) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v=DMARC2; p=reject",
        "v=dmarc1; p=reject",
        "v=DMARC1p=reject",
        "v=DMARC1 p=reject",
        "p=reject; v=DMARC1",
        " v=DMARC1; p=reject",
        "v=spf1 -all",
        "v=DMARC1; p=reject; x=" + "a" * MAX_RECORD,
    ],
)
def test_what_is_no_record(text: str) -> None:
    assert parse(text.encode()) is None


def test_test_mode() -> None:
    assert [weakened(p) for p in ("reject", "quarantine", "none")] == ["quarantine", "none", "none"]


@given(st.binary(max_size=100))
def test_nothing_raises(tail: bytes) -> None:
    parse(tail)
    assert parse(b"v=DMARC1;" + tail) is not None
