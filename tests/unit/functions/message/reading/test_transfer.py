"""Transfer encodings, whole and in pieces."""

from __future__ import annotations

import base64
import quopri
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.reading import transfer
from functions.message.reading.transfer import decode_base64, decode_quoted_printable, encoding_of, pieces

NOISE = random.Random(2045)


@given(st.binary(max_size=2_000))
def test_what_was_encoded_is_decoded(data: bytes) -> None:
    assert decode_base64(base64.encodebytes(data)) == data
    assert decode_base64(base64.urlsafe_b64encode(data).rstrip(b"=")) == data
    encoded = quopri.encodestring(data.replace(b"\n", b""), quotetabs=True)
    assert decode_quoted_printable(encoded) == data.replace(b"\n", b"")


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 7, 64, 1_000])
@pytest.mark.parametrize("width", [57, 58, 59])
def test_pieces_of_any_size_give_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch, chunk: int, width: int
) -> None:
    monkeypatch.setattr(transfer, "CHUNK", chunk)
    data = NOISE.randbytes(700)
    text = base64.b64encode(data)
    folded = b"\r\n".join(text[at : at + width] for at in range(0, len(text), width))
    assert b"".join(pieces(folded, 0, len(folded), "base64")) == data
    quoted = quopri.encodestring(data).replace(b"\n", b"\r\n")
    if chunk > 60:  # a line of blanks alone is cut anywhere
        whole = decode_quoted_printable(quoted)
        assert b"".join(pieces(quoted, 0, len(quoted), "quoted-printable")) == whole
    assert b"".join(pieces(data, 5, 600, "8bit")) == data[5:600]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        *(("Base64 (x)", "base64"), ("(x) '8bit';", "8bit"), ("(a (b) c) base64 (d", "base64")),
        *(("", ""), ("(((", ""), ("x-uue", "x-uuencode")),
    ],
)
def test_names(value: str, name: str) -> None:
    assert encoding_of(value) == name


@pytest.mark.parametrize(
    "hostile", [b"=", b"AA=", b" ", b"= ", b"==", b"=\r\n", b"-", b"\n", b"begin 644 x\n"]
)
def test_hostile_data_takes_linear_time(hostile: bytes) -> None:
    data = hostile * 100_000
    for encoding in ("base64", "quoted-printable", "x-uuencode"):
        assert sum(map(len, pieces(data, 0, len(data), encoding))) <= len(data)
