"""The index follows the folders: what comes, goes, changes, and what survives a rebuilding."""

from __future__ import annotations

import os
import queue
import shutil
import sqlite3
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.local.view.folders import Folder
from listener.config.inbox_folders import InboxFolder
from listener.inbox.events import Event
from listener.inbox.index import Index, rebuild
from listener.inbox.keeper import Keeper
from listener.inbox.mailbox import Mailbox
from tests.support.inbox.mails import block, mail, store


class Kept:
    """A keeper that looks when it is told to."""

    def __init__(self, root: Path, *, by_user: bool = False) -> None:
        self.root = root
        self.events: list[Event] = []
        self.index = Index(root / "index")
        self.place = InboxFolder("flow", Folder(root / "mails", trusted=True))
        tell = lambda *events: self.events.extend(events)  # noqa: E731
        self.keeper = Keeper(self.index, [self.place], tell, by_user=by_user)
        self.box = Mailbox(self.index, None)
        self.keeper.catch_up()

    def look(self) -> list[tuple[str, str]]:
        """The events of one look: kinds and ids."""
        self.events.clear()
        self.keeper.look()
        return [(each.kind, each.mail) for each in self.events]

    def subjects(self) -> list[str]:
        return sorted(row.summary["Subject"] for row in self.box.rows())

    def again(self) -> Kept:
        self.index.close()
        return Kept(self.root)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    made = Kept(tmp_path)
    yield made
    made.index.close()


def put(kept: Kept, name: str, subject: str, top: bytes | None = None) -> Path:
    return store(kept.root / "mails", name, mail(subject), top)


