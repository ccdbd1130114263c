"""Decides if the data that the kernel shows of a part's database is on the disk.

The kernel reports a failed write-back once, then marks the lost pages clean: later syncs succeed,
and only its memory has the bytes. From then on a file of the part tells later processes not to open
the database before it is rebuilt (`rebuild`).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from functions.processors.file.fsync import sync_fd, sync_file, sync_folder

log = logging.getLogger("smtp_relay.delivery")


class Trust:
    """The trust in one part, by the files in its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = folder / "spool.db"
        self._log = folder / "spool.db-wal"
        self._mark = folder / "distrusted"
        self.rebuilt = folder / "spool.db.rebuilt"
        """A rebuilt and synced database, on its way to the name of the old one."""

    @property
    def lost(self) -> bool:
        """True if a sync failed since the database was rebuilt."""
        return self._mark.exists()

    def lose(self, withdrawn: Iterable[str] = (), *, durable: bool = True) -> None:
        """Record that a sync failed, and which mails (by id) are not to be accepted: their clients keep
        them. The record is as durable as possible. A power cut that loses it also loses the memory that
        must not be trusted."""
        try:
            fd = os.open(self._mark, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, "".join(f"{mail_id}\n" for mail_id in withdrawn).encode())
                if durable:
                    sync_fd(fd)
            finally:
                os.close(fd)
            if durable:
                sync_folder(self._folder)
        except OSError as error:
            log.error("the failed sync could not be noted", extra={"reason": str(error)})

    def withdrawn(self) -> set[str]:
        """The ids of the mails that `lose` recorded."""
        try:
            return set(self._mark.read_text().split())
        except FileNotFoundError:
            return set()

    def regain(self) -> None:
        """Record that the database was rebuilt. Raises OSError."""
        self._mark.unlink(missing_ok=True)
        sync_folder(self._folder)

    def take_over(self) -> None:
        """Put the rebuilt database, if there is one, into the place of the old one and its log; a step
        that a crash cut short is repeated. No process may have it open. Raises OSError."""
        if self.rebuilt.exists():
            # SQLite uses a log for any database of its name; this log is the old database's.
            self._log.unlink(missing_ok=True)
            self._log.with_name(f"{self._database.name}-shm").unlink(missing_ok=True)
            self.rebuilt.replace(self._database)
        sync_folder(self._folder)

    def renew_log(self) -> None:
        """Put a synced copy into the place of the log, if there is one. No process may have the
        database open. Raises OSError."""
        if self._log.exists() and self._log.stat().st_size:
            copy = self._log.with_name(f"{self._log.name}.new")
            shutil.copyfile(self._log, copy)
            sync_file(copy)
            copy.replace(self._log)
            sync_folder(self._folder)
