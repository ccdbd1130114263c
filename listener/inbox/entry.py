"""One stored file as the index has it."""

from __future__ import annotations

import hashlib
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from functions.ids import uuid7_ms
from functions.local.view.stored import StoredFile, read_stored
from functions.message.addresses import MAX_ADDRESSES, Address, address_key, authors_of, parse_addresses
from functions.message.charset import decode_words
from functions.message.envelope import LAST
from functions.message.fields import every_value, first_value
from functions.message.html_text import text_of_html
from functions.message.mime import Limits, Parts
from functions.message.reading.structure import Leaf
from functions.message.text import printable
from functions.processors.file.user_folder import user_of_folder
from listener.inbox.words import MOST_TEXT, clean_tag, searchable, snippet_of

MOST: Final = 16_777_216
"""Bytes of a file that are read for the index."""

LONGEST: Final = 2.0
"""Seconds after which a mail counts as unreadable."""

_LIMITS: Final = Limits(text=524_288)
"""So much of the bodies is read that no mail takes the time above, whatever it holds."""

_TARGET: Final = re.compile(r" \[[a-z]+:[^\s\]]*\]")
"""The targets that `text_of_html` puts behind links."""

_FOLD: Final = re.compile(rb"(?<![ \t])[ \t]*+\r\n[ \t]+")

_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_LENGTH: Final = 22


@dataclass(frozen=True)
class Entry:
    """The row of one mail. `created` is Unix milliseconds, `witness` tells the file from others and from
    itself after a change; `is_ours` says that the file begins with an envelope. The five lists are the
    header's; `bcc` has the other recipients of the envelope too."""

    id: str
    inbox: str
    path: Path
    mail_id: str
    created: int
    size: int
    witness: str
    message_id: str = ""
    subject: str = ""
    sender: tuple[Address, ...] = ()
    to: tuple[Address, ...] = ()
    cc: tuple[Address, ...] = ()
    bcc: tuple[Address, ...] = ()
    reply_to: tuple[Address, ...] = ()
    username: str = ""
    is_ours: bool = False
    return_path: str = ""
    attachments: int = 0
    inlines: int = 0
    tags: tuple[str, ...] = ()
    snippet: str = ""
    text: str = field(default="", repr=False)
    error: str = ""


def entry_of(path: Path, flow: str, folder: Path, *, by_user: bool) -> Entry | None:
    """The entry of one file; None if it is no regular file, or is gone. Never raises for what it holds."""
    start = time.monotonic()
    try:
        about = path.lstat()
    except OSError:
        return None
    mail = read_stored(path, trusted=True, most=MOST, limits=_LIMITS)
    if mail.error and not mail.size and mail.parts is None and not os.path.isfile(path):  # noqa: PTH113 - a name may be too long for pathlib
        return None
    user = mail.envelope.user if mail.envelope else ""
    known: dict[str, Any] = {
        "id": id_of(flow, path.relative_to(folder), mail.id if mail.envelope else ""),
        "inbox": _inbox(mail, path.relative_to(folder), flow) if by_user else flow,
        "path": path,
        "mail_id": mail.id,
        "created": _created(mail),
        "size": about.st_size,
        "witness": witness_of(about),
        "username": user,
        "is_ours": mail.envelope is not None,
    }
    error = mail.error
    if not error and mail.parts is not None:
        try:
            found = _read(mail, mail.parts)
        except Exception as failure:  # noqa: BLE001 - one mail never stops the index
            error = f"cannot be read: {type(failure).__name__}"
        else:
            if time.monotonic() - start < LONGEST:
                return Entry(**known, **found)
            error = f"takes longer than {LONGEST:.0f} seconds to read"
    return Entry(**known, subject=printable(path.name), snippet=error, error=error)


def _inbox(mail: StoredFile, path: Path, flow: str) -> str:
    """The inbox of a user, or of the flow for a mail without one. A file that came by hand belongs to the
    user in whose folder it lies."""
    if mail.envelope is not None:
        return mail.envelope.user or flow
    user = user_of_folder(path.parts[0]) if len(path.parts) > 1 else ""
    return user.encode("utf-8", "replace").decode() or flow  # SQLite's texts hold no lone surrogates


def witness_of(about: os.stat_result) -> str:
    """Tells a file from others, and from itself after a change."""
    return f"{about.st_ino} {about.st_size} {about.st_mtime_ns}"


