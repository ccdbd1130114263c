"""Waiting for a mail: which one meets the conditions, and what the nearest ones miss."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from functions.local.view.folders import Folder
from listener.cli.mails.stored import StoredMails
from listener.cli.mails.waiting import Conditions, plain_address, wait_for

BLOCK = (
    b"Return-Path: <bounce@app.example>\r\n"
    b"X-smtp-relay-ID: 01890a5d-ac96-774b-bcce-b302099a8001\r\n"
    b"X-smtp-relay-FIELDS: 8\r\n"
    b"X-smtp-relay-RCPT_TO: Hidden@Bcc.example\r\n"
    b"X-smtp-relay-MAIL_FROM: bounce@app.example\r\n"
    b"X-smtp-relay-USER: \r\nX-smtp-relay-CLIENT_HOSTNAME: [::1]\r\nX-smtp-relay-HELO: x\r\n"
)


def mail(to: str = "ann@example.com", subject: str = "Welcome") -> bytes:
    return f"From: App <app@example.com>\r\nTo: Ann <{to}>\r\nSubject: {subject}\r\n\r\nhi\r\n".encode()


@pytest.fixture
def mails(tmp_path: Path) -> StoredMails:
    return StoredMails((Folder(tmp_path, trusted=True),))


def put(mails: StoredMails, name: str, data: bytes, age: float = 0.0) -> None:
    path = mails.folders[0].path / name
    path.write_bytes(data)
    if age:
        os.utime(path, (time.time() - age, time.time() - age))


@pytest.mark.parametrize(
    "conditions",
    [
        Conditions(),
        Conditions(to=("ANN@example.COM",)),
        Conditions(to=("hidden@bcc.example",)),
        Conditions(to=("ann@example.com", "hidden@bcc.example")),
        Conditions(sender="bounce@app.example"),
        Conditions(sender="App@example.com"),
        Conditions(subject="wELC"),
        Conditions(to=("ann@example.com",), sender="app@example.com", subject="welcome"),
    ],
)
def test_a_mail_that_meets_every_condition_is_found(mails: StoredMails, conditions: Conditions) -> None:
    put(mails, "a", BLOCK + mail())
    found, _ = wait_for(mails, conditions, 0.0, 0.0)
    assert found is not None


@pytest.mark.parametrize(
    ("conditions", "missed"),
    [
        (Conditions(to=("x@example.com",)), ["to is Hidden@Bcc.example, not x@example.com"]),
        (Conditions(to=("nn@example.com",)), ["to is Hidden@Bcc.example, not nn@example.com"]),
        (Conditions(sender="x@y.example"), ["from is bounce@app.example, not x@y.example"]),
        (Conditions(subject="Bye"), ["subject 'Welcome' does not contain 'Bye'"]),
        (
            Conditions(to=("ann@example.com",), sender="x@y.example", subject="Bye"),
            ["from is bounce@app.example, not x@y.example", "subject 'Welcome' does not contain 'Bye'"],
        ),
    ],
)
def test_a_mail_that_misses_one_is_told(
    mails: StoredMails, conditions: Conditions, missed: list[str]
) -> None:
    put(mails, "a", BLOCK + mail())
    found, nearest = wait_for(mails, conditions, 0.0, 0.0)
    assert found is None
    assert [each for _, each in nearest] == [missed]


def test_the_content_of_a_mail_that_misses_one_is_not_kept(mails: StoredMails) -> None:
    put(mails, "a", mail() + b"x" * 100_000)
    _, [(near, _)] = wait_for(mails, Conditions(subject="Bye"), 0.0, 0.0)
    assert (near.subject, near.parts) == ("Welcome", None)


def test_a_subject_that_was_folded_or_in_another_case_is_found(mails: StoredMails) -> None:
    put(mails, "a", mail(subject="Reset\r\n  your =?utf-8?q?GR=C3=9CN?=   password"))
    found, _ = wait_for(mails, Conditions(subject="reset your grün password"), 0.0, 0.0)
    assert found is not None


def test_a_mail_that_comes_later_is_found(mails: StoredMails) -> None:
    later = threading.Timer(0.5, lambda: put(mails, "a", mail()))
    later.start()
    began = time.monotonic()
    found, _ = wait_for(mails, Conditions(to=("ann@example.com",)), time.time() - 60, 30.0)
    later.join()
    assert found is not None
    assert time.monotonic() - began < 20


def test_an_older_mail_is_not_the_one(mails: StoredMails) -> None:
    put(mails, "old", mail())
    found, nearest = wait_for(mails, Conditions(), time.time() + 5, 0.0)
    assert (found, nearest) == (None, [])


def test_the_three_nearest_are_those_that_miss_least_then_the_newest(mails: StoredMails) -> None:
    wanted = Conditions(to=("ann@example.com",), subject="hello")
    put(mails, "both", mail("x@example.com", "no"), age=1)
    put(mails, "oldest", mail(), age=40)
    put(mails, "older", mail(), age=30)
    put(mails, "newer", mail("x@example.com", "hello"), age=20)
    put(mails, "newest", mail(), age=10)
    _, nearest = wait_for(mails, wanted, 0.0, 0.0)
    assert [each.path.name for each, _ in nearest] == ["newest", "newer", "older"]


def test_a_file_that_is_no_mail_is_not_the_one(mails: StoredMails) -> None:
    put(mails, "a", b"\0\1\2")
    os.mkfifo(mails.folders[0].path / "b")
    found, nearest = wait_for(mails, Conditions(), 0.0, 0.0)
    assert found is None
    assert sorted(missed[0] for _, missed in nearest) == [
        "is not a mail: it has no header",
        "not a regular file",
    ]


def test_among_ten_thousand_files_only_new_ones_are_read(
    mails: StoredMails, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mails.folders[0].path
    first = folder / "first"
    first.write_bytes(mail(subject="old"))
    for number in range(10_000):
        os.link(first, folder / f"mail-{number}")
    last = first.stat().st_ctime
    since = last
    while since <= last:  # the file system's clock ticks
        put(mails, "new", mail())
        since = (folder / "new").stat().st_ctime
    read: list[str] = []
    real = mails.read
    monkeypatch.setattr(mails, "read", lambda one: read.append(one.path.name) or real(one))
    began = time.monotonic()
    found, _ = wait_for(mails, Conditions(subject="Welcome"), since, 0.0)
    assert found is not None
    assert read == ["new"]
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "text", ["ann@example.com", "<ann@example.com>", "Ann <ann@example.com>", " ann@example.com "]
)
def test_an_address_may_be_typed_in_several_ways(text: str) -> None:
    assert plain_address(text) == "ann@example.com"
