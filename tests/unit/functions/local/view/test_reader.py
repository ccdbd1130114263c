"""Looking into a part of the spool: what is seen, what is left behind, and who is not held up."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from functions.config import DeliveryConfig
from functions.errors import ConfigError, Temporary
from functions.local.database import Database
from functions.local.deadletters import open_dead_letters
from functions.local.layout import Lock, Part
from functions.local.view import reader
from functions.local.view.queue import open_queue
from functions.local.view.reader import LOCKS, ids, is_owned, look, number_of, page, pages, parts_of
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import Selection
from tests.support.servers.relay import ROOT

NOBODY = 65_534 if os.geteuid() == 0 else os.geteuid()
"""The user of the server: another one than this process's, if this one is root."""

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"

LOOK = """
import os, signal, sys
from contextlib import closing
from pathlib import Path
from functions.local.layout import Part
from functions.local.view.reader import pages
part = Part(Path(sys.argv[1]))
rows = lambda: pages(part, "SELECT seq FROM mail WHERE seq > ? ORDER BY seq", (0,))
"""


def filled(folder: Path, count: int = 3) -> Part:
    """A part with mails that are only rows, as its server left it."""
    part = Part(folder / "part-0")
    part.create()
    with closing(part.connect()) as db:
        for seq in range(1, count + 1):
            db.execute(
                "INSERT INTO mail (seq, id, received, envelope) VALUES (?, ?, 0, '')", (seq, f"id-{seq}")
            )
    return part


@contextmanager
def served(part: Part) -> Iterator[Database]:
    """The part while a process owns it, whose log holds what was not copied into the database."""
    store = Database(part, durable=False)
    try:
        yield store
    finally:
        store.close()


def count(part: Part) -> int:
    found: int = look(part, lambda db: db.execute("SELECT count(*) FROM mail").fetchone()[0])
    return found


def names(part: Part) -> dict[str, tuple[int, int, int]]:
    """Every file of the part, with its owner and time of change."""
    found = {}
    for path in part.folder.iterdir():
        about = path.stat()
        found[path.name] = (about.st_uid, about.st_size, about.st_mtime_ns)
    return found