def id_of(flow: str, path: Path, mail_id: str) -> str:
    """The id of a stored file, which stays the same for ever: 22 letters and digits."""
    text = f"{flow}\0".encode() + os.fsencode(path) + f"\0{mail_id}".encode()
    number = int.from_bytes(hashlib.sha256(text).digest()[:16])
    digits = []
    for _ in range(_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(digits)


def is_attachment(leaf: Leaf) -> bool:
    """True for the parts that Mailpit counts as attachments: those that say so, and bytes of no type."""
    return leaf.disposition == "attachment" or leaf.content_type == "application/octet-stream"


def is_inline(leaf: Leaf) -> bool:
    """True for a part inside the text: an image that the HTML shows, or anything else that is no text."""
    if is_attachment(leaf):
        return False
    shown = leaf.disposition == "inline" or not leaf.is_body
    return shown and bool(leaf.filename or leaf.content_id)


def unfolded(head: bytes) -> bytes:
    """A header with each field on one line, as Go reads it: one blank for each line end in a field."""
    return _FOLD.sub(b" ", head)


def subject_of(parts: Parts) -> str:
    """The subject, "" without one."""
    return decode_words(first_value(unfolded(parts.head), b"subject") or b"")


class People(NamedTuple):
    """The addresses of a mail as Mailpit lists them: those of its header alone, and in `bcc` behind the
    field's own the recipients of the envelope that no field names. A From field without an address is a
    name; `sender` of a mail without From is empty."""

    sender: Address
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]
    reply_to: tuple[Address, ...]


def people_of(mail: StoredFile, parts: Parts) -> People:
    """The addresses of a mail."""
    head = parts.head
    authors = authors_of(head).addresses
    named = decode_words(first_value(head, b"from") or b"").strip()
    to: list[Address] = []
    for value in every_value(head, b"to"):
        to += parse_addresses(value, MAX_ADDRESSES - len(to))
    hidden = {address_key(one): one for one in (mail.envelope.recipients if mail.envelope else ())}
    for one in (*to, *parts.cc, *parts.bcc):
        hidden.pop(address_key(one.address), None)
    return People(
        authors[0] if authors else Address(named, ""),
        tuple(to),
        tuple(parts.cc),
        (*parts.bcc, *(Address("", one) for one in hidden.values())),
        tuple(parts.reply_to),
    )


def return_path_of(mail: StoredFile, parts: Parts) -> str:
    """The reverse-path of the envelope, or of the header where there is no envelope, else the author."""
    stated = mail.envelope.reverse_path if mail.envelope else ""
    if mail.envelope is None:
        stated = next((value for name, value in parts.fields if name.lower() == "return-path"), "")
    return stated.strip(" <>") or people_of(mail, parts).sender.address


def _read(mail: StoredFile, parts: Parts) -> dict[str, Any]:
    people = people_of(mail, parts)
    # Readers see the HTML where there is one, so that is shown and searched.
    text = text_of_html(parts.html) if parts.html else parts.text or ""
    subject = subject_of(parts)
    files = [leaf.filename for leaf in parts.leaves if is_attachment(leaf)]
    back = return_path_of(mail, parts)
    others = [one for each in people[1:] for one in each]
    names = [f"{one.name} {one.address}" for one in (people.sender, *others)]
    head = " ".join([names[0], subject, *names[1:], back])
    whole = " ".join([head, text[:MOST_TEXT], *files])[:MOST_TEXT]
    return {
        **people._asdict(),
        "sender": (people.sender,) if any(people.sender) else (),
        "message_id": (parts.message_id or "").strip("<>"),
        "subject": subject,
        "return_path": back,
        "attachments": len(files),
        "inlines": sum(is_inline(leaf) for leaf in parts.leaves),
        "tags": _tags(parts, people),
        "snippet": snippet_of(_TARGET.sub("", text) if parts.html else text),
        "text": searchable(whole),
    }


def _tags(parts: Parts, people: People) -> tuple[str, ...]:
    """The tags that the field X-Tags and addresses like `ann+tag@example.com` ask for."""
    stated = next((value for name, value in parts.fields if name.lower() == "x-tags"), "").split(",")
    everyone = (people.sender, *people.to, *people.cc, *people.bcc)
    plus = [word for one in everyone for word in one.address.rpartition("@")[0].split("+")[1:]]
    return tuple(dict.fromkeys(tag for one in [*stated, *plus] if (tag := clean_tag(one))))[:50]


def _created(mail: StoredFile) -> int:
    """When the mail was received, as its id says, else when the file was written. At most
    the last moment that dates have, whatever a file that came by hand says."""
    received = int(mail.time * 1000)
    if mail.envelope is not None:
        with suppress(ValueError):  # an id that is no UUIDv7
            received = uuid7_ms(mail.envelope.id)
    return min(max(received, 0), LAST)
