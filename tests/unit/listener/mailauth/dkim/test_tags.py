"""Tag lists (RFC 6376 section 3.2)."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.mailauth.dkim import tags


def test_white_space_around_everything() -> None:
    assert tags.parse(b" a = 1 ;\r\n\tb=2 3 ; c=") == {b"a": b"1", b"b": b"2 3", b"c": b""}
    assert tags.parse(b"a=1;\r\n ") == {b"a": b"1"}
    assert tags.parse(b"") == {}
    assert tags.parse(b"A=1;a=2") == {b"A": b"1", b"a": b"2"}
    assert tags.parse("a=straße".encode()) == {b"a": "straße".encode()}


@pytest.mark.parametrize(
    "text",
    [
        b"a",
        b"a=1;;b=2",
        b"a=1;a=2",
        b"1a=2",
        b"a!=2",
        b"_a=2",
        b"=2",
        b"a b=2",
        b"a=\x00",
        b"a=\x01;b=2",
        b"a=1;" * 100,
    ],
)
def test_malformed(text: bytes) -> None:
    with pytest.raises(tags.TagError):
        tags.parse(text)


def test_octets() -> None:
    assert tags.octets(b" aGk=\r\n\t", "b") == b"hi"
    assert tags.octets(b"a G\r\n k\t=", "b") == b"hi"
    for bad in (b"", b" ", b"aGk", b"aGk==", b"a*k=", b"aGk=aGk=", b"=", "ä".encode()):
        with pytest.raises(tags.TagError, match="b="):
            tags.octets(bad, "b")


def test_numbers() -> None:
    assert tags.number(b" 1 2\r\n 3", "t") == 123
    assert tags.number(b"9" * 76, "x") == 10**76 - 1
    for bad in (b"", b"-1", b"+1", b"1.0", b"0x1", b"9" * 77, "١".encode()):
        with pytest.raises(tags.TagError, match="l="):
            tags.number(bad, "l")


@given(st.binary(max_size=200))
def test_only_tag_errors(text: bytes) -> None:
    for read in (tags.parse, lambda t: tags.octets(t, "b"), lambda t: tags.number(t, "l")):
        with contextlib.suppress(tags.TagError):
            read(text)
