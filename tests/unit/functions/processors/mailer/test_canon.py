"""Relaxed canonicalization, against dkimpy's and RFC 6376's own words."""

from __future__ import annotations

import hashlib
import itertools
import time

from dkim.canonicalization import Relaxed
from hypothesis import example, given
from hypothesis import strategies as st

from functions.message.canon import RelaxedBody, relaxed_field

LINE = st.lists(st.sampled_from([b" ", b"\t", b"a", b"b ", b"\xe9", b"."])).map(b"".join)
BODY = st.lists(LINE, max_size=12).map(lambda lines: b"".join(line + b"\r\n" for line in lines))


def hashed(*pieces: bytes) -> bytes:
    body = RelaxedBody()
    for piece in pieces:
        body.feed(piece)
    return body.digest()


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@given(BODY, st.lists(st.integers(0, 200), max_size=5))
@example(b" C \r\nD \t E\r\n\r\n\r\n", [])
@example(b"   \r\n\t\r\n", [1, 2])
def test_bodies(body: bytes, cuts: list[int]) -> None:
    # Pieces never end within a CRLF.
    at = sorted({cut for cut in cuts if cut < len(body) and body[cut - 1 : cut + 1] != b"\r\n"})
    edges = [0, *at, len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(edges)]
    assert hashed(*pieces) == sha(Relaxed.canonicalize_body(body))


def test_the_standard_s_example() -> None:
    """RFC 6376 section 3.4.5."""
    assert hashed(b" C \r\nD \t E\r\n\r\n\r\n") == sha(b" C\r\nD E\r\n")
    assert relaxed_field(b"A", b" X\r\n") == b"a:X"
    assert relaxed_field(b"B ", b" Y\t\r\n\tZ  \r\n") == b"b:Y Z"


def test_a_body_of_nothing_is_empty() -> None:
    """RFC 6376 section 3.4.4: no CRLF is added."""
    for body in (b"", b"\r\n", b"\r\n\r\n", b"  \r\n\t\r\n"):
        assert hashed(body) == sha(b"")


def test_a_last_line_without_end_gets_one() -> None:
    assert hashed(b"a") == hashed(b"a\r\n") == hashed(b"a ") == sha(b"a\r\n")


@given(LINE, LINE)
def test_fields(first: bytes, second: bytes) -> None:
    value = b" " + first + b"\r\n " + second + b"\r\n"
    ((name, canonical),) = Relaxed.canonicalize_headers([(b"Subject", value)])
    assert relaxed_field(b"Subject", value) + b"\r\n" == name + b":" + canonical


def test_time_is_linear() -> None:
    """dkimpy takes seconds for 50 KB of this."""
    blanks = b" \t" * 2_500_000
    started = time.process_time()
    assert hashed(blanks + b"x" + blanks + b"\r\n") == sha(b" x\r\n")
    assert hashed(b"\r\n" * 2_500_000 + b"x") == sha(b"\r\n" * 2_500_000 + b"x\r\n")
    relaxed_field(b"a", blanks)
    assert time.process_time() - started < 5
