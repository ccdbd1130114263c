"""Stores a mail, or parts of it, as objects of a bucket, for both clouds (docs/outputs/aws.md).

An object's key comes from the envelope, never from the clock, and objects are only ever created. So
storing needs no receipt: a key that this output already used for this mail is done.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

from functions.errors import Damaged, Temporary
from functions.message.mail import Mail, SeekableFile
from functions.message.template import Template, TemplateValues
from functions.options.storage import StorageOptions
from functions.processors.base import MIN_SECONDS_LEFT, Job, Processor
from functions.processors.raw_headers import on_top, raw_fields
from functions.spool.object import CONTENT_TYPE

log: Final = logging.getLogger("smtp_relay.output.store")

ID: Final = "smtp-relay-id"
"""Object metadata: the mail's id."""

OUTPUT: Final = "smtp-relay-output"
"""Object metadata: a hash of flow, output and part, because two flows may store the same mail under the
same key."""

_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}")  # RFC 6838 section 4.2


@dataclass(frozen=True, slots=True)
class Blob:
    """One object to store. `open` returns its bytes from the start each time."""

    key: str
    part: str
    content_type: str
    open: Callable[[], BinaryIO]


class Target(Protocol):
    """A bucket that outputs store into. Methods raise Temporary or Permanent."""

    def put_new(self, key: str, blob: Blob, metadata: Mapping[str, str]) -> bool:
        """Store the blob under a free key; False if the key is taken."""

    def metadata(self, key: str) -> Mapping[str, str] | None:
        """The metadata of an object, None if it may not be read or the object is gone."""

    def url(self, key: str) -> str:
        """The object's URL in events."""


class Storage:
    """One output's storing: `storage` says what and where, `identity` names the output."""

    def __init__(self, storage: StorageOptions, identity: str, target: Target) -> None:
        self._storage = storage
        self._identity = identity
        self._target = target
        self._template = Template.parse(storage.key)

    def store(self, job: Job) -> str | None:
        """Store the parts that the options ask for, and return the URL of the first object; None if the
        mail has no such part. Raises Temporary and Permanent."""
        first: str | None = None
        for number, blob in enumerate(self._blobs(job)):
            if number and job.seconds_left() < MIN_SECONDS_LEFT:
                raise Temporary("too little of the run is left", enhanced="4.4.7")
            key = self._place(job, blob)
            first = first or key
        if first is None:
            log.info("no such part: nothing stored", extra=_about(job) | {"part": self._storage.type})
        return None if first is None else self._target.url(first)

    def _place(self, job: Job, blob: Blob) -> str:
        mail = job.mail
        tag = self._tag(job.flow, blob.part)
        metadata = {ID: mail.id, OUTPUT: tag}
        damage: Damaged | None = None
        for key in (blob.key, suffixed(blob.key, mail.id), suffixed(blob.key, f"{mail.id}-{tag}")):
            try:
                if damage is None and self._target.put_new(key, blob, metadata):
                    log.info("stored", extra=_about(job) | {"url": self._target.url(key)})
                    return key
            except Damaged as found:
                damage = found  # an object stored before the damage is done all the same
            there = self._target.metadata(key)
            if there is None and mail.id in key and damage is None:
                # Only this mail makes keys with this id.
                return key
            if there is not None and there.get(ID) == mail.id and there.get(OUTPUT) == tag:
                return key
        raise damage or Temporary(f"every name for {self._target.url(blob.key)} is taken")

    def _tag(self, flow: str, part: str) -> str:
        text = f"{flow}\0{self._identity}\0{part}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def _blobs(self, job: Job) -> Iterator[Blob]:
        match self._storage.type:
            case "raw":
                key = self._key(job, None)
                yield Blob(key, "", CONTENT_TYPE, lambda: self._raw(job))
            case "attachments":
                yield from self._attachments(job)
            case kind:
                from functions.message.mime import read_parts

                parts = read_parts(job.mail, job.flow)
                text = parts.text if kind == "text" else parts.html
                if text is not None:
                    data = text.encode("utf-8", "replace")
                    media = "text/plain" if kind == "text" else "text/html"
                    yield Blob(self._key(job, None), "", f"{media}; charset=utf-8", lambda: io.BytesIO(data))

    def _attachments(self, job: Job) -> Iterator[Blob]:
        taken: set[str] = set()
        from functions.message.mime import read_parts

        for number, attachment in enumerate(read_parts(job.mail, job.flow).attachments):
            key = wanted = self._key(job, attachment.filename)
            again = 1
            while key in taken:
                again += 1
                key = suffixed(wanted, str(again))
            taken.add(key)
            media = attachment.content_type
            if not _MEDIA_TYPE.fullmatch(media):
                media = "application/octet-stream"
            leaf = attachment.leaf
            yield Blob(key, str(number), media, lambda leaf=leaf: io.BytesIO(leaf.payload()))  # type: ignore[misc]

    def _key(self, job: Job, attachment: str | None) -> str:
        return self._template.render(TemplateValues(job.mail, job.flow, attachment), "key").lstrip("/")

    def _raw(self, job: Job) -> BinaryIO:
        top = raw_fields(job.mail, job.flow) if self._storage.add_raw_headers else b""
        return open_below(job.mail, job.flow, top)


