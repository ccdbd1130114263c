"""The lines of a connection, however its bytes are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.smtp.connection.stream import MAX_AUTH_LINE, MAX_LINE, MAX_SKIPPED, LineTooLong, Stream

LENGTHS = st.sampled_from([0, 1, 50, MAX_LINE - 3, MAX_LINE - 2, MAX_LINE - 1, MAX_LINE, 9_000, 40_000])


def lines_of(data: bytes, cuts: list[int], *, sasl: bool = False) -> list[bytes | None]:
    """Feed the data in pieces; the lines that come out, None for one that is too long."""
    stream = Stream(None)
    found: list[bytes | None] = []
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(edges):
        stream.append(data[start:end])
        while stream.waiting:
            try:
                line = stream.take_line(sasl=sasl)
            except LineTooLong as error:
                found.append(None if error.ended else b"never ends")
                continue
            if line is None:
                break
            found.append(line)
    assert not stream.waiting
    return found


@given(st.lists(LENGTHS, min_size=1, max_size=6), st.lists(st.integers(0, 300_000), max_size=12))
def test_lines_are_the_same_however_they_are_cut(lengths: list[int], cuts: list[int]) -> None:
    lines = [b"%d" % number * length for number, length in enumerate(lengths)]
    lines = [line[:length] for line, length in zip(lines, lengths, strict=True)]
    data = b"".join(line + b"\r\n" for line in lines)
    wanted = [line if len(line) + 1 < MAX_LINE else None for line in lines]
    assert lines_of(data, cuts) == wanted


@given(st.integers(1, 20_000), st.lists(st.integers(0, 60_000), max_size=12))
def test_an_auth_line_has_its_own_bound(length: int, cuts: list[int]) -> None:
    line = b"A" * length
    assert lines_of(line + b"\r\nQUIT\r\n", cuts, sasl=True) == [
        line if length + 1 < MAX_AUTH_LINE else None,
        b"QUIT",
    ]


@given(st.integers(1, 70_000))
def test_a_line_without_an_end_is_given_up(piece: int) -> None:
    stream = Stream(None)
    for _ in range(MAX_SKIPPED // piece):
        stream.append(b"x" * piece)
        assert stream.take_line(sasl=False) is None
        assert stream.waiting <= MAX_LINE, "the line is not kept"
    stream.append(b"x" * piece)
    with pytest.raises(LineTooLong) as raised:
        stream.take_line(sasl=False)
    assert not raised.value.ended


def test_something_waits_while_a_line_is_skipped() -> None:
    """The stream does not take the next bytes for a command of their own."""
    stream = Stream(None)
    stream.append(b"x" * 5_000)
    assert stream.take_line(sasl=False) is None
    assert stream.waiting
