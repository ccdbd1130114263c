"""The chain of Received fields, read as far as it can be."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.mailauth import received
from listener.mailauth.dkim.fields import HeaderBlock
from listener.mailauth.received import MAX_HOPS, MAX_VALUE, received_chain


def hops(*values: bytes) -> tuple[dict[str, str], ...]:
    return received_chain(HeaderBlock(b"".join(b"Received: " + value + b"\r\n" for value in values)))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            b"from mx.a.example (mx.a.example [192.0.2.1] (may be forged))\r\n\tby mx.b.example (8.17)\r\n"
            b"\twith ESMTPS id ab12 (version=TLSv1.3 (x) y)\r\n\tfor <c@b.example>; "
            b"Mon, 5 Jan 2026 10:00:00 +0000 (UTC)",
            {
                "from": "mx.a.example",
                "by": "mx.b.example",
                "with": "ESMTPS",
                "id": "ab12",
                "for": "<c@b.example>",
                "fromComment": "mx.a.example [192.0.2.1] (may be forged)",
                "date": "Mon, 5 Jan 2026 10:00:00 +0000 (UTC)",
            },
        ),
        (
            b"by 10.0.0.1 with HTTP; Tue, 3 Jan 2017 12:22:54 -0800",
            {"by": "10.0.0.1", "with": "HTTP", "date": "Tue, 3 Jan 2017 12:22:54 -0800"},
        ),
        (b"FROM a BY b", {"from": "a", "by": "b"}),
        (b"from a from b", {"from": "a"}),
        (b"(qmail 123 invoked by uid 0); 5 Jan 2026", {"date": "5 Jan 2026"}),
        (b"nonsense", {}),
        (b"", {}),
        (b"from \xff\x01b by c", {"from": "\ufffdb", "by": "c"}),
        (b"from a (((((( by b", {"from": "a ((((((", "by": "b"}),
    ],
)
def test_hops(value: bytes, expected: dict[str, str]) -> None:
    assert hops(value) == (expected,)


def test_newest_first_and_bounded() -> None:
    found = hops(*(b"by h%d" % n for n in range(100)))
    assert [hop["by"] for hop in found] == [f"h{n}" for n in range(MAX_HOPS)]
    assert len(hops(b"from " + b"x" * 3000)[0]["from"]) == MAX_VALUE


@pytest.mark.parametrize("part", [b"(", b")", b"((a", b"from ", b" ", b"from (", b"\\("])
def test_long_fields_take_little_time(part: bytes) -> None:
    started = time.process_time()
    hops(*[part * (4_096 // len(part))] * MAX_HOPS)
    assert time.process_time() - started < 0.05


@given(st.binary(max_size=200))
def test_nothing_raises(value: bytes) -> None:
    for hop in hops(value.replace(b"\r\n", b"")):
        assert all(text.isprintable() for text in hop.values())


_PARTS = st.sampled_from(
    [
        *(
            b"from",
            b"by",
            b"with",
            b"id",
            b"for",
            b"via",
            b"From",
            b"BY",
            b"(",
            b")",
            b"()",
            b"(a b)",
            b"(a (b))",
        ),
        *(
            b" ",
            b" ",
            b" ",
            b"  ",
            b"\t",
            b";",
            b"; ",
            b"x.example",
            b"<a@b.example>",
            b"ESMTPS",
            b"\xff",
            b"\x01",
        ),
        *(
            b"(mx [192.0.2.1])",
            b"(x;y)",
            b"\x1c",
            b"\x0b",
            b"\r",
            b"\n",
            b"x" * 200,
            b"Mon, 5 Jan 2026 (UTC)",
        ),
    ]
)
_USUAL = st.lists(_PARTS, max_size=3).map(b"".join)


@given(st.lists(_PARTS, max_size=24).map(b"".join))
def test_the_usual_form_is_read_as_any_other(value: bytes) -> None:
    assert received._hop(value) == received._any_hop(value)


@given(st.lists(st.tuples(st.sampled_from([b" ", b"\t ", b""]), _USUAL), min_size=6, max_size=6))
def test_variants_of_the_usual_form_are_read_as_any_other(parts: list[tuple[bytes, bytes]]) -> None:
    a, b, c, d, e, f = [blank + text for blank, text in parts]
    for value in (
        b"from x%b (c%b) by y%b with z%b id w%b; D%b" % (a, b, c, d, e, f),
        b"from x by y%b (n%b) with z (%b) id w%b for q%b;%b" % (a, b, c, d, e, f),
    ):
        assert received._hop(value) == received._any_hop(value)


def test_most_fields_have_the_usual_form() -> None:
    value = (
        b"from mta7.client.example (mta7.client.example [192.0.2.7]) by mx.client.example (Postfix) with"
        b" ESMTPS id 4XyZ1234\tfor <bob@receiver.example>; Mon,  5 Jan 2026 10:00:00 +0000 (UTC)"
    )
    assert received._USUAL.fullmatch(value.decode()) is not None
    assert received._hop(value) == received._any_hop(value)
