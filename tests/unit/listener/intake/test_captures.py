"""The common limits of all arriving mails: memory and disk space."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.ids import uuid7
from functions.message.headers import HeaderEdits
from listener.api.session import Session, Transaction
from listener.intake.capture import NO_SPACE, Capture
from listener.intake.captures import Captures, DataRate
from listener.intake.stamp import Intake

MIB = 1 << 20


class Room:
    """A listener's intake with little memory and space."""

    def __init__(self, folder: Path, **limits: int) -> None:
        self.captures = Captures(folder, **limits)
        self.intake = Intake(
            folder,
            HeaderEdits({"X-Added": "yes", "-X-Gone": None}),
            hostname="relay.example",
            received=False,
            max_size=100 * MIB,
            max_header=MIB,
            config_digest="",
            captures=self.captures,
        )

    def begin(self) -> Capture:
        session = Session("s", "25", "192.0.2.1", 1, "[192.0.2.1]", "127.0.0.1:25", helo="h", esmtp=True)
        return self.intake.capture(session, Transaction(uuid7(), "a@b.example"))


def test_headers_that_never_end_stay_within_the_memory(tmp_path: Path) -> None:
    room = Room(tmp_path, max_memory=MIB)
    those = [room.begin() for _ in range(100)]
    for _ in range(200):
        for one in those:
            one.feed(b"X-Field: value\r\n" * 100)
        assert room.captures.memory <= MIB
    assert all(one.failure is None for one in those), "they are in the folder"
    assert room.captures.memory + room.captures.space == 100 * 200 * 1600
    for one in those:
        one.discard()
    assert (room.captures.memory, room.captures.space) == (0, 0)
    assert not list(tmp_path.iterdir())


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from(
        [
            b"",
            b"Subject: x\r\n",
            b"Subject: x\r\nX-Gone: 1\r\n\tfolded\r\n" + b"Y: z\r\n" * 3000,
            b"no header\r\n",
        ]
    ),
    st.sampled_from([b"\r\n", b"\r\nbody\r\n", b"\r\n" + b"y" * 200_000, b""]),
    st.integers(1, 50_000),
    st.randoms(use_true_random=False),
)
def test_leaving_memory_changes_nothing_of_a_mail(
    tmp_path: Path, head: bytes, rest: bytes, piece: int, chance: random.Random
) -> None:
    """Whenever it happens, also within the first field's name."""
    mail = head + rest
    plain, squeezed = Room(tmp_path), Room(tmp_path)
    one, other = plain.begin(), squeezed.begin()
    at = 0
    while at < len(mail):
        size = chance.choice([1, 3, 20]) if at < 100 else max(piece, 4_000)
        for each in (one, other):
            each.feed(mail[at : at + size])
        at += size
        if chance.random() < 0.5:
            other.leave_memory()
            assert squeezed.captures.memory <= len(head)
    results = [each.finish() for each in (one, other)]
    other.leave_memory()
    assert (one.failure, other.failure) == (None, None)
    assert results[0][0].read() == results[1][0].read()
    assert results[0][1] == results[1][1] == hashlib.sha256(results[0][0].read()).hexdigest()
    assert (one.head, one.content()) == (other.head, other.content())
    assert b"".join(other.chunks(777)) == mail
    for each in (one, other):
        each.discard()
    assert (squeezed.captures.memory, squeezed.captures.space) == (0, 0)
    assert not list(tmp_path.iterdir())


def test_the_largest_leave_memory_first(tmp_path: Path) -> None:
    """An ordinary mail stays where it is when others fill the memory."""
    room = Room(tmp_path, max_memory=MIB)
    small = room.begin()
    small.feed(b"Subject: small\r\n\r\nx\r\n")
    large = [room.begin() for _ in range(20)]
    for one in large:
        one.feed(b"Subject: large\r\n\r\n" + b"x" * 60_000)
    assert small.memory
    assert not all(one.memory > 1000 for one in large)
    assert small.finish()[0].path is None
    for one in (small, *large):
        one.discard()
    assert not list(tmp_path.iterdir())


def test_mails_that_wait_for_filters_are_in_files_when_memory_is_short(tmp_path: Path) -> None:
    room = Room(tmp_path, max_memory=MIB)
    paths = []
    for _ in range(100):
        one = room.begin()
        one.feed(b"Subject: x\r\n\r\n" + b"x" * 50_000)
        paths.append(one.finish()[0].path)
        assert room.captures.memory <= MIB
    assert None in paths
    assert paths[-1] is not None