def in_child(work: Callable[[], object], *, user: int | None = None) -> int:
    """The exit status of `work` in a process of its own."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if user not in (None, os.geteuid()):
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            work()
            status = 0
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            sys.stderr.flush()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def assert_in_child(work: Callable[[], object], *, user: int | None = None) -> None:
    assert in_child(work, user=user) == 0


@contextmanager
def another_process(part: Part, code: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not share SQLite's memory with this one; killed at the end if it still runs."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", LOOK + code, str(part.folder)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def run_in_another_process(part: Part, code: str) -> str:
    with another_process(part, code) as process:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        return out.decode().strip()


class TestWhatIsSeen:
    def test_commits_that_are_only_in_the_log_are_seen(self, tmp_path: Path) -> None:
        part = filled(tmp_path)
        with served(part) as store:
            store.commit(lambda db: db.execute("DELETE FROM mail WHERE seq = 1"))
            assert part.log.stat().st_size > 0
            assert count(part) == 2

    def test_the_last_state_of_a_server_that_ended(self, tmp_path: Path) -> None:
        part = filled(tmp_path)
        with served(part) as store:
            store.commit(lambda db: db.execute("DELETE FROM mail WHERE seq = 1"))
        assert not part.log.exists()
        assert count(part) == 2

    def test_the_last_state_of_a_server_that_was_killed(self, tmp_path: Path) -> None:
        part = filled(tmp_path)

        def die() -> None:
            store = Database(part, durable=False)
            store.commit(lambda db: db.execute("DELETE FROM mail WHERE seq = 1"))
            os.kill(os.getpid(), signal.SIGKILL)

        assert in_child(die) == -signal.SIGKILL
        assert part.log.stat().st_size > 0
        before = names(part)
        assert count(part) == 2
        assert names(part) == before

    def test_a_backup_that_has_the_log_and_no_index(self, tmp_path: Path) -> None:
        part = filled(tmp_path)
        copy = Part(tmp_path / "copy" / "part-0")
        copy.folder.mkdir(parents=True)
        with served(part) as store:
            store.commit(lambda db: db.execute("DELETE FROM mail WHERE seq = 1"))
            for path in (part.database, part.log):
                (copy.folder / path.name).write_bytes(path.read_bytes())
        before = names(copy)
        assert count(copy) == 2
        assert names(copy) == before

    def test_an_empty_log_is_no_log(self, tmp_path: Path) -> None:
        part = filled(tmp_path)
        part.log.touch()
        assert count(part) == 3
        assert sorted(names(part)) == ["large", "spool.db", "spool.db-wal", "staging"]

    def test_a_folder_whose_name_means_something_in_a_uri(self, tmp_path: Path) -> None:
        assert count(filled(tmp_path / "a?mode=rw#b %41")) == 3

    def test_a_relative_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        filled(tmp_path)
        monkeypatch.chdir(tmp_path)
        assert count(Part(Path("part-0"))) == 3

    def test_pages_give_every_row_once(self, tmp_path: Path) -> None:
        part = filled(tmp_path, 1_201)
        rows = pages(part, "SELECT seq, id FROM mail WHERE seq > ? ORDER BY seq", (0,))
        assert list(rows) == [(seq, b"id-%d" % seq) for seq in range(1, 1_202)]

    def test_rows_that_come_between_pages_are_seen(self, tmp_path: Path) -> None:
        part = filled(tmp_path, 600)
        with served(part) as store:
            rows = pages(part, "SELECT seq FROM mail WHERE seq > ? ORDER BY seq", (0,))
            first = next(rows)
            store.commit(
                lambda db: db.execute(
                    "INSERT INTO mail (seq, id, received, envelope) VALUES (9999, 'x', 0, '')"
                )
            )
            assert first == (1,)
            assert [seq for (seq,) in rows][-1] == 9_999

    def test_one_mail_of_a_large_spool_is_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A statement that reads the whole table takes too long."""
        part = filled(tmp_path)
        with closing(part.connect()) as db:
            more = f"{ENDLESS} SELECT x, 'id-' || x, 0, '' FROM n WHERE x > 3 LIMIT 4997"
            db.execute(f"INSERT INTO mail (seq, id, received, envelope) {more}")
            db.execute("UPDATE mail SET parked = 1, body = 'x' WHERE seq = 4999")
            db.execute("INSERT INTO dead VALUES ('id-4999', 'k', '{}')")
        record = DeadRecord(
            id="id-4999", key="k", flow="f", output="o", reason="r", code="5", first=0, last=0
        )
        config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{tmp_path}"})
        monkeypatch.setattr(reader, "LONGEST", 0.0)
        with pytest.raises(Temporary, match="interrupted"):
            look(part, lambda db: db.execute("SELECT seq FROM mail WHERE id = 'id-4999'").fetchone())
        assert [number_of(part, f"id-{n}") for n in (1, 500, 501, 4_999, 5_001)] == [
            *(1, 500, 501, 4_999),
            None,
        ]
        letters = open_dead_letters(config, tmp_path, {})
        assert letters.show(record).head == b"x"
        letters.replay(record, now=True)
        parked = "SELECT parked FROM mail WHERE seq = 4999"
        assert look(part, lambda db: db.execute(parked).fetchone()) == (0,)


class TestWhatIsLeftBehind:
    def test_nothing_is_made_or_changed_beside_a_server(self, tmp_path: Path) -> None:
        part = filled(tmp_path)
        with served(part):
            before = names(part)
            assert run_in_another_process(part, "print(len(list(rows())))") == "3"
            assert names(part) == before

    def test_nothing_is_made_or_changed_without_a_server(self, tmp_path: Path) -> None:
        part = filled(tmp_path)
        before = names(part)
        assert count(part) == 3
        assert names(part) == before

    @pytest.mark.parametrize("ended", ["cleanly", "killed"])
    def test_a_server_of_another_user_can_use_its_spool_after_root_looked(self, ended: str) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as place:
            os.chown(place, NOBODY, -1)
            root = Path(place) / "spool"

            def serve() -> None:
                Lock(root)
                store = Database(filled(root), durable=True)
                if ended == "cleanly":
                    store.close()
                else:
                    os.kill(os.getpid(), signal.SIGKILL)

            expected = 0 if ended == "cleanly" else -signal.SIGKILL
            assert in_child(serve, user=NOBODY) == expected
            part = Part(root / "part-0")
            config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{root}"})
            before = names(part)
            assert len(list(open_queue(config, root, {}).mails())) == 3
            assert list(open_dead_letters(config, root, {}).list(Selection())) == []
            assert names(part) == before

            def again() -> None:
                part.renew_log()
                store = Database(part, durable=True)
                store.commit(lambda db: db.execute("DELETE FROM mail"))
                store.close()

            assert_in_child(again, user=NOBODY)

    def test_a_user_that_may_not_read_the_spool_is_told_so(self) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as place:
            root = Path(place)
            filled(root)
            root.chmod(0o700 if os.geteuid() == 0 else 0)

            def denied() -> None:
                with pytest.raises(Temporary, match=r"Permission denied \(run this as the server's user\)"):
                    parts_of(root)

            try:
                assert_in_child(denied, user=NOBODY)
            finally:
                root.chmod(0o700)


