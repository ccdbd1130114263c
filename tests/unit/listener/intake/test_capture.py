"""Capturing a mail: in memory or in a file, whatever the pieces, within its limits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from functions.ids import uuid7
from functions.message.headers import HeaderEdits
from listener.api.session import Session, Transaction
from listener.intake.capture import HEADER_TOO_BIG, IN_MEMORY, NO_SPACE, TOO_BIG, Capture
from listener.intake.captures import Captures
from listener.intake.stamp import Intake

HEAD = b"Subject: x\r\nX-Gone: 1\r\n\tfolded\r\n"


def intake(folder: Path, *, size: int = 1 << 20, header: int = 100_000) -> Intake:
    return Intake(
        folder,
        HeaderEdits({"X-Added": "yes", "-X-Gone": None}),
        hostname="relay.example",
        received=False,
        max_size=size,
        max_header=header,
        config_digest="",
    )


def session() -> Session:
    return Session("s", "25", "192.0.2.1", 1, "[192.0.2.1]", "127.0.0.1:25", helo="h", esmtp=True)


def begin(made: Intake) -> Capture:
    return made.capture(session(), Transaction(uuid7(), "a@b.example"))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.sampled_from([0, 10, IN_MEMORY - 60, IN_MEMORY + 5, 300_000]), st.sampled_from([1_000, 65_536, 10**6])
)
def test_what_is_stored_and_what_filters_see(tmp_path: Path, body: int, piece: int) -> None:
    mail = HEAD + b"\r\n" + b"y" * body
    capture = begin(intake(tmp_path))
    for at in range(0, len(mail), piece):
        capture.feed(mail[at : at + piece])
    content, digest = capture.finish()
    stored = content.read()
    assert stored == b"X-Added: yes\r\nSubject: x\r\n\r\n" + b"y" * body
    assert (content.size, digest) == (len(stored), hashlib.sha256(stored).hexdigest())
    assert (content.path is not None) == (len(mail) > IN_MEMORY)
    assert (capture.size, capture.head, capture.content()) == (len(mail), HEAD, mail)
    assert b"".join(capture.chunks(777)) == mail
    capture.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "mail", [b"", b"\r\nbody", b"no header\r\n", b" folded first\r\n", b"Only: head\r\n"]
)
def test_mails_without_a_header(tmp_path: Path, mail: bytes) -> None:
    capture = begin(intake(tmp_path))
    capture.feed(mail)
    content, _ = capture.finish()
    between = b"" if mail.startswith((b"\r\n", b"Only")) else b"\r\n"
    assert content.read() == b"X-Added: yes\r\n" + between + mail
    assert capture.content() == mail


@pytest.mark.parametrize("body", [10, IN_MEMORY, 300_000])
@pytest.mark.parametrize("piece", [500, 10**6])
@pytest.mark.parametrize(
    ("size", "failure"), [(2_000, None), (2_001, HEADER_TOO_BIG), (9_000, HEADER_TOO_BIG)]
)
def test_a_header_is_measured_whatever_the_mail(
    tmp_path: Path, body: int, piece: int, size: int, failure: object
) -> None:
    """Also that of a mail which never leaves memory."""
    capture = begin(intake(tmp_path, header=2_000))
    mail = b"Subject: " + b"x" * (size - 11) + b"\r\n\r\n" + b"y" * body
    for at in range(0, len(mail), piece):
        capture.feed(mail[at : at + piece])
    if capture.failure is None:
        capture.finish()
    assert capture.failure == failure
    capture.discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("piece", [1_000, 10**6])
def test_too_large_a_mail_leaves_nothing(tmp_path: Path, piece: int) -> None:
    capture = begin(intake(tmp_path, size=200_000))
    mail = HEAD + b"\r\n" + b"y" * 500_000
    for at in range(0, len(mail), piece):
        capture.feed(mail[at : at + piece])
    assert capture.failure == TOO_BIG
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("piece", [997, 10**6])
def test_too_large_a_header(tmp_path: Path, piece: int) -> None:
    capture = begin(intake(tmp_path))
    mail = b"X: y\r\n" * 40_000 + b"\r\nbody"
    for at in range(0, len(mail), piece):
        capture.feed(mail[at : at + piece])
    assert capture.failure == HEADER_TOO_BIG


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    capture = begin(intake(tmp_path / "missing"))
    capture.feed(HEAD + b"\r\n" + b"y" * 200_000)
    assert capture.failure == NO_SPACE


@pytest.mark.parametrize(
    ("changes", "parameters", "word"),
    [
        ({}, (), "ESMTP"),
        ({"esmtp": False}, (), "SMTP"),
        ({"user": "u"}, (), "ESMTPA"),
        ({"user": "u"}, ("SMTPUTF8",), "UTF8SMTPA"),
        ({"lmtp": True}, (), "LMTP"),
    ],
)
def test_transmission_types(
    tmp_path: Path, changes: dict[str, object], parameters: tuple[str, ...], word: str
) -> None:
    made = session()
    for name, value in changes.items():
        setattr(made, name, value)
    transaction = Transaction("t", "", parameters)
    assert made.transmission(smtputf8=transaction.smtputf8) == word
    intake(tmp_path).capture(made, transaction)
    assert transaction.transmission == word


@pytest.mark.parametrize("head", [b"", HEAD, b"From ann@a.example Mon Jan  5 10:00:00 2026\r\n" + HEAD])
@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\nbody", b" folded"])
@pytest.mark.parametrize("edits", [{}, {"X-Added": "yes"}, {"-X-Gone": None}])
def test_a_mail_in_memory_is_stored_as_one_in_a_file(
    tmp_path: Path, head: bytes, body: bytes, edits: dict[str, object]
) -> None:
    mails = []
    for memory in (1 << 20, 1):
        captures = Captures(tmp_path, max_memory=memory)
        made = Intake(
            tmp_path,
            HeaderEdits(edits),
            hostname="relay.example",
            received=False,
            max_size=1 << 20,
            max_header=100_000,
            config_digest="",
            captures=captures,
        )
        capture = begin(made)
        capture.feed(head + body)
        content, _ = capture.finish()
        held = captures.memory
        assert (content.path is None) == (memory > 1 or not head + body)
        if content.path is None:
            assert held == len(head + body) + content.size
        mails.append(content.read())
        capture.discard()
        assert (captures.memory, captures.space) == (0, 0)
    assert mails[0] == mails[1]
