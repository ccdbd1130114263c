"""The header fields of a mail that an event may show, and the recipients that it must not name.

A flow's event names the recipients of that flow, and those that the mail's own To and Cc show to
everybody. The other recipients of the mail are hidden: neither the Bcc field nor a trace of an earlier
server may disclose them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from functions.message.addresses import Address, address_key
from functions.message.charset import decode, decode_words
from functions.message.envelope import FIELD_NAME, Envelope
from functions.message.fields import MAX_FIELDS, first_value
from functions.message.mime import Limits, Parts

_BLIND: Final = frozenset({"bcc", "resent-bcc"})
_OURS: Final = frozenset({"x-smtp-relay", "x-mailbox-line", FIELD_NAME.decode().lower()})
_RAW: Final = "x-smtp-relay-"  # the fields of `addRawHeaders`, which an earlier relay may have stored
_VISIBLE: Final = frozenset({"to", "cc", "from", "sender", "reply-to", "resent-to", "resent-cc"})
_FOR: Final = re.compile(r"\bfor[ \t]++<?+[^\s<>;]++>?+", re.IGNORECASE)  # RFC 5321 section 4.4
_FIELD_START: Final = re.compile(rb"(?:\A|\r\n)[!-9;-~]++[ \t]*+:")
_ID: Final = re.compile(r"<[^<>\s]{1,998}>")
_WORD: Final = re.compile(r"[A-Za-z-]{1,40}")


def hidden_recipients(envelope: Envelope, parts: Parts, flow: str) -> frozenset[str]:
    """The keys of the recipients that no event of this flow may name."""
    others = [each for each in envelope.recipients if flow not in each.flows]
    if not others:
        return frozenset()
    shown = {address_key(each) for each in (*envelope.recipients_of(flow), envelope.reverse_path)}
    visible = (*parts.to, *parts.cc, *parts.from_, *parts.reply_to)
    shown.update(address_key(each.address) for each in visible)
    hidden = [each.address for each in others if address_key(each.address) not in shown]
    return frozenset([*map(address_key, hidden), *map(str.lower, hidden)])


def without(addresses: Iterable[Address], hidden: frozenset[str]) -> list[Address]:
    """The addresses that are not hidden."""
    return [each for each in addresses if address_key(each.address) not in hidden]


def shown_fields(parts: Parts, mail_id: str, hidden: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Name and readable value of each field in the mail's order, without Bcc, without the relay's own,
    and without those that name a hidden recipient. A Received field only loses its `for` clause then."""
    ours = f" id {mail_id}"
    for name, value in parts.fields:
        lowered = name.lower()
        if lowered in _BLIND or lowered in _OURS or lowered.startswith(_RAW):
            continue
        if lowered == "received" and ours in value:
            continue
        text = permitted(lowered, value, hidden)
        if text is not None:
            yield name, text


def permitted(lowered: str, text: str, hidden: frozenset[str]) -> str | None:
    """A field's value as it may be shown, by the field's name in lower case; None if not at all."""
    if not hidden or lowered in _VISIBLE or not _names_any(text, hidden):
        return text
    text = _FOR.sub("", text)
    return None if lowered != "received" or _names_any(text, hidden) else text


def _names_any(text: str, hidden: frozenset[str]) -> bool:
    """True if a text names one of the hidden recipients, whatever stands around it."""
    if "=?" in text:
        text = decode_words(text.encode("utf-8", "replace"))
    lowered = text.lower()
    return "@" in text and any(key in lowered for key in hidden)


def count_fields(parts: Parts) -> tuple[int, bool]:
    """The number of fields that the header block has, and True if the mail has more than this reads."""
    if len(parts.fields) < MAX_FIELDS:
        return len(parts.fields), len(parts.head) >= Limits().head
    return len(_FIELD_START.findall(parts.head)), len(parts.head) >= Limits().head


def references(parts: Parts) -> list[str]:
    """The message ids of the References field (RFC 5322 section 3.6.4), the oldest first."""
    return _ID.findall(_readable(parts, b"references"))


def in_reply_to(parts: Parts) -> str:
    """The message ids of the In-Reply-To field, mostly one; "" without any."""
    value = _readable(parts, b"in-reply-to")
    return " ".join(_ID.findall(value)) or value.strip()


def list_id(parts: Parts) -> str:
    """The identifier of the mailing list (RFC 2919 section 2), without its angle brackets; "" without
    one."""
    value = _readable(parts, b"list-id").strip()
    before, bracket, after = value.rpartition("<")
    return after.partition(">")[0].strip() if bracket else before or after


def auto_submitted(parts: Parts) -> str:
    """The keyword of Auto-Submitted (RFC 3834 section 5) in lower case; "" without one."""
    found = _WORD.match(_readable(parts, b"auto-submitted").strip())
    return found[0].lower() if found else ""


def _readable(parts: Parts, name: bytes) -> str:
    value = first_value(parts.head, name)
    return "" if value is None else decode_words(value) if b"=?" in value else decode(value)
