"""The mails that `file` outputs stored, read with bounds: strangers wrote them, and other programs
may put anything into a folder."""

from __future__ import annotations

import os
import re
import stat
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from functions.message.envelope import Client, Envelope, Recipient
from functions.message.mail import BytesContent, Mail
from functions.message.mime import Limits, Parts, read_parts

HEAD: Final = 262_144
"""Bytes of a file that a list reads."""

MOST: Final = 67_108_864
"""Bytes of a file that are read to show it."""

_LIMITS: Final = Limits()
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TOP: Final = re.compile(
    rb"Return-Path: <[^\r\n]*>\r\nX-smtp-relay-ID: ([0-9a-f-]{36})\r\nX-smtp-relay-FIELDS: ([0-9]{1,5})\r\n"
)
_LINE: Final = re.compile(rb"X-smtp-relay-(RCPT_TO|MAIL_FROM|USER|CLIENT_HOSTNAME|HELO): ([^\r\n]*)\r\n")
_LAST: Final = [b"MAIL_FROM", b"USER", b"CLIENT_HOSTNAME", b"HELO"]


@dataclass(frozen=True, slots=True)
class StoredEnvelope:
    """The envelope on top of a stored file (`addRawHeaders`), how many bytes it takes, and the client's
    host name and greeting."""

    id: str
    reverse_path: str
    recipients: tuple[str, ...]
    user: str
    size: int
    client: str = ""
    helo: str = ""


def envelope_of(data: bytes) -> StoredEnvelope | None:
    """The counted block at the very top of a file, None if there is none. A mail's own fields of these
    names stand below, so they are never read."""
    top = _TOP.match(data)
    if top is None:
        return None
    at, lines = top.end(), []
    for _ in range(int(top[2]) - 3):
        line = _LINE.match(data, at)
        if line is None:
            return None
        lines.append((line[1], line[2].decode("utf-8", "replace")))
        at = line.end()
    names = [name for name, _ in lines]
    if names[-4:] != _LAST or set(names[:-4]) - {b"RCPT_TO"}:
        return None
    values = tuple(value for _, value in lines)
    return StoredEnvelope(top[1].decode(), values[-4], values[:-4], values[-3], at, values[-2], values[-1])


@dataclass(frozen=True)
class StoredFile:
    """One stored file. `time` is Unix seconds; `sender` and `recipients` are the envelope's if the file
    begins with it, else the header's. `error` says why a file could not be read as a mail. `parts` are of
    the bytes that were read."""

    path: Path
    time: float
    size: int
    id: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    subject: str = ""
    error: str = ""
    envelope: StoredEnvelope | None = None
    parts: Parts | None = field(default=None, repr=False, compare=False)

    def summary(self) -> dict[str, Any]:
        """The mail as plain JSON values."""
        return {
            "id": self.id,
            "time": datetime.fromtimestamp(self.time, UTC).isoformat(timespec="milliseconds"),
            "from": self.sender,
            "to": list(self.recipients),
            "subject": self.subject,
            "size": self.size,
            "file": os.fsdecode(os.fsencode(self.path)),
            "error": self.error or None,
        }

    def without_content(self) -> StoredFile:
        """The same without `parts`, to keep many: they hold all bytes that were read."""
        return replace(self, parts=None)


def open_regular(path: Path) -> int:
    """A descriptor of a regular file. Never waits, and never follows a link. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "not a regular file", str(path))
    return fd


def read_stored(path: Path, *, trusted: bool, most: int = HEAD, limits: Limits = _LIMITS) -> StoredFile:
    """One file, by its first `most` bytes. `trusted` says that its output writes the envelope on top.
    Never raises for what a file holds or is."""
    try:
        fd = open_regular(path)
    except OSError as error:
        is_link = os.path.islink(path)  # noqa: PTH114 - a name may be too long for pathlib
        reason = "is a link" if is_link else error.strerror or str(error)
        return StoredFile(path, _mtime(path), 0, id_in(path.name), error=reason)
    with closing(os.fdopen(fd, "rb", buffering=0)) as file:
        about = os.fstat(fd)
        try:
            data = _read(file, most)
        except OSError as error:
            reason = error.strerror or str(error)
            return StoredFile(path, about.st_mtime, about.st_size, id_in(path.name), error=reason)
    envelope = envelope_of(data) if trusted else None
    return _parsed(path, about, data, envelope, limits)


def _parsed(
    path: Path, about: os.stat_result, data: bytes, envelope: StoredEnvelope | None, limits: Limits
) -> StoredFile:
    mail_id = envelope.id if envelope else id_in(path.name)
    body = data[envelope.size :] if envelope else data
    if b"\r\n" not in body[:4_096] and b"\n" in body[:4_096]:
        body = body.replace(b"\n", b"\r\n")  # not a file of ours
    parts = read_parts(_as_mail(body, envelope), "", limits)
    sender = envelope.reverse_path if envelope else next((one.address for one in parts.from_), "")
    to = [one.address for one in (*parts.to, *parts.cc, *parts.bcc) if one.address]
    return StoredFile(
        path,
        about.st_mtime,
        about.st_size,
        mail_id,
        sender,
        envelope.recipients if envelope else tuple(dict.fromkeys(to)),
        parts.subject or "",
        "" if parts.fields or envelope else "is not a mail: it has no header",
        envelope,
        parts,
    )


def _as_mail(body: bytes, envelope: StoredEnvelope | None) -> Mail:
    recipients = envelope.recipients if envelope else ()
    about = Envelope(
        id=envelope.id if envelope else "",
        session="",
        received=0,
        reverse_path=envelope.reverse_path if envelope else "",
        recipients=tuple(Recipient(address=each, flows=("",)) for each in recipients),
        client=Client(ip=""),
        size=len(body),
    )
    return Mail(about, BytesContent(body))


def _read(file: Any, most: int) -> bytes:
    pieces, left = [], most
    while left and (piece := file.read(min(left, 1_048_576))):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _mtime(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0


def id_at_top(path: Path) -> str:
    """The id that the envelope on top of a file gives, "" if there is none."""
    try:
        fd = open_regular(path)
    except OSError:
        return ""
    with closing(os.fdopen(fd, "rb", buffering=0)) as file:
        try:
            top = _TOP.match(_read(file, 2_048))
        except OSError:
            return ""
    return "" if top is None else top[1].decode()


def id_in(name: str) -> str:
    """The id in a file's name, "" if there is none."""
    found = _ID.search(name)
    return found[0] if found else ""
