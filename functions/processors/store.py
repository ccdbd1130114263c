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
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol

from functions.errors import Damaged, Temporary
from functions.message.event.objects import StoredMail, StoredObject, digest_of_stream
from functions.message.mail import Mail, SeekableFile
from functions.message.reading.places import place
from functions.message.template import Template, TemplateValues
from functions.options.storage import StorageOptions
from functions.processors.base import MIN_SECONDS_LEFT, Job, Processor
from functions.processors.raw_headers import on_top, raw_fields
from functions.spool.object import CONTENT_TYPE

if TYPE_CHECKING:
    from functions.message.mime import Limits, Parts

log: Final = logging.getLogger("smtp_relay.output.store")

ID: Final = "smtp-relay-id"
"""Object metadata: the mail's id."""

OUTPUT: Final = "smtp-relay-output"
"""Object metadata: a hash of flow, output and part, because two flows may store the same mail under the
same key."""

_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}")  # RFC 6838 section 4.2


@dataclass(frozen=True, slots=True)
class Blob:
    """One object to store. `open` returns its bytes from the start each time. `place` says what it is: raw,
    text, html, manifest, or the number of an attachment."""

    key: str
    part: str
    content_type: str
    open: Callable[[], BinaryIO]
    place: str | int = "raw"


class Target(Protocol):
    """A bucket that outputs store into. Methods raise Temporary or Permanent."""

    def put_new(self, key: str, blob: Blob, metadata: Mapping[str, str]) -> bool:
        """Store the blob under a free key; False if the key is taken."""

    def metadata(self, key: str) -> Mapping[str, str] | None:
        """The metadata of an object, None if it may not be read or the object is gone."""

    def url(self, key: str) -> str:
        """The object's URL in events."""

    def link(self, key: str, seconds: int) -> str:
        """`Processor.link`."""


class Contents:
    """One mail as the outputs of one flow show it, read at the first use and once, within
    `limits`."""

    def __init__(self, job: Job, limits: Limits | None = None) -> None:
        self._job = job
        self._limits = limits

    @cached_property
    def limits(self) -> Limits:
        """The bounds of the reading."""
        from functions.message.mime import Limits

        return self._limits or Limits()

    @cached_property
    def parts(self) -> Parts:
        from functions.message.mime import read_parts

        return read_parts(self._job.mail, self._job.flow, self.limits)


