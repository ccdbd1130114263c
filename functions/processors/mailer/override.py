"""`override`: changes a mail's header and envelope before forwarding (docs/outputs/mailer.md)."""

from __future__ import annotations

import re
from email.header import Header
from typing import Final

from functions.message.addresses import Address, parse_addresses
from functions.message.headers import MAX_LINE, HeaderEdits
from functions.processors.mailer.options import Override

_WIDTH: Final = 78  # RFC 5322 section 2.1.1: lines SHOULD stay within
_WORDS_WIDTH: Final = 76  # RFC 2047 section 2: of lines with encoded words
_ATOMS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_FOLD: Final = re.compile(r"(?=[ \t])(?<![ \t])")


class Overriding:
    """The edits of one configuration. Raises ValueError, naming the key, for a value that a header
    cannot hold.

    `recipients` replace the envelope's, None keeps them; `reverse_path` likewise. `utf8` says that
    an address goes beyond ASCII, which RFC 2047 cannot write.
    """

    def __init__(self, options: Override) -> None:
        lists = {
            "From": _mailboxes("from", None if options.from_ is None else (options.from_,)),
            "To": _mailboxes("to", options.to),
            "Cc": _mailboxes("cc", options.cc),
            "Bcc": _mailboxes("bcc", options.bcc),
            "Reply-To": _mailboxes("replyTo", options.reply_to),
        }
        fields: dict[str, bytes] = {}
        for name, value in options.headers.items():
            fields[name.lower()] = text_field(name, value)
        if options.subject is not None:
            fields["subject"] = text_field("Subject", options.subject)
        for name, boxes in lists.items():
            if boxes is not None:
                # Bcc is never written to the header.
                fields[name.lower()] = b"" if name == "Bcc" or not boxes else address_field(name, boxes)
        self._fields = b"".join(fields.values())
        self._edits = HeaderEdits({f"-{name}": "" for name in fields}) if fields else None
        self.recipients = _recipients(lists["To"], lists["Cc"], lists["Bcc"])
        self.reverse_path = lists["From"][0].address if lists["From"] else None
        self.utf8 = not all(box.address.isascii() for boxes in lists.values() for box in boxes or ())

    def head(self, head: bytes) -> bytes:
        """The edited header block."""
        return head if self._edits is None else self._fields + self._edits.kept(head)


def text_field(name: str, value: str) -> bytes:
    """An unstructured field. Text beyond ASCII becomes encoded words (RFC 2047); ASCII stays unchanged
    except for folds at its blanks. Raises ValueError if it cannot be folded."""
    value = value.strip()
    if not value.isascii():
        return f"{name}: {_words(name, value)}\r\n".encode()
    # The first word stays beside the name, because some readers end a field at a line of blanks
    # alone.
    first, *others = _FOLD.split(value)
    lines = [f"{name}: {first}"]
    for piece in others:
        if len(lines[-1]) + len(piece) > _WIDTH:
            lines.append(piece)
        else:
            lines[-1] += piece
    if any(len(line) > MAX_LINE for line in lines):
        raise ValueError(f"{name}: a word is longer than {MAX_LINE} bytes (RFC 5322 section 2.1.1)")
    return "\r\n".join(lines).encode() + b"\r\n"


def address_field(name: str, boxes: list[Address]) -> bytes:
    """A field of mailboxes, each on its own line after the first."""
    return f"{name}: {f',{chr(13)}{chr(10)} '.join(_written(name, box) for box in boxes)}\r\n".encode()


def _written(name: str, box: Address) -> str:
    if not box.name:
        return box.address
    if not box.name.isascii():
        return f"{_words(name, box.name)} <{box.address}>"
    if _ATOMS.fullmatch(box.name):
        return f"{box.name} <{box.address}>"
    quoted = box.name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{box.address}>'


def _words(name: str, text: str) -> str:
    """Encoded words on lines of their own, none with a part of a character (RFC 2047 section 5)."""
    return Header(text, "utf-8", header_name=name, maxlinelen=_WORDS_WIDTH).encode(linesep="\r\n")


def _mailboxes(key: str, values: tuple[str, ...] | None) -> list[Address] | None:
    if values is None:
        return None
    boxes = [box for value in values for box in parse_addresses(value.encode())]
    for box in boxes:
        if "@" not in box.address:
            raise ValueError(f"{key}: {box.address or box.name!r} is not a mail address")
    return boxes


def _recipients(*lists: list[Address] | None) -> tuple[str, ...] | None:
    given = [boxes for boxes in lists if boxes is not None]
    if not given:
        return None
    found = tuple(dict.fromkeys(box.address for boxes in given for box in boxes))
    if not found:
        raise ValueError("to, cc and bcc name no recipient")
    return found
