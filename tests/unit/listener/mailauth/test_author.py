"""Author domains (RFC 9989 section 5.3.1): none that a reader might see is missed."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.mailauth.authors import MAX_DOMAINS, authors
from listener.mailauth.dkim.fields import HeaderBlock


def domains(*values: bytes) -> tuple[str, ...]:
    head = b"".join(b"From:" + value + b"\r\n" for value in values) + b"To: x@y.example\r\n\r\n"
    return authors(HeaderBlock(head)).domains


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" a@b.example", ("b.example",)),
        (b" <a@B.Example>", ("b.example",)),
        (b' "Doe, Joe" <joe@b.example> ', ("b.example",)),
        (b" Joe Doe\r\n\t<joe@b.example>", ("b.example",)),
        (b' "a@bank.example" <eve@b.example>', ("b.example",)),
        (b" a@bank.example <eve@b.example>", ("b.example",)),
        (b" joe@b.example (Joe <x@c.example>)", ("b.example",)),
        (b" (com(ment)) joe@b.example", ("b.example",)),
        (b' "quoted@local"@b.example', ("b.example",)),
        (b' "a\\"b@x.example" <joe@b.example>', ("b.example",)),
        (b" <@relay.example,@two.example:joe@b.example>", ("b.example", "relay.example", "two.example")),
        (b" a@b.example, c@d.example, e@b.example", ("b.example", "d.example")),
        (b" Friends: a@b.example, <c@d.example>;", ("b.example", "d.example")),
        (b" joe @ b.example", ("b.example",)),
        (b" joe@b.example.", ("b.example",)),
        ("Jörg <j@bücher.example>".encode(), ("xn--bcher-kva.example",)),
        (b" joe@[192.0.2.1]", ()),
        (b" Undisclosed", ()),
        (b" =?utf-8?q?a=40b=2Eexample?= <joe@b.example>", ("b.example",)),
        (b"", ()),
        # Texts that this parser cannot parse and a mail client might:
        (b' "Joe <joe@bank.example>', ("bank.example",)),
        (b" (Joe <joe@bank.example>", ("bank.example",)),
        (b" joe@bank.example Joe", ("bank.example",)),
        (b" <joe@bank.example", ("bank.example",)),
        (b" <joe@bank.example><eve@b.example>", ("bank.example", "b.example")),
        (b" <joe@bank.example@b.example>", ("b.example", "bank.example")),
        # If readers differ, all of their authors count, this parser's first:
        (b" joe@bank.example (c) . b.example", ("bank.example.b.example", "bank.example")),
        (b" joe@bank .example", ("bank.example", "bank")),
        (b" joe@bank(c).example", ("bank.example", "bank")),
        (b" joe@bank.example eve@b.example", ("bank.example", "b.example")),
        (b" joe@bank.example: eve@b.example;", ("bank.example", "b.example")),
        (b" joe@bank.example>", ("bank.example",)),
        (b" =?utf-8?q?x,joe@bank.example,y?= <eve@b.example>", ("b.example", "bank.example")),
        (b" =?utf-8?q?x, joe@bank.example, y?= <eve@b.example>", ("b.example", "bank.example")),
        (b" =?utf-8?q?<joe@bank.example>?= <eve@b.example>", ("b.example", "bank.example")),
        (b" =?utf-8?q?(?= <eve@b.example>, joe@c.example (x)", ("b.example", "c.example")),
        ("Jörg <j@bücher.example>".encode("iso-8859-1"), ("xn--bcher-kva.example",)),
        ("<j@faß.example>".encode(), ("xn--fa-hia.example",)),
        ("<j@mu\u0308nchen\u3002example>".encode(), ("xn--mnchen-3ya.example",)),
        ("<joe@bank.example\u00a0>".encode(), ("bank.example",)),
        (b"<joe@bank.example\x00>", ("bank.example",)),
        (b" <joe@bank.example <eve@b.example>", ("bank.example", "b.example")),
    ],
)
def test_domains(value: bytes, expected: tuple[str, ...]) -> None:
    assert domains(value) == expected


def test_several_fields() -> None:
    assert domains(b" a@b.example", b" c@d.example") == ("b.example", "d.example")


def test_more_than_are_checked() -> None:
    def found(count: int) -> bool:
        head = b"From: " + b",".join(b"a@d%d.example" % n for n in range(count)) + b"\r\n"
        return authors(HeaderBlock(head)).complete

    assert found(MAX_DOMAINS)
    assert not found(MAX_DOMAINS + 1)


@pytest.mark.parametrize(
    "value",
    [
        b" " * 60_000,
        b'"' * 60_000,
        b"<" * 60_000,
        b"<a" * 30_000,
        b'" ' * 30_000,
        b"a@b.example," * 5000,
        b"(" * 60_000,
    ],
)
def test_long_fields_take_little_time(value: bytes) -> None:
    started = time.process_time()
    found = authors(HeaderBlock(b"From: " + value + b"\r\n"))
    assert time.process_time() - started < 0.05
    assert not found.complete or len(value) < 20_000


@given(st.binary(max_size=100))
def test_nothing_raises(value: bytes) -> None:
    domains(value.replace(b"\r\n", b""))
