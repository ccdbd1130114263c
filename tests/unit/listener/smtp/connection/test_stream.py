"""The lines of a connection, however its bytes are cut."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.logs import mail_log
from listener.smtp.connection.stream import (
    MAX_AUTH_LINE,
    MAX_DUE,
    MAX_LINE,
    MAX_SKIPPED,
    Flushes,
    LineTooLong,
    Stream,
)

LENGTHS = st.sampled_from([0, 1, 50, MAX_LINE - 3, MAX_LINE - 2, MAX_LINE - 1, MAX_LINE, 9_000, 40_000])


def unsent(transport: Any) -> Stream:
    """A stream of a loop that never turns."""
    return Stream(transport, Flushes(MagicMock()))


def lines_of(data: bytes, cuts: list[int], *, sasl: bool = False) -> list[bytes | None]:
    """Feed the data in pieces; the lines that come out, None for one that is too long."""
    stream = unsent(None)
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
    stream = unsent(None)
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
    stream = unsent(None)
    stream.append(b"x" * 5_000)
    assert stream.take_line(sasl=False) is None
    assert stream.waiting


class Sent:
    """A transport that notes what is written; with `broken` it raises."""

    def __init__(self, all_sent: list[bytes], *, broken: bool = False) -> None:
        self.all_sent = all_sent
        self.broken = broken
        self.aborted = False

    def write(self, data: bytes) -> None:
        if self.broken:
            raise RuntimeError("the handler is closed")
        self.all_sent.append(data)

    def abort(self) -> None:
        self.aborted = True


def test_replies_of_one_turn_leave_together_after_it_in_order() -> None:
    async def turn() -> tuple[list[bytes], list[bytes]]:
        sent: list[bytes] = []
        flushes = Flushes(asyncio.get_running_loop())
        one, other = Stream(Sent(sent), flushes), Stream(Sent(sent), flushes)
        for stream, reply in ((one, b"a"), (other, b"b"), (one, b"c")):
            stream.write(reply)
            stream.flush()
        before = list(sent)
        await asyncio.sleep(0)
        return before, sent

    assert asyncio.run(turn()) == ([], [b"ac", b"b"])


def test_a_turn_with_many_replies_does_not_keep_the_first_ones() -> None:
    async def turn() -> tuple[int, int]:
        sent: list[bytes] = []
        flushes = Flushes(asyncio.get_running_loop())
        for _ in range(MAX_DUE + 1):
            stream = Stream(Sent(sent), flushes)
            stream.write(b"reply")
            stream.flush()
        before = len(sent)
        await asyncio.sleep(0)
        return before, len(sent)

    assert asyncio.run(turn()) == (MAX_DUE, MAX_DUE + 1)


def test_a_fault_of_one_transport_keeps_no_other_from_sending(caplog: pytest.LogCaptureFixture) -> None:
    async def turn() -> tuple[list[bytes], bool]:
        sent: list[bytes] = []
        flushes = Flushes(asyncio.get_running_loop())
        broken = Sent(sent, broken=True)
        for transport in (broken, Sent(sent)):
            stream = Stream(transport, flushes)
            stream.write(b"reply")
            stream.flush()
        await asyncio.sleep(0)
        return sent, broken.aborted

    assert asyncio.run(turn()) == ([b"reply"], True)
    assert "fault while sending" in caplog.text


def test_a_lost_transport_gets_no_bytes() -> None:
    async def turn() -> list[bytes]:
        sent: list[bytes] = []
        stream = Stream(Sent(sent), Flushes(asyncio.get_running_loop()))
        stream.write(b"reply")
        stream.flush()
        stream.lost()
        stream.write(b"late")
        stream.flush()
        await asyncio.sleep(0)
        return sent

    assert asyncio.run(turn()) == []


def test_a_reply_in_clear_text_leaves_before_tls_begins() -> None:
    clear: list[bytes] = []
    secret: list[bytes] = []
    stream = unsent(Sent(clear))
    stream.write(b"220 ready")
    stream.flush()
    stream.encrypt(Sent(secret))
    stream.write(b"250 later")
    stream.send()
    assert (clear, secret) == ([b"220 ready"], [b"250 later"])


def test_a_fault_of_the_log_keeps_no_reply(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def turn() -> list[bytes]:
        sent: list[bytes] = []
        flushes = Flushes(asyncio.get_running_loop())
        for reply in (b"250 a", b"250 b"):
            stream = Stream(Sent(sent), flushes)
            stream.write(reply)
            stream.flush()
            await asyncio.sleep(0)
        last = Stream(Sent(sent), flushes)
        last.write(b"221 c")
        last.send()
        return sent

    def fail() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(mail_log, "flush", fail)
    assert asyncio.run(turn()) == [b"250 a", b"250 b", b"221 c"]
    assert "fault while logging mails" in caplog.text


def test_the_lines_of_mails_are_written_before_their_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    async def turn() -> list[bytes]:
        order: list[bytes] = []
        monkeypatch.setattr(mail_log, "flush", lambda: order.append(b"log"))
        stream = Stream(Sent(order), Flushes(asyncio.get_running_loop()))
        stream.write(b"250 a")
        stream.flush()
        await asyncio.sleep(0)
        stream.write(b"221 b")
        stream.send()
        return order

    assert asyncio.run(turn()) == [b"log", b"250 a", b"log", b"221 b"]