class Storage:
    """One output's storing: `storage` says what and where, `identity` names the output."""

    def __init__(self, storage: StorageOptions, identity: str, target: Target) -> None:
        self._storage = storage
        self._identity = identity
        self._target = target
        self._template = Template.parse(storage.key)

    @property
    def reads(self) -> bool:
        """True if it stores parts of the mail, which is then read as a whole in memory."""
        return self._storage.type != "raw"

    def store(
        self, job: Job, contents: Contents | None = None, *, describe: bool = False
    ) -> StoredMail | None:
        """Store the parts that the options ask for; None if the mail has no such part. With `describe`
        the objects that are returned have their digests. Raises Temporary and Permanent."""
        stored = StoredMail()
        for number, blob in enumerate(self._blobs(job, contents or Contents(job), stored)):
            if number and job.seconds_left() < MIN_SECONDS_LEFT:
                raise Temporary("too little of the run is left", enhanced="4.4.7")
            key = self._place(job, blob)
            digest = None
            if describe or self._storage.in_parts:
                with blob.open() as stream:
                    digest = digest_of_stream(stream)
            there = StoredObject(self._target.url(key), self._storage.bucket, key, digest)
            stored.add(blob.place, there)
        if stored.first is None:
            log.info("no such part: nothing stored", extra=_about(job) | {"part": self._storage.type})
            return None
        return stored

    def find(self, job: Job) -> StoredMail | None:
        """What `store` stored of this mail; None if that is not complete. Raises DeliveryFault."""
        stored = StoredMail()
        for blob in self._blobs(job, Contents(job), stored):
            key = self._key_of(job, blob)
            if key is None:
                return None
            with blob.open() as stream:
                digest = digest_of_stream(stream)
            stored.add(blob.place, StoredObject(self._target.url(key), self._storage.bucket, key, digest))
        return stored

    def link(self, key: str, seconds: int) -> str:
        """`Processor.link`."""
        return self._target.link(key, seconds)

    def _key_of(self, job: Job, blob: Blob) -> str | None:
        """The key of an object that is stored."""
        tag = self._tag(job.flow, blob.part)
        for key in self._keys(job, blob, tag):
            there = self._target.metadata(key)
            if there is not None and there.get(ID) == job.mail.id and there.get(OUTPUT) == tag:
                return key
        return None

    @staticmethod
    def _keys(job: Job, blob: Blob, tag: str) -> tuple[str, ...]:
        """The keys that an object may have: the first that was free."""
        return (blob.key, suffixed(blob.key, job.mail.id), suffixed(blob.key, f"{job.mail.id}-{tag}"))

    def _place(self, job: Job, blob: Blob) -> str:
        mail = job.mail
        tag = self._tag(job.flow, blob.part)
        metadata = {ID: mail.id, OUTPUT: tag}
        damage: Damaged | None = None
        for key in self._keys(job, blob, tag):
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

    def _blobs(self, job: Job, contents: Contents, stored: StoredMail) -> Iterator[Blob]:
        """The objects to store, in their order; `stored` are those that were stored before."""
        match self._storage.type:
            case "raw":
                yield Blob(self._key(job, None), "", CONTENT_TYPE, lambda: self._raw(job))
            case "attachments":
                yield from self._attachments(contents, lambda name: self._key(job, name))
            case "parts":
                yield from self._parts(job, contents, stored)
            case kind:
                yield from self._body(contents, kind, self._key(job, None), "")

    def _parts(self, job: Job, contents: Contents, stored: StoredMail) -> Iterator[Blob]:
        """Everything below one prefix. The manifest comes last, so a reader that finds it finds all."""
        from functions.message.event import manifest
        from functions.message.template import safe_value

        folder = self._key(job, None)
        yield Blob(f"{folder}raw.eml", "raw", CONTENT_TYPE, lambda: self._raw(job))
        yield from self._body(contents, "text", f"{folder}text.txt", "text")
        yield from self._body(contents, "html", f"{folder}html.html", "html")
        # Keys that differ in case only would be one file in the folders of some systems.
        below = f"{folder}attachments/"
        yield from self._attachments(
            contents, lambda name: below + safe_value(name, extension=True), str.casefold
        )
        data = manifest.build(job.mail.envelope, contents.parts, flow=job.flow, stored=stored)
        key = f"{folder}manifest.json"
        yield Blob(key, "manifest", manifest.CONTENT_TYPE, lambda: io.BytesIO(data), "manifest")

    def _body(self, contents: Contents, kind: str, key: str, part: str) -> Iterator[Blob]:
        text = contents.parts.text if kind == "text" else contents.parts.html
        _check_read(contents.parts, kind)
        if text is not None:
            data = text.encode("utf-8", "replace")
            media = "text/plain" if kind == "text" else "text/html"
            yield Blob(key, part, f"{media}; charset=utf-8", lambda: io.BytesIO(data), kind)

    def _attachments(
        self, contents: Contents, key_of: Callable[[str], str], form: Callable[[str], str] = str
    ) -> Iterator[Blob]:
        """Every attachment, under keys whose `form` differs."""
        taken: set[str] = set()
        uses: dict[str, int] = {}
        attachments = contents.parts.attachments
        _check_read(contents.parts, "attachments")
        for number, attachment in enumerate(attachments):
            key = wanted = key_of(attachment.filename)
            while form(key) in taken:
                uses[wanted] = uses.get(wanted, 1) + 1
                key = suffixed(wanted, str(uses[wanted]))
            taken.add(form(key))
            media = attachment.content_type
            if not _MEDIA_TYPE.fullmatch(media):
                media = "application/octet-stream"
            data = attachment.payload()
            yield Blob(key, str(number), media, lambda data=data: io.BytesIO(data), number)  # type: ignore[misc]

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
        publishes = self._publisher is not None
        whole = self._storage is not None and self._storage.reads
        contents = Contents(job, self._publisher.limits if publishes and not whole else None)
        stored = None
        with ExitStack() as held:
            if whole:
                _take_place(held, job, contents)
            if self._storage is not None:
                stored = self._storage.store(job, contents, describe=publishes)
            if publishes:
                if not whole:
                    # Until it is sent, because the client copies the event.
                    _take_place(held, job, contents)
                self._publisher.publish(job, stored, contents)
            del contents  # with the mail's bytes, before the next mail gets the place
        if self._sender is not None:
            self._sender.send(job)

    def stored(self, job: Job) -> StoredMail | None:
        return None if self._storage is None else self._storage.find(job)

    def link(self, key: str, seconds: int) -> str:
        assert self._storage is not None
        return self._storage.link(key, seconds)

    def close(self) -> None:
        self._release()


def _take_place(held: ExitStack, job: Job, contents: Contents) -> None:
    """Waits for a place to read the mail. Raises Temporary if the wait left too little of the run."""
    held.enter_context(place(job.mail.content.size, contents.limits.text))
    if job.seconds_left() < MIN_SECONDS_LEFT:
        raise Temporary("too little of the run is left", enhanced="4.4.7")


def _check_read(parts: Parts, name: str) -> None:
    """Raises Temporary if reading this property of the mail failed: its default would count as stored."""
    if name in parts.unread:
        raise Temporary(f"the mail's {name} cannot be read (the log has the fault)")


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
