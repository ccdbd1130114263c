"""CRLF lines and doubled dots, however the mail is cut."""

from __future__ import annotations

import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from functions.smtp_client.lines import crlf_lines, skipped, stuffed

TEXT = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b" ", b"\x00", b"\xff"])).map(b"".join)


@st.composite
def cut(draw: st.DrawFn, text: st.SearchStrategy[bytes] = TEXT) -> tuple[bytes, list[bytes]]:
    """A text, and itself in pieces (some empty)."""
    whole = draw(text)
    at = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=6)))
    edges = [0, *at, len(whole)]
    return whole, [whole[start:end] for start, end in itertools.pairwise(edges)]


@given(cut())
def test_lines_are_the_same_however_cut_and_hold_no_bare_cr_or_lf(case: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = case
    made = list(crlf_lines(pieces))
    expected = re.sub(rb"\r\n|\r|\n", lambda found: {b"\r": b" "}.get(found[0], b"\r\n"), whole)
    if expected and not expected.endswith(b"\r\n"):
        expected += b"\r\n"
    assert b"".join(made) == expected
    assert all(piece and not piece.startswith(b"\n") and not piece.endswith(b"\r") for piece in made)
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", b"".join(made))


@given(cut(TEXT.map(lambda text: re.sub(rb"[\r\n]+", b"\r\n", text))))
def test_clean_mail_goes_out_unchanged(case: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = case
    made = b"".join(crlf_lines(pieces))
    assert made == whole if whole.endswith(b"\r\n") or not whole else made == whole + b"\r\n"


@given(cut())
def test_a_receiver_reads_the_mail_back(case: tuple[bytes, list[bytes]]) -> None:
    """RFC 5321 section 4.5.2, as the receiving side has it."""
    _, pieces = case
    mail = b"".join(crlf_lines(pieces))
    wire = b"".join(stuffed(crlf_lines(pieces))) + b".\r\n"
    assert _read_back(wire) == mail


@given(cut(TEXT.map(lambda text: re.sub(rb"[\r\n]+", b"\r\n", text))))
def test_dots_are_doubled_at_any_cut(case: tuple[bytes, list[bytes]]) -> None:
    whole, pieces = case
    wire = b"".join(stuffed(pieces)) + b".\r\n"
    assert _read_back(wire) == (whole if whole.endswith(b"\r\n") or not whole else whole + b"\r\n")


def _read_back(wire: bytes) -> bytes:
    lines = wire.split(b"\r\n")
    end = lines.index(b".")
    assert end == len(lines) - 2, "the mail ends early"
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:end])


@given(cut(), st.integers(0, 40))
def test_skipping(case: tuple[bytes, list[bytes]], size: int) -> None:
    whole, pieces = case
    made = list(skipped(pieces, size))
    assert b"".join(made) == whole[size:]


def test_an_empty_mail_has_no_line() -> None:
    assert list(crlf_lines([])) == []
    assert list(stuffed(crlf_lines([b"", b""]))) == []