def test_above_the_space_of_all_mails_the_slowest_end(tmp_path: Path) -> None:
    room = Room(tmp_path, max_space=4 * MIB)
    idle = [room.begin() for _ in range(8)]
    for one in idle:
        one.feed(b"Subject: x\r\n\r\n" + b"x" * 400_000)
    room.captures.now = 100.0
    for one in idle:
        one.rate = rate(0.0, [(t, one.size) for t in range(0, 101, 5)])
    fast = room.begin()
    fast.feed(b"Subject: x\r\n\r\n")
    for _ in range(30):
        fast.feed(b"x" * 100_000)
    assert fast.failure is None
    ended = [one for one in idle if one.ended]
    assert ended
    assert all(one.failure == NO_SPACE for one in ended)
    assert room.captures.space <= 4 * MIB
    assert not any(path for path in tmp_path.iterdir() if path.stem in {one._name for one in ended})


def test_room_is_made_by_ending_the_slowest_first(tmp_path: Path) -> None:
    room = Room(tmp_path)
    those = [room.begin() for _ in range(5)]
    for number, one in enumerate(those):
        one.feed(b"Subject: x\r\n\r\n" + b"x" * 200_000)
        one.rate = rate(0.0, [(t, t * 1000 * number) for t in range(0, 60, 5)])
        one.size = 60 * 1000 * number
    room.captures.now = 60.0
    assert room.captures.make_room(300_000)
    assert [one.ended for one in those] == [True, True, False, False, False]
    assert not room.captures.make_room(10 * MIB), "there is not that much"
    assert all(one.ended for one in those)
    assert not list(tmp_path.iterdir())


def test_a_mail_that_is_complete_does_not_end_for_others(tmp_path: Path) -> None:
    room = Room(tmp_path)
    one = room.begin()
    one.feed(b"Subject: x\r\n\r\n" + b"x" * 200_000)
    content, _ = one.finish()
    assert not room.captures.make_room(1)
    assert content.read().endswith(b"x")


def test_a_disk_that_cannot_be_written_refuses_the_mail(tmp_path: Path) -> None:
    room = Room(tmp_path / "missing", max_memory=MIB)
    those = [room.begin() for _ in range(3)]
    for _ in range(40):
        for one in those:
            one.feed(b"X: y\r\n" * 2_000)
    assert {one.failure for one in those} == {NO_SPACE}
    assert (room.captures.memory, room.captures.space) == (0, 0)


def rate(began: float, marks: list[tuple[float, int]]) -> DataRate:
    made = DataRate(began)
    for at, size in marks:
        made.mark(at, size)
    return made


class TestDataRate:
    """Each is fed as DATA is: once a second."""

    @staticmethod
    def cut_after(sent: list[int], *, least: int = 100, grace: float = 60.0) -> int | None:
        """The second after which a client is too slow that sends so many bytes in each second."""
        made, size = DataRate(0.0), 0
        for second, count in enumerate(sent, 1):
            size += count
            made.mark(float(second), size)
            if made.too_slow(float(second), size, least=least, grace=grace):
                return second
        return None

    def test_much_at_once_buys_no_time_later(self) -> None:
        cut = self.cut_after([38_000_000] + [0] * 1_000)
        assert cut is not None
        assert cut <= 140

    @pytest.mark.parametrize("rate_sent", [100, 101, 1000])
    def test_enough_is_enough_for_ever(self, rate_sent: int) -> None:
        assert self.cut_after([rate_sent] * 5_000) is None

    @pytest.mark.parametrize("rate_sent", [0, 1, 50, 80])
    def test_too_little_is_cut(self, rate_sent: int) -> None:
        cut = self.cut_after([rate_sent] * 1_000)
        assert cut is not None
        assert cut <= 400

    def test_a_pause_within_the_window_is_fine(self) -> None:
        assert self.cut_after(([10_000] * 10 + [0] * 50) * 20) is None

    def test_a_burst_each_minute_is_fine_and_one_each_ten_minutes_is_not(self) -> None:
        assert self.cut_after(([6_600] + [0] * 59) * 20) is None
        assert self.cut_after(([60_000] + [0] * 599) * 5) is not None

    def test_the_grace_counts_from_the_start_only(self) -> None:
        assert self.cut_after([0] * 100, grace=60.0) == 61
        assert self.cut_after([0] * 100, grace=1.5) == 2
