"""The index: damage of its files, and reading while it is written to."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from functions.local.view.folders import Folder
from listener.config.inbox_folders import InboxFolder
from listener.inbox.index import Index
from listener.inbox.keeper import Keeper
from listener.inbox.mailbox import Mailbox
from tests.support.inbox.mails import mail, store


def filled(root: Path) -> Index:
    index = Index(root / "index")
    for number in range(40):
        if not (root / "mails" / f"{number}.eml").exists():
            store(root / "mails", f"{number}.eml", mail(f"mail {number}", f"text {number} " * 200))
    place = InboxFolder("flow", Folder(root / "mails", trusted=True))
    keeper = Keeper(index, [place], lambda *_: None, by_user=False)
    keeper.catch_up()
    keeper.stop()
    return index


def test_damage_that_a_later_search_finds_leads_to_another_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path).close()
    path = tmp_path / "index" / "index.db"
    data = bytearray(path.read_bytes())
    data[4_096 * 4 :] = b"\xa5" * (len(data) - 4_096 * 4)
    path.write_bytes(data)
    index = Index(tmp_path / "index")  # its first page is as it was
    statements = ("SELECT * FROM mail", "SELECT * FROM pairs", "SELECT * FROM words")
    with pytest.raises(sqlite3.DatabaseError), caplog.at_level(logging.WARNING):
        [index.rows(statement) for statement in statements]
    assert not index.is_current()
    assert "is made again" in caplog.text
    index.close()
    again = filled(tmp_path)
    assert again.is_current()
    assert Mailbox(again, None).totals() == (40, 40)
    again.close()


def test_marks_that_cannot_be_read_are_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path).close()
    (tmp_path / "index" / "state.db").write_bytes(b"no database" * 1_000)
    index = filled(tmp_path)
    assert "the inbox forgets what was read" in caplog.text
    assert (tmp_path / "index" / "state.db.damaged").read_bytes().startswith(b"no database")
    box = Mailbox(index, None)
    box.mark(box.rows(), read=True)
    assert box.totals() == (40, 0)
    index.close()


def test_a_list_does_not_wait_for_a_change(tmp_path: Path) -> None:
    index = filled(tmp_path)
    with index.transaction() as db:
        db.execute("DELETE FROM mail")
        assert Mailbox(index, None).totals() == (40, 40)
    assert Mailbox(index, None).totals() == (0, 0)
    index.close()
    index.close()


def test_one_that_adds_mails_gives_way_for_a_moment_alone(tmp_path: Path) -> None:
    index = Index(tmp_path)
    with index.asked():
        index.give_way()  # it returns, though the request goes on
    index.close()
