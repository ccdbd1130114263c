"""The senders that a header names; what the server refuses before is judged here too."""

from __future__ import annotations

import random
import time
from typing import Final

import pytest

from functions.message.headers import HeaderEdits
from listener.filters.sending import senders
from listener.filters.sending.senders import senders_of


@pytest.mark.parametrize(
    "head",
    [
        b"From: ann@example.com\x00 <bob@victim.example>\r\n",
        b"From: ann@example.com\x00bob@victim.example\r\n",
        b"From: a <ann@example.com>\r\nFrom\x00: bob@victim.example\r\n",
        b"Subject: x\rFrom: bob@victim.example\r\nFrom: ann@example.com\r\n",
        b"Subject: x\nFrom: bob@victim.example\r\nFrom: ann@example.com\r\n",
        b"From: ann@example.com\r\nSender:\xc2\xa0bob@victim.example\r\n",
        b"From: ann@example.com\r\n\xef\xbb\xbfSender: bob@victim.example\r\n",
        b"From: bob @ victim.example <ann@example.com>\r\n",
        b"From: bob (x) @ victim.example <ann@example.com>\r\n",
        b"From: bob\r\n @victim.example <ann@example.com>\r\n",
        b"From: bob@ victim . example <ann@example.com>, Ann <ann@example.com>\r\n",
        b'From: "bob" @ victim.example <ann@example.com>\r\n',
        b"From: ann@example.com\r\nSender: bob @ victim.example <ann@example.com>\r\n",
        b"",
        b"\r\n",
    ],
)
def test_a_header_names_every_possible_sender_or_is_a_fault(head: bytes) -> None:
    found = senders_of(head)
    assert found.fault or any("bob" in address for _, address in found.addresses)


def test_the_field_that_names_a_sender_is_told() -> None:
    head = b"From: Ann <ann@example.com>\r\nResent-Sender: bob@example.com\r\n"
    assert senders_of(head).addresses == (("From", "ann@example.com"), ("Resent-Sender", "bob@example.com"))


@pytest.mark.parametrize(
    "name",
    [b'"Jane @ Shop.example"', b"Help @ Shop", b"=?utf-8?q?Jane_=40_Shop.x?="],
)
def test_an_at_sign_in_a_displayed_name_is_no_address(name: bytes) -> None:
    head = b"From: " + name + b" <ann@example.com>\r\n"
    assert senders_of(head).addresses == (("From", "ann@example.com"),)


def test_one_field_alone_is_read_as_among_others() -> None:
    for value in (b"Ann <ann@example.com>", b"x@y.example, z@y.example", b"Team:;", b'"a@b.c" <d@e.f>', b""):
        alone = b"From: " + value + b"\r\n"
        assert senders_of(alone) == senders_of(b"Subject: x\r\n" + alone + b"X: y\r\n")
        assert senders_of(alone) == senders_of(HeaderEdits().added(alone) + alone)


@pytest.mark.parametrize(
    "head",
    [
        b"From: " + b"(" * 200_000 + b"\r\n",
        b"From: " + b'"' * 200_001 + b"\r\n",
        b"From: " + b"a@b " * 50_000 + b"\r\n",
        b"From: x\r\n" * 20_000,
        b"From: " + b"=?utf-8?q?" * 20_000 + b"\r\n",
        b"Sender: " + b"a@" * 100_000 + b"\r\nFrom: a@b\r\n",
        b"From: " + b"\r\n x" * 50_000 + b"\r\n",
        b"From: " + b"<a @ " * 50_000 + b"\r\n",
    ],
)
def test_a_header_of_a_stranger_is_read_in_little_time(head: bytes) -> None:
    began = time.process_time()
    assert senders_of(head).fault
    assert time.process_time() - began < 1.0


LINES: Final = (
    b"From: Ann <ann@example.com>\r\n",
    b"from: ann@example.com,\r\n bob@example.com\r\n",
    b"From : ann@example.com\r\n",
    b"From\r\n : bob@victim.example\r\n",
    b"\x01From: bob@victim.example\r\n",
    b"\xc2\xa0From: bob@victim.example\r\n",
    b"\xef\xbb\xbfFrom: bob@victim.example\r\n",
    b"Sender: bob@victim.example\r\n",
    b"Resent-From: bob@victim.example\r\n",
    b"Resent-Sender\t: bob@victim.example\r\n",
    b"X-From: bob@victim.example\r\n",
    b"Subject: a\r\n From: bob@victim.example\r\n",
    b"Subject: a\nFrom: bob@victim.example\r\n",
    b"Subject: a\rFrom: bob@victim.example\r\n",
    b"Subject: a\rb\nc\r\n",
    b"Received: from a.example by b.example\r\n",
    b"DKIM-Signature: h=from:sender; b=x\r\n",
    b"Subject: =?utf-8?q?=C3=A4?= \xc3\xa4\r\n",
    b"nonsense\r\n",
    b"X: " + b"y" * 600 + b"\r\n",
)


