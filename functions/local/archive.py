"""Copies of finished mails beside a local spool (`keepCache`)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from functions.message.envelope import Envelope, UnknownEnvelope, encode_field
from functions.message.mail import CHUNK, Mail
from functions.message.template import Template, TemplateValues
from functions.processors.file.fsync import sync_fd, sync_folder
from functions.spool.object import Head, read_head

_START: Final = 262_144


class Archive:
    """Writes a copy of each finished mail, a spool object, to `template`'s path, which begins at `folder`
    unless it is absolute.

    If another mail's copy has the path, the mail's id follows as a suffix, so no template makes two
    mails collide. Keeping the same mail twice changes nothing.
    """

    def __init__(self, template: str, folder: Path, *, durable: bool) -> None:
        # The folder up to the first variable is the operator's own, and may be absolute or above
        # `folder`. The rendered part always stays below it.
        above, slash, _ = template.partition("${")[0].rpartition("/")
        self._text = template[len(above + slash) :]
        self._template = Template.parse(self._text)
        self._folder = folder
        self._base = folder / (above + slash)
        self._durable = durable

    def keep(self, mail: Mail) -> None:
        """Store the copy. Raises OSError, and Damaged for a mail that is not whole."""
        values = TemplateValues(mail, (mail.envelope.flows() or ("",))[0])
        path = self._base / self._template.render(values)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{mail.id}.kept")
        try:
            self._write(temporary, mail)
            for candidate in (path, path.with_name(f"{path.stem}-{mail.id}{path.suffix}")):
                try:
                    os.link(temporary, candidate)
                except FileExistsError:
                    head = _head(candidate)
                    if head is None or head.envelope.id != mail.id:
                        continue
                    if head.envelope.replay <= mail.envelope.replay:
                        # A copy carries the number of its last replay. A copy with this number may
                        # come from an attempt whose sync failed, and then neither it nor its name
                        # need be on the disk.
                        temporary.replace(candidate)
                break
        finally:
            temporary.unlink(missing_ok=True)
        if self._durable:
            sync_folder(path.parent)

    def find(self, mail_id: str) -> Path | None:
        """The copy of one mail."""
        return next((path for path, envelope in self._copies(mail_id) if envelope.id == mail_id), None)

    def copies(self, prefix: str = "") -> Iterator[Envelope]:
        """The envelopes of all copies whose path below the folder begins with this prefix."""
        seen: set[str] = set()
        for path, envelope in self._copies("*"):
            inside = path.relative_to(self._folder) if path.is_relative_to(self._folder) else path
            if str(inside).startswith(prefix) and envelope.id not in seen:
                seen.add(envelope.id)
                yield envelope

    def _copies(self, mail_id: str) -> Iterator[tuple[Path, Envelope]]:
        # A date's format may hold separators, and then produces folders.
        pattern = re.sub(r"\$\{[^}]*\}", lambda found: "*" + "/*" * found[0].count("/"), self._text)
        stem, dot, suffix = pattern.rpartition(".")
        for each in dict.fromkeys((pattern, f"{stem}-{mail_id}{dot}{suffix}")):
            for path in self._base.glob(each):
                head = _head(path)
                if head is not None:
                    yield path, head.envelope

    def _write(self, path: Path, mail: Mail) -> None:
        with path.open("wb") as target:
            target.write(encode_field(mail.envelope))
            with mail.content.open() as stream:
                while piece := stream.read(CHUNK):
                    target.write(piece)
            if self._durable:
                target.flush()
                sync_fd(target.fileno())


def read_kept(path: Path) -> tuple[Envelope, bytes] | None:
    """A kept mail's envelope and content, None for a file that is not a kept mail."""
    head = _head(path)
    return None if head is None else (head.envelope, path.read_bytes()[head.offset :])


def _head(path: Path) -> Head | None:
    try:
        with path.open("rb") as stream:
            return read_head(stream.read(_START))
    except (OSError, UnknownEnvelope):
        return None
