"""Reading DATA, against a slow oracle that sees the whole stream, at every cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listener.smtp.data import END, DataReader, Flaw

MAX = 65_536

PIECES = st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"a", b"\r\n.", b"..", b"text", b"\0", b"\xff"])
STREAMS = st.lists(PIECES, max_size=14).map(b"".join).map(lambda body: body + b"\r\n.\r\nREST\r\n")


def oracle(stream: bytes) -> tuple[bytes, bytes]:
    """RFC 5321 section 4.5.2 on the whole stream, then the repair of line ends."""
    text = b"\r\n" + stream
    end = text.find(END)
    body = text[: end + 2].replace(b"\r\n.", b"\r\n")[2:]
    body = re.sub(rb"\r(?!\n)", b" ", body)
    return re.sub(rb"(?<!\r)\n", b"\r\n", body), text[end + 5 :]


def read(chunks: list[bytes], reader: DataReader) -> tuple[bytes, bytes]:
    out = b""
    for chunk in chunks:
        if reader.rest is None:
            out += reader.feed(chunk)
        else:
            reader.rest += chunk
    assert reader.rest is not None
    return out, reader.rest


@settings(max_examples=400)
@given(STREAMS)
def test_every_cut_gives_what_the_whole_gives(stream: bytes) -> None:
    want = oracle(stream)
    for cut in range(len(stream) + 1):
        assert read([stream[:cut], stream[cut:]], DataReader("normalize", MAX)) == want
    assert read([bytes([octet]) for octet in stream], DataReader("normalize", MAX)) == want


@given(STREAMS)
def test_what_comes_out_has_no_bare_line_end(stream: bytes) -> None:
    mail, _ = read([stream], DataReader("normalize", MAX))
    assert b"\r" not in mail.replace(b"\r\n", b"")
    assert b"\n" not in mail.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    "ending", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r\n", b"\r\n.\r", b"\r.\n", b"\r\n\0.\r\n"]
)
@pytest.mark.parametrize("mode", ["normalize", "refuse"])
def test_only_crlf_dot_crlf_ends_a_mail(ending: bytes, mode: str) -> None:
    stream = b"Subject: one\r\n\r\nbody" + ending + b"MAIL FROM:<smuggled@x>\r\n"
    for cut in range(len(stream)):
        reader = DataReader(mode, MAX)  # type: ignore[arg-type]
        reader.feed(stream[:cut])
        reader.feed(stream[cut:])
        assert reader.rest is None, (ending, cut)


@pytest.mark.parametrize(
    ("mail", "flaw"),
    [
        (b"a\nb\r\n", Flaw.BARE),
        (b"a\rb\r\n", Flaw.BARE),
        (b"a\0b\r\n", Flaw.NUL),
        (b"a" * 70_000 + b"\r\n", Flaw.LINE),
        (b"fine\r\n" * 20_000, None),
    ],
)
@pytest.mark.parametrize("size", [1 << 20, 4_096, 999])
def test_flaws(mail: bytes, flaw: Flaw | None, size: int) -> None:
    reader = DataReader("refuse", MAX)
    stream = mail + b".\r\n"
    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size])
    assert (reader.rest, reader.flaw) == (b"", flaw)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=20), st.integers(1, 50))
def test_the_longest_line_is_found_however_it_is_cut(lines: list[int], size: int) -> None:
    limit = 200
    stream = b"".join(b"x" * length + b"\r\n" for length in lines) + b".\r\n"
    reader = DataReader("normalize", limit)
    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size])
    too_long = any(length + 2 > limit for length in lines)
    assert (reader.flaw is Flaw.LINE) == too_long


def test_an_empty_mail() -> None:
    assert read([b".\r\n"], DataReader("normalize", MAX)) == (b"", b"")
