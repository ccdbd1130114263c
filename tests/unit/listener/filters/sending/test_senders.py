"""The senders that a header names; what the server refuses before is judged here too."""

from __future__ import annotations

import time

import pytest

from functions.message.headers import HeaderEdits
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
    ],
)
def test_a_header_of_a_stranger_is_read_in_little_time(head: bytes) -> None:
    began = time.process_time()
    assert senders_of(head).fault
    assert time.process_time() - began < 1.0
