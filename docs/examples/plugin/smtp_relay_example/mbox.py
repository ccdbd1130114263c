"""The output `mbox`: appends mails to one file in mbox format (RFC 4155)."""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path
from typing import Literal

from functions.errors import Permanent, Temporary
from functions.processors.base import Job, OutputOptions, Processor
from functions.processors.context import BuildContext

_FROM_LINE = re.compile(rb"^(>*From )", re.MULTILINE)


class Options(OutputOptions):
    """What stands in the configuration beside `type`."""

    type: Literal["mbox"]

    path: str
    """The file; relative to the working folder."""

    def identity(self) -> str:
        # What was done is remembered under this name: it must tell two outputs of a flow apart.
        return self.name or f"mbox:{self.path}"


class Mbox(Processor):
    """Appends under a lock, so that several threads and processes may."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def process(self, job: Job) -> None:
        envelope = job.mail.envelope
        sender = envelope.reverse_path or "MAILER-DAEMON"
        stamp = time.asctime(time.gmtime(envelope.received / 1000))
        text = _FROM_LINE.sub(rb">\1", job.mail.raw(job.flow).replace(b"\r\n", b"\n"))
        entry = f"From {sender} {stamp}\n".encode() + text + (b"\n" if text.endswith(b"\n") else b"\n\n")

        # Appending twice would show the mail twice, hence the receipt.
        job.once("", lambda: self._append(entry))

    def _append(self, entry: bytes) -> None:
        try:
            with self._path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                end = file.seek(0, os.SEEK_END)
                try:
                    file.write(entry)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    os.ftruncate(file.fileno(), end)  # half a mail would spoil the next one
                    raise
        except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
            raise Permanent(f"{self._path}: {error.strerror}") from error
        except OSError as error:
            raise Temporary(f"{self._path}: {error.strerror}") from error


def build(options: Options, name: str, context: BuildContext) -> Mbox:
    """Called once for each such output of the configuration, in each process."""
    return Mbox(context.folder / options.path)
