"""Where a mail's fields end."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from functions.message.reading.block import read_block
from functions.message.reading.structure import own_delimiter

HEAD = b"A: 1\r\nB: 2\r\n 3\r\n"


def test_fields_and_body() -> None:
    data = HEAD + b"\r\nbody"
    assert read_block(data, 0, len(data), most=1_000) == (HEAD, len(HEAD) + 2)
    assert read_block(b"\r\nbody", 0, 6, most=1_000) == (b"", 2)
    assert read_block(b"body", 0, 4, most=1_000) == (b"", 0)
    assert read_block(data, 0, len(data), most=4)[0] == b"A: 1"


def test_other_bare_line_ends_end_no_line() -> None:
    data = b"A: 1\nB: 2\rC: 3\r\n\r\n"
    assert read_block(data, 0, len(data), most=1_000) == (data[:-2], len(data))


def test_a_header_of_many_pieces_takes_no_more_memory_than_is_kept() -> None:
    for line in (b"\xef\xbb\xbfA:\r\n", b"\x00Bcc:\r\nA:\r\n"):
        data = b"A:\r\n" + line * 20_000
        tracemalloc.start()
        try:
            head, body = read_block(data, 0, len(data), most=1_000)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (head, body) == (b"A:\r\n" * 250, len(data))
        assert peak < 200_000


pieces = st.sampled_from(
    [b"A: 1", b"\r\n", b"\n", b"\r", b" ", b"--b", b":", b"\xef\xbb\xbf", b"From ", b"x", b"B:" + b"y" * 99]
)


@given(st.lists(pieces, max_size=30).map(b"".join), st.integers(0, 9))
def test_any_start_is_read(data: bytes, start: int) -> None:
    start = min(start, len(data))
    head, body = read_block(data, start, len(data), most=64, is_delimiter=own_delimiter)
    assert len(head) <= 64
    assert start <= body <= len(data)