def test_a_plain_from_field_says_the_same_as_the_whole_header() -> None:
    chance = random.Random(3)
    plain = 0
    for _ in range(20_000):
        head = b"".join(chance.choices(LINES, k=chance.randint(0, 6)))
        head += chance.choice((b"", b"\r\n"))
        field = senders.author_field(head)
        if not {b"\r"[0], b"\n"[0]} & set(head.replace(b"\r\n", b"")):
            assert senders.author_field(head, crlf=True) == field
        if field is not None:
            plain += 1
            assert not {b"\r"[0], b"\n"[0]} & set(head.replace(b"\r\n", b""))
            assert senders._read(field) == senders._read(head), head
    assert plain > 500


def test_a_field_is_found_again_only_where_a_look_at_the_whole_header_finds_it() -> None:
    chance = random.Random(4)
    begins = (b"From: Ann <ann@example.com>\r\n", b"FROM: ann@example.com\r\n", b"from: a@b,\r\n\tc@d\r\n")
    harmless = (b"To: d@e\r\n", b"Date: x\r\n", b"T: y\r\n", b"Subject: \xc3\xa4\r\n")
    others = (*LINES, *begins, b" folded\r\n", b"\tfolded\r\n")

    def some(kinds: tuple[bytes, ...]) -> list[bytes]:
        return chance.choices(kinds, k=chance.randint(0, 2))

    again = 0
    for _ in range(40_000):
        first = b"".join([*some(harmless), chance.choice(begins), *some(harmless)])
        lines = [*some(harmless), chance.choice(begins), *some(harmless)]
        if chance.random() < 0.5:
            lines.insert(chance.randint(0, len(lines)), chance.choice(others))
        head = b"".join(lines)
        if chance.random() < 0.2:
            head = head.replace(b"example", b"EXAMPLE")
        if {b"\r"[0], b"\n"[0]} & set(head.replace(b"\r\n", b"")):
            continue  # `names_again` is asked of mails without a bare CR or LF
        field = senders.author_field(first)
        assert field is not None
        line = senders.in_context(first, field)
        if line and senders.names_again(head, line):
            again += 1
            assert senders.author_field(head, crlf=True) == field, (first, head)
    assert again > 500


@pytest.mark.parametrize("before", [b"", b"Date: x\r\n"])
@pytest.mark.parametrize(
    ("head", "same"),
    [
        (b"From: a@b\r\nTo: c@d\r\n", True),
        (b"From: a@b\r\nTo: c@d\r\nX: y\r\n\r\n", True),
        (b"From: a@b\r\n T: c@d\r\n", False),
        (b"From: A@b\r\nTo: c@d\r\n", False),
        (b"X-From: a@b\r\nTo: c@d\r\n", False),
        (b"Subject: x\r\n From: a@b\r\nTo: c@d\r\n", False),
        (b"From: a@b\r\nTo: c@d\r\nfRom: e@f\r\n", False),
        (b"From: a@b\r\nTo: c@d\r\n\xc2\xa0From: e@f\r\n", False),
        (b"From: a@b\r\nTo: c@d\r\nSeNder: e@f\r\n", False),
        (b"From: a@b\r\nTo: c@d\r\nResent-Sender: e@f\r\n", False),
        (b"From: a@b\r\nTo: c@d\r\n\xef\xbb\xbfX: y\r\n", False),
        (b"From: a@b\r\nTo: c@d\r\nX: \xc3\xa4\r\n", True),
        (b"From: a@b\r\n", False),
        (b"", False),
    ],
)
def test_the_line_of_a_field_is_found_again(head: bytes, same: bool, before: bytes) -> None:
    line = senders.in_context(b"From: a@b\r\nTo: d@e\r\n", b"From: a@b\r\n")
    assert line == b"\r\nFrom: a@b\r\nT"
    assert senders.names_again(before + head, line) is same


def test_a_field_at_the_end_of_a_header_is_not_looked_for_again() -> None:
    assert senders.in_context(b"To: d@e\r\nFrom: a@b\r\n", b"From: a@b\r\n") == b""