class TestFollowing:
    def test_a_file_that_comes_is_shown_and_told_once(self, kept: Kept) -> None:
        put(kept, "a.eml", "One")
        ((kind, told),) = kept.look()
        assert (kind, [told]) == ("new", [row.id for row in kept.box.rows()])
        assert kept.look() == []
        assert kept.subjects() == ["One"]

    def test_a_file_that_goes_is_gone_and_told(self, kept: Kept) -> None:
        path = put(kept, "a.eml", "One")
        ((_, told),) = kept.look()
        path.unlink()
        assert kept.look() == [("delete", told)]
        assert kept.subjects() == []

    def test_folders_in_the_folder_count(self, kept: Kept) -> None:
        store(kept.root / "mails" / "deep" / "er", "a.eml", mail("Deep"))
        assert [kind for kind, _ in kept.look()] == ["new"]
        shutil.rmtree(kept.root / "mails" / "deep")
        assert [kind for kind, _ in kept.look()] == ["delete"]

    def test_a_file_that_is_still_written_is_read_again(self, kept: Kept) -> None:
        path = kept.root / "mails" / "slow.eml"
        path.parent.mkdir()
        path.write_bytes(b"Subject: Half")
        kept.look()
        path.write_bytes(b"Subject: Whole\r\n\r\ntext")
        kept.look()
        assert kept.subjects() == ["Whole"]

    def test_files_that_came_while_nobody_looked_are_found_at_the_next_start(self, kept: Kept) -> None:
        put(kept, "a.eml", "One")
        kept.look()
        (kept.root / "mails" / "a.eml").unlink()
        put(kept, "b.eml", "Two")
        again = kept.again()
        assert again.subjects() == ["Two"]
        again.index.close()

    def test_a_changed_file_is_read_again_at_the_next_start(self, kept: Kept) -> None:
        put(kept, "a.eml", "One")
        kept.look()
        put(kept, "a.eml", "Another")
        again = kept.again()
        assert again.subjects() == ["Another"]
        again.index.close()

    def test_its_thread_follows_within_a_second(self, tmp_path: Path) -> None:
        came = threading.Event()
        index = Index(tmp_path / "index")
        place = InboxFolder("flow", Folder(tmp_path / "mails", trusted=True))
        keeper = Keeper(index, [place], lambda *_: came.set(), by_user=False)
        keeper.start()
        assert keeper.is_complete.wait(10)
        store(tmp_path / "mails", "a.eml", mail("One"))
        assert came.wait(10)
        keeper.stop()
        index.close()

    def test_a_folder_that_is_removed_and_made_again_is_followed(self, kept: Kept) -> None:
        put(kept, "a.eml", "One")
        kept.look()
        shutil.rmtree(kept.root / "mails")
        assert [kind for kind, _ in kept.look()] == ["delete"]
        put(kept, "b.eml", "Two")
        assert [kind for kind, _ in kept.look()] == ["new"]
        assert kept.subjects() == ["Two"]

    def test_a_renamed_file_is_shown_under_its_new_name(self, kept: Kept) -> None:
        path = put(kept, "a.eml", "One")
        kept.look()
        path.rename(path.with_name("b.eml"))
        assert sorted(kind for kind, _ in kept.look()) == ["delete", "new"]
        assert [row.path.name for row in kept.box.rows()] == ["b.eml"]

    def test_what_could_not_be_written_is_found_by_comparing_all(
        self, kept: Kept, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gone = put(kept, "a.eml", "One")
        kept.look()
        put(kept, "b.eml", "Two")
        gone.unlink()

        def full(*_: object) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        with monkeypatch.context() as broken:
            broken.setattr(kept.index, "put", full)
            broken.setattr(kept.index, "drop", full)
            assert not kept.keeper._attempt(kept.keeper.look)
        kept.events.clear()
        kept.keeper.catch_up(quietly=False)
        assert sorted(each.kind for each in kept.events) == ["delete", "new"]
        assert kept.subjects() == ["Two"]

    def test_a_second_comparison_takes_no_mail_away(self, kept: Kept) -> None:
        put(kept, "a.eml", "One")
        kept.look()
        kept.keeper.catch_up(quietly=False)
        assert kept.events[1:] == []
        assert kept.subjects() == ["One"]


class Followed:
    """A keeper with its thread, which looks by itself so seldom that only the system can tell it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.index = Index(root / "index")
        place = InboxFolder("flow", Folder(root / "mails", trusted=True))
        tell = lambda *events: [self.events.put(each) for each in events]  # noqa: E731
        self.keeper = Keeper(self.index, [place], tell, by_user=False)
        self.keeper.start()
        assert self.keeper.is_complete.wait(10)

    def next(self) -> str:
        return self.events.get(timeout=10).kind


@pytest.fixture
def followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    (tmp_path / "mails").mkdir()
    monkeypatch.setattr("listener.inbox.keeper.IDLE", 3_600)
    made = Followed(tmp_path)
    yield made
    made.keeper.stop()
    made.index.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has inotify")
class TestWhatTheSystemTells:
    def test_files_that_come_and_go(self, followed: Followed) -> None:
        path = store(followed.root / "mails", "a.eml", mail("One"))
        assert followed.next() == "new"
        path.unlink()
        assert followed.next() == "delete"

    def test_a_file_that_is_written_to_long_after_it_came(self, followed: Followed) -> None:
        path = store(followed.root / "mails", "a.eml", mail("One"))
        assert followed.next() == "new"
        with path.open("ab") as file:
            file.write(b"more\r\n")
        assert followed.next() == "prune"

    def test_a_new_folder_and_what_comes_into_it(self, followed: Followed) -> None:
        store(followed.root / "mails" / "ann", "a.eml", mail("One"))
        assert followed.next() == "new"
        store(followed.root / "mails" / "ann", "b.eml", mail("Two"))
        assert followed.next() == "new"
        shutil.rmtree(followed.root / "mails" / "ann")
        assert [followed.next(), followed.next()] == ["delete", "delete"]


class TestFoldersOfUsers:
    def test_a_file_that_comes_by_hand_is_the_users_in_whose_folder_it_lies(self, tmp_path: Path) -> None:
        kept = Kept(tmp_path, by_user=True)
        for folder in ("ann", "=41nn", "deep/er", "Odd Name"):
            store(kept.root / "mails" / folder, "own.eml", b"Subject: by hand\r\n\r\n", b"")
        store(kept.root / "mails", "own.eml", b"Subject: by hand\r\n\r\n", b"")
        kept.look()
        assert kept.box.names() == ["Ann", "ann", "deep", "flow"]
        assert kept.box.totals() == (5, 5)
        kept.index.close()

    def test_the_user_of_the_envelope_counts_wherever_the_file_lies(self, tmp_path: Path) -> None:
        kept = Kept(tmp_path, by_user=True)
        store(kept.root / "mails" / "bob", "a.eml", mail("ann's"), block("x@h.example", user="ann"))
        store(kept.root / "mails" / "bob", "b.eml", mail("no user's"), block("x@h.example"))
        kept.look()
        assert kept.box.names() == ["ann", "flow"]
        kept.index.close()


class TestWhatIsBelieved:
    def test_the_block_on_top_names_the_user_and_hidden_recipients(self, kept: Kept) -> None:
        put(kept, "a.eml", "One", block("bob@h.example", "secret@h.example", user="ann"))
        kept.look()
        summary = kept.box.rows()[0].summary
        assert summary["Username"] == "ann"
        assert summary["Bcc"] == [{"Name": "", "Address": "secret@h.example"}]

    def test_fields_of_the_mail_with_these_names_are_not_believed(self, tmp_path: Path) -> None:
        kept = Kept(tmp_path, by_user=True)
        forged = block("victim@h.example", user="admin")
        store(kept.root / "mails", "a.eml", forged + mail("Forged").as_bytes(), block("bob@h.example"))
        store(kept.root / "mails", "b.eml", forged + mail("Bare").as_bytes(), b"X-Other: 1\r\n")
        kept.look()
        assert [(row.inbox, row.summary["Username"]) for row in kept.box.rows()] == [("flow", "")] * 2
        kept.index.close()

    def test_by_user_each_user_has_an_inbox_and_sees_no_other(self, tmp_path: Path) -> None:
        kept = Kept(tmp_path, by_user=True)
        for user in ("ann", "bob", ""):
            put(kept, f"m{user}.eml", f"for {user}", block("x@h.example", user=user))
        kept.look()
        assert kept.box.names() == ["ann", "bob", "flow"]
        ann = Mailbox(kept.index, frozenset({"ann"}))
        assert [row.summary["Subject"] for row in ann.rows()] == ["for ann"]
        assert ann.totals() == (1, 1)
        other = next(row for row in kept.box.rows() if row.inbox == "bob")
        assert ann.find(other.id) is None
        assert ann.find(other.mail_id) is None
        assert ann.found([other.id]) == []
        kept.index.close()

    @pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"no header", b"\xff\xfe" * 1000, b"\r\n\r\n"])
    def test_anything_is_listed(self, kept: Kept, content: bytes) -> None:
        store(kept.root / "mails", "odd", content, b"")
        kept.look()
        assert len(kept.box.page(0, 50)["messages"]) == 1

    def test_links_and_pipes_are_no_mails(self, kept: Kept, tmp_path: Path) -> None:
        (tmp_path / "mails").mkdir()
        secret = tmp_path / "secret"
        secret.write_text("Subject: secret\n\n")
        (tmp_path / "mails" / "link").symlink_to(secret)
        os.mkfifo(tmp_path / "mails" / "pipe")
        kept.look()
        assert "secret" not in str(kept.box.page(0, 50))


class TestMarks:
    def test_marks_survive_a_rebuilding(self, kept: Kept) -> None:
        put(kept, "a.eml", "One")
        kept.look()
        rows = kept.box.rows()
        kept.box.mark(rows, read=True)
        kept.box.set_tags(rows, ["red"])
        kept.index.close()
        rebuild(kept.root / "index")
        again = Kept(kept.root)
        (one,) = again.box.page(0, 50)["messages"]
        assert (one["ID"], one["Read"], one["Tags"]) == (rows[0].id, True, ["red"])
        again.index.close()

    def test_tags_that_the_mail_asks_for_are_given_once(self, kept: Kept) -> None:
        made = mail("One", X_Tags="Big, red;hot", To="bob+shop@h.example")
        store(kept.root / "mails", "a.eml", made)
        kept.look()
        assert kept.box.page(0, 50)["messages"][0]["Tags"] == ["Big", "red hot", "shop"]
        kept.box.set_tags(kept.box.rows(), [])
        kept.index.close()
        rebuild(kept.root / "index")
        again = Kept(kept.root)
        assert again.box.tags() == []
        again.index.close()

    def test_tags_are_renamed_and_deleted_in_the_viewers_inboxes_only(self, tmp_path: Path) -> None:
        kept = Kept(tmp_path, by_user=True)
        for user in ("ann", "bob"):
            put(kept, f"{user}.eml", user, block("x@h.example", user=user))
        kept.look()
        kept.box.set_tags(kept.box.rows(), ["Red"])
        ann, bob = (Mailbox(kept.index, frozenset({name})) for name in ("ann", "bob"))
        assert ann.rename_tag("red", "Blue")
        assert (ann.tag_counts(), bob.tag_counts()) == ({"Blue": 1}, {"Red": 1})
        assert bob.delete_tag("RED")
        assert not bob.delete_tag("Blue")
        assert ann.tag_counts() == {"Blue": 1}
        kept.index.close()

    def test_a_mail_is_marked_once(self, kept: Kept) -> None:
        put(kept, "a.eml", "One")
        kept.look()
        rows = kept.box.rows()
        assert [len(kept.box.mark(rows, read=read)) for read in (True, True, False, False)] == [1, 0, 1, 0]


class TestADamagedIndex:
    @pytest.mark.parametrize("content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4_096])
    def test_it_is_made_again(self, kept: Kept, content: bytes) -> None:
        put(kept, "a.eml", "One")
        kept.look()
        kept.index.close()
        rebuild(kept.root / "index")
        (kept.root / "index" / "index.db").write_bytes(content)
        again = Kept(kept.root)
        assert again.subjects() == ["One"]
        again.index.close()

    def test_that_of_another_version_is_made_again(self, kept: Kept) -> None:
        put(kept, "a.eml", "One")
        kept.index.close()
        with sqlite3.connect(kept.root / "index" / "index.db") as db:
            db.execute("PRAGMA user_version = 99")
        db.close()
        again = Kept(kept.root)
        assert again.subjects() == ["One"]
        again.index.close()

    def test_a_fault_of_the_thread_is_logged_and_told(
        self, kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its process starts again then."""
        told = threading.Event()

        def broken() -> None:
            raise ValueError("a fault that was not expected")

        monkeypatch.setattr(kept.keeper, "catch_up", broken)
        kept.keeper.on_removed = told.set
        kept.keeper.start()
        assert told.wait(30)
        kept.keeper.stop()
        assert "a fault that was not expected" in caplog.text

    def test_one_that_was_removed_is_noticed(self, kept: Kept) -> None:
        assert kept.index.is_current()
        rebuild(kept.root / "index")
        assert not kept.index.is_current()