class TestHoldingNothingUp:
    def test_the_log_starts_anew_beside_a_reader_that_stopped_between_pages(self, tmp_path: Path) -> None:
        part = filled(tmp_path, 1_000)
        with served(part) as store:
            stops = "r = rows(); next(r); os.kill(os.getpid(), signal.SIGSTOP); print(len(list(r)) + 1)"
            with another_process(part, stops) as reader:
                os.waitpid(reader.pid, os.WUNTRACED)
                for _ in range(3):
                    self._write(store, 12)
                    store.checkpoint()
                    self._write(store, 1)
                assert part.log.stat().st_size < 24 << 20
                reader.send_signal(signal.SIGCONT)
                assert reader.communicate(timeout=60)[0] == b"1000\n"

    def test_the_log_starts_anew_beside_readers_that_loop(self, tmp_path: Path) -> None:
        part = filled(tmp_path, 1_000)
        with served(part) as store:
            loops = "print(len(list(rows())), flush=True)\nwhile True: list(rows())"
            with another_process(part, loops) as reader:
                assert reader.stdout is not None
                assert reader.stdout.readline() == b"1000\n"
                for _ in range(20):
                    self._write(store, 10)
                    store.checkpoint()
                assert reader.poll() is None
                # Without a reader it has 20 MiB; one that never let go would make it 200 MiB.
                assert part.log.stat().st_size < 80 << 20

    @staticmethod
    def _write(store: Database, megabytes: int) -> None:
        store.commit(
            lambda db: db.execute("UPDATE mail SET body = ? WHERE seq = 1", (os.urandom(megabytes << 20),))
        )
        store._changes_at_checkpoint = -1_000_000

    def test_a_transaction_that_takes_too_long_is_interrupted(self, tmp_path: Path) -> None:
        part = filled(tmp_path)
        endless = f"{ENDLESS} SELECT max(x) FROM n"
        began = time.monotonic()
        with pytest.raises(Temporary, match="interrupted"):
            look(part, lambda db: db.execute(endless).fetchone())
        assert time.monotonic() - began < 10

    def test_a_page_ends_after_its_time(self) -> None:
        with closing(sqlite3.connect(":memory:")) as db:
            endless = f"{ENDLESS} SELECT x, hex(randomblob(?)) FROM n"
            rows, whole = page(db, endless, (1_000_000,))
            assert rows
            assert len(rows) < 500
            assert not whole

    def test_a_reader_of_the_same_process_leaves_the_locks_of_the_server(self, tmp_path: Path) -> None:
        part = filled(tmp_path)
        with served(part) as store:
            count(part)
            store.commit(lambda db: db.execute("DELETE FROM mail WHERE seq = 1"))

            # The last user of a database removes its log; this one must not take itself for it.
            last = "with closing(part.connect()) as db: print(*db.execute('SELECT max(seq) FROM mail'))"
            assert run_in_another_process(part, last) == "(3,)"
            assert part.log.exists()
            assert count(part) == 2


class TestWhatCannotBeRead:
    def test_a_part_whose_sync_failed(self, tmp_path: Path) -> None:
        part = filled(tmp_path)
        part.trust.lose()
        with pytest.raises(Temporary, match="a sync failed"):
            count(part)

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        part = filled(tmp_path)
        part.database.write_bytes(b"no database" * 1_000)
        with pytest.raises(Temporary, match="not a database"):
            count(part)
        with pytest.raises(ConfigError, match="repair it"):
            ids(part)

    def test_a_part_that_is_gone(self, tmp_path: Path) -> None:
        with pytest.raises(Temporary, match="gone"):
            count(Part(tmp_path / "part-0"))
        assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_has_no_parts_and_is_not_made(tmp_path: Path) -> None:
    assert parts_of(tmp_path / "none") == []
    assert list(tmp_path.iterdir()) == []


def test_without_the_list_of_locks_it_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = Lock(tmp_path)
    monkeypatch.setattr("functions.local.view.reader.LOCKS", tmp_path / "none")
    assert is_owned(tmp_path) is None
    lock.release()


@pytest.mark.skipif(not LOCKS.exists(), reason="needs Linux's list of locks")
def test_the_kernel_tells_if_a_server_owns_the_folder(tmp_path: Path) -> None:
    assert is_owned(tmp_path) is False
    lock = Lock(tmp_path)
    assert is_owned(tmp_path)
    lock.release()
    assert not is_owned(tmp_path)
