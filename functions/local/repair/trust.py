"""Whether what the kernel shows of a part's database is on the disk.

The kernel tells of a failed write-back once, then takes the lost pages for clean: later syncs say that
all is well, and only its memory has the bytes. A file of the part says from then on, to the processes
that come too, that the database is not to be opened before it was written anew (`rebuild`).
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from functions.processors.file.fsync import sync_file, sync_folder

log = logging.getLogger("smtp_relay.delivery")


class Trust:
    """That of one part, by the files in its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._database = folder / "spool.db"
        self._log = folder / "spool.db-wal"
        self._mark = folder / "distrusted"
        self.rebuilt = folder / "spool.db.rebuilt"
        """A database that was written anew and synced, on its way to the name of the old one."""

    @property
    def lost(self) -> bool:
        """Whether a sync failed since the database was written anew."""
        return self._mark.exists()

    def lose(self, withdrawn: Iterable[str] = (), *, durable: bool = True) -> None:
        """Leave word that a sync failed, and which mails (by id) of it are not to be taken: their
        clients keep them. The word is as durable as can be had. A power cut that takes it takes the
        memory that must not be trusted, too."""
        try:
            fd = os.open(self._mark, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, "".join(f"{mail_id}\n" for mail_id in withdrawn).encode())
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            if durable:
                sync_folder(self._folder)
        except OSError as error:
            log.error("the failed sync could not be noted", extra={"reason": str(error)})

    def withdrawn(self) -> set[str]:
        """The ids of the mails that `lose` was told of."""
        try:
            return set(self._mark.read_text().split())
        except FileNotFoundError:
            return set()

    def regain(self) -> None:
        """The database was written anew. Raises OSError."""
        self._mark.unlink(missing_ok=True)
        sync_folder(self._folder)

    def take_over(self) -> None:
        """Put the database that was written anew, if there is one, into the place of the old one and
        its log; what a crash cut short is done again. Nobody may have it open. Raises OSError."""
        if self.rebuilt.exists():
            # A log belongs to whatever database has its name: this one is the old one's.
            self._log.unlink(missing_ok=True)
            self._log.with_name(f"{self._database.name}-shm").unlink(missing_ok=True)
            self.rebuilt.replace(self._database)
        sync_folder(self._folder)

    def renew_log(self) -> None:
        """Put a copy that is synced into the place of the log, if there is one. Nobody may have the
        database open. Raises OSError."""
        if self._log.exists() and self._log.stat().st_size:
            copy = self._log.with_name(f"{self._log.name}.new")
            shutil.copyfile(self._log, copy)
            sync_file(copy)
            copy.replace(self._log)
            sync_folder(self._folder)
