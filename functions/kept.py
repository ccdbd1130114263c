"""Copies of finished mails beside a local spool (`keepCache`, SPEC section 2)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from functions.envelope import Envelope, UnknownEnvelope, encode_field
from functions.mail import CHUNK, Mail
from functions.spool import Head, read_head
from functions.template import Template, TemplateValues

_START: Final = 262_144


class Keeper:
    """Writes a copy of each finished mail, a spool object, to `template`'s path below `folder`.

    A path that another mail has taken gets the mail's id as a suffix: no template makes two mails
    collide. Keeping the same mail twice changes nothing.
    """

    def __init__(self, template: str, folder: Path, *, durable: bool) -> None:
        self._text = template
        self._template = Template.parse(template)
        self._folder = folder
        self._durable = durable

    def keep(self, mail: Mail) -> None:
        """Store the copy. Raises OSError."""
        values = TemplateValues(mail, (mail.envelope.flows() or ("",))[0])
        path = self._folder / self._template.render(values)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{mail.id}.kept")
        self._write(temporary, mail)
        try:
            for candidate in (path, path.with_name(f"{path.stem}-{mail.id}{path.suffix}")):
                try:
                    os.link(temporary, candidate)
                except FileExistsError:
                    if _same(candidate, mail.envelope):
                        return
                    continue
                break
        finally:
            temporary.unlink()
        if self._durable:
            _sync(path.parent)

    def find(self, mail_id: str) -> Path | None:
        """The copy of one mail."""
        pattern = re.sub(r"\$\{[^}]*\}", "*", self._text)
        stem, dot, suffix = pattern.rpartition(".")
        for each in (pattern, f"{stem}-{mail_id}{dot}{suffix}"):
            for path in self._matching(each):
                head = _head(path)
                if head is not None and head.envelope.id == mail_id:
                    return path
        return None

    def _matching(self, pattern: str) -> Iterator[Path]:
        root = Path(pattern)
        base = Path(root.anchor) if root.is_absolute() else self._folder
        relative = root.relative_to(root.anchor) if root.is_absolute() else root
        yield from base.glob(str(relative))

    def _write(self, path: Path, mail: Mail) -> None:
        with path.open("wb") as target:
            target.write(encode_field(mail.envelope))
            with mail.content.open() as stream:
                while piece := stream.read(CHUNK):
                    target.write(piece)
            if self._durable:
                target.flush()
                os.fsync(target.fileno())


def read_kept(path: Path) -> tuple[Envelope, bytes] | None:
    """A kept mail's envelope and content, None for a file that is no kept mail."""
    head = _head(path)
    return None if head is None else (head.envelope, path.read_bytes()[head.offset :])


def _head(path: Path) -> Head | None:
    try:
        with path.open("rb") as stream:
            return read_head(stream.read(_START))
    except (OSError, UnknownEnvelope):
        return None


def _same(path: Path, envelope: Envelope) -> bool:
    head = _head(path)
    return head is not None and (head.envelope.id, head.envelope.replay) == (envelope.id, envelope.replay)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