class CloudProcessor(Processor):
    """Stores the mail, publishes an event, sends the mail: the steps that the options ask for, in this
    order. A failed step leaves the later ones to the next attempt, which finds the earlier ones done.
    `release` closes the clients."""

    def __init__(
        self, storage: Storage | None, publisher: Any, sender: Any, release: Callable[[], object]
    ) -> None:
        self._storage = storage
        self._publisher = publisher
        self._sender = sender
        self._release = release

    def process(self, job: Job) -> None:
        stored = self._storage.store(job) if self._storage is not None else None
        if self._publisher is not None:
            self._publisher.publish(job, stored)
        if self._sender is not None:
            self._sender.send(job)

    def close(self) -> None:
        self._release()


def open_below(mail: Mail, flow: str, top: bytes) -> BinaryIO:
    """The bytes that one flow's outputs store, below the fields `top`, as a seekable stream. Raises
    Damaged before it returns any byte."""
    mail.check(read=True)
    top = on_top(mail, flow, top)
    if mail.content.path is None:
        return io.BytesIO(top + mail.content.read())
    return PrefixedFile(top, mail.content.open())


def suffixed(key: str, suffix: str) -> str:
    """A key with something before the extension of its last component."""
    folder, slash, name = key.rpartition("/")
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending) > 16:
        stem, dot, ending = name, "", ""
    return f"{folder}{slash}{stem}-{suffix}{dot}{ending}"


def _about(job: Job) -> dict[str, str]:
    return {"id": job.mail.id, "flow": job.flow}


class PrefixedFile(io.BufferedReader):
    """Reads `prefix`, then the file, as one seekable stream, because SDKs read bodies twice. Closing it
    closes the file. Memory does not grow with the file."""

    def __init__(self, prefix: bytes, file: Path | BinaryIO) -> None:
        stream = file.open("rb", buffering=0) if isinstance(file, Path) else file
        super().__init__(_Raw(prefix, stream), 262_144)


class _Raw(SeekableFile):
    def __init__(self, prefix: bytes, file: BinaryIO | io.FileIO) -> None:
        super().__init__(file)
        self._prefix = prefix
        self._size = len(prefix) + file.seek(0, io.SEEK_END)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        view = memoryview(buffer)
        if self._at < len(self._prefix):
            piece = self._prefix[self._at : self._at + len(view)]
            view[: len(piece)] = piece
            count = len(piece)
        else:
            self._file.seek(self._at - len(self._prefix))
            count = self._file.readinto(view) or 0  # type: ignore[union-attr]
        self._at += count
        return count
