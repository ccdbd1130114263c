"""xtext, both ways (RFC 3461 section 4)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.smtp.address import decode_xtext, printable


def encode_xtext(text: str) -> str:
    return "".join(
        chr(byte) if 33 <= byte <= 126 and byte not in b"+=" else f"+{byte:02X}" for byte in text.encode()
    )


@given(st.text())
def test_there_and_back(text: str) -> None:
    octets = encode_xtext(text)
    assert octets.isascii()
    assert "=" not in octets
    assert not any(one <= " " for one in octets)
    assert decode_xtext(octets) == text


@pytest.mark.parametrize(
    ("xtext", "text"), [("", ""), ("abc", "abc"), ("a+2Bb+3Dc", "a+b=c"), ("+c3+A9", "é"), ("+20", " ")]
)
def test_decoding(xtext: str, text: str) -> None:
    assert decode_xtext(xtext) == text


@pytest.mark.parametrize("text", ["a b", "a=b", "+", "+4", "+GG", "a+", "é", "\x7f", "a\n", "+FF"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        decode_xtext(text)
    assert not printable(text)


def test_printable() -> None:
    assert printable("QQ314159+20x")
    assert not printable("a+0Ab")
    assert not printable("+C3+A9")
