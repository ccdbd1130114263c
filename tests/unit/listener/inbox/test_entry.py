"""One file as the index has it: whatever a mail holds, it is read in bounded time."""

from __future__ import annotations

from pathlib import Path

import pytest

from functions.message.envelope import LAST
from listener.inbox import entry
from listener.inbox.entry import MOST, entry_of
from listener.inbox.index import Index
from listener.inbox.mailbox import Mailbox
from listener.inbox.words import MOST_TEXT
from tests.support.inbox.mails import block, mail, store

HEAD = b"From: a@h.example\r\nSubject: s\r\n"


def filled(piece: bytes) -> bytes:
    return piece * ((MOST - 1_000) // len(piece))


HTML = HEAD + b"Content-Type: text/html\r\n\r\n"
HOSTILE = {
    "elements": HTML + filled(b"<table><tr><td>x"),
    "entities": HTML + filled(b"&amp;&#65;"),
    "links": HTML + filled(b"<a href='http://x/'>y</a>"),
    "charset": HEAD + b"Content-Type: text/plain; charset=iso-2022-jp\r\n\r\n" + filled(b'\x1b$B%"\x1b(B'),
    "flowed": HEAD + b"Content-Type: text/plain; format=flowed\r\n\r\n" + filled(b"> x \r\n"),
    "fields": filled(b"X-A: b\r\n") + b"\r\n",
    "parts": HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + filled(b"--b\r\n\r\nx\r\n"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_largest_hostile_mail_is_read_in_time(tmp_path: Path, kind: str) -> None:
    path = store(tmp_path, "a.eml", HOSTILE[kind])
    found = entry_of(path, "flow", tmp_path, by_user=False)
    assert found is not None
    assert found.error == ""
    assert len(found.text) <= MOST_TEXT


def test_a_mail_that_takes_longer_is_listed_with_that_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "LONGEST", 0.0)
    found = entry_of(store(tmp_path, "a.eml", mail("One")), "flow", tmp_path, by_user=False)
    assert found is not None
    assert (found.subject, found.snippet) == ("a.eml", "takes longer than 0 seconds to read")
    assert found.error == found.snippet


@pytest.mark.parametrize(
    ("name", "top"),
    [
        ("a.eml", block("a@h.example", mail_id="ffffffff-ffff-7fff-bfff-ffffffffffff")),
        ("=ed=b2=80/a.eml", b""),  # a lone surrogate
    ],
)
def test_what_comes_by_hand_can_be_listed(tmp_path: Path, name: str, top: bytes) -> None:
    path = tmp_path / "mails" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(top + HEAD + b"\r\nx\r\n")
    found = entry_of(path, "flow", tmp_path / "mails", by_user=True)
    assert found is not None
    assert found.created <= LAST
    index = Index(tmp_path / "index")
    index.put([found])
    (shown,) = Mailbox(index, None).page(0, 50)["messages"]
    assert shown["Subject"] == "s"
    index.close()
