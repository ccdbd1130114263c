"""The header fields of a mail that an event may show, and the recipients that it must not name.

A flow's event names the recipients of that flow, and those that the mail's own To and Cc show to
everybody. The other recipients of the mail are hidden: neither the Bcc field nor a trace of an earlier
server may disclose them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from functions.message.addresses import Address, address_key
from functions.message.charset import decode, decode_words
from functions.message.envelope import FIELD_NAME, Envelope
from functions.message.fields import MAX_FIELDS, first_value
from functions.message.mime import Parts

_BLIND: Final = frozenset({"bcc", "resent-bcc"})
_OURS: Final = frozenset({"x-smtp-relay", "x-mailbox-line", FIELD_NAME.decode().lower()})
_RAW: Final = "x-smtp-relay-"  # the fields of `addRawHeaders`, which an earlier relay may have stored
_VISIBLE: Final = frozenset({"to", "cc", "from", "sender", "reply-to"})
_FOR: Final = re.compile(r"\bfor[ \t]++<?+[^\s<>;]++>?+", re.IGNORECASE)  # RFC 5321 section 4.4
_FIELD_START: Final = re.compile(rb"(?:\A|\r\n)[!-9;-~]++[ \t]*+:")
_ID: Final = re.compile(r"<[^<>\s]{1,998}>")
_DOMAIN: Final = re.compile(r"\[[\w.:-]{1,300}\]|[\w.-]{1,320}")
_LOCAL: Final = 320  # characters before an @ to look at
_AROUND: Final = re.compile(r"[\s<>,;:()\[\]@\"]")
_WITHIN: Final = re.compile(r"\W")
_OTHER_AT: Final = re.compile(r"=(?!40)|=40|%40|&#64;")
_WORD: Final = re.compile(r"[A-Za-z-]{1,40}")


class Hidden(NamedTuple):
    """The recipients that no event of a flow may name: the keys of their addresses, their domains, and
    the lengths of these."""

    keys: frozenset[str]
    domains: frozenset[str]
    lengths: frozenset[int]


NOBODY: Final = Hidden(frozenset(), frozenset(), frozenset())


def hidden_recipients(envelope: Envelope, parts: Parts, flow: str) -> Hidden:
    """The recipients that no event of this flow may name."""
    others = [each for each in envelope.recipients if flow not in each.flows]
    if not others:
        return NOBODY
    shown = {address_key(each) for each in (*envelope.recipients_of(flow), envelope.reverse_path)}
    visible = (*parts.to, *parts.cc, *parts.from_, *parts.reply_to)
    shown.update(address_key(each.address) for each in visible)
    hidden = [each.address for each in others if address_key(each.address) not in shown]
    keys = frozenset([*map(address_key, hidden), *map(str.lower, hidden)])
    domains = frozenset(key.rpartition("@")[2].rstrip(".") for key in keys)
    return Hidden(keys, domains, frozenset(map(len, domains)))


def without(addresses: Iterable[Address], hidden: Hidden) -> list[Address]:
    """The addresses that are not hidden, and do not name a hidden one in some other way."""
    if not hidden.keys:
        return list(addresses)
    return [
        each
        for each in addresses
        if address_key(each.address) not in hidden.keys
        and not _names_any(f"{each.name} {each.address}", hidden)
    ]


def shown_fields(parts: Parts, mail_id: str, hidden: Hidden) -> Iterator[tuple[str, str]]:
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


def permitted(lowered: str, text: str, hidden: Hidden) -> str | None:
    """A field's value as it may be shown, by the field's name in lower case; None if not at all."""
    if not hidden.keys or lowered in _VISIBLE or not _names_any(text, hidden):
        return text
    text = _FOR.sub("", text)
    return None if lowered != "received" or _names_any(text, hidden) else text


def _names_any(text: str, hidden: Hidden) -> bool:
    """True if a text names one of the hidden recipients, whatever stands around it. The time grows with
    the text and not with the recipients."""
    if "=?" in text:
        text = decode_words(text.encode("utf-8", "replace"))
    lowered = text.lower()
    if _named_in(lowered, hidden):
        return True
    # In the address of a bounce (VERP) and in a URL the @ is written in another way.
    other = _OTHER_AT.sub("@", lowered)
    return other != lowered and _named_in(other, hidden)


def _named_in(lowered: str, hidden: Hidden) -> bool:
    at = lowered.find("@")
    while at >= 0:
        found = _DOMAIN.match(lowered, at + 1)
        domain = found[0] if found is not None else ""
        # The text may go on behind the domain without a blank.
        for start in {domain[:length] for length in hidden.lengths}:
            if start in hidden.domains and not hidden.keys.isdisjoint(_addresses_at(lowered, at, start)):
                return True
        at = lowered.find("@", at + 1)
    return False


def _addresses_at(text: str, at: int, domain: str) -> Iterator[str]:
    """The addresses that a reader may see around the @ at this place."""
    before = text[max(0, at - _LOCAL) : at]
    quote = before.rfind('"', 0, -1) if before.endswith('"') else -1
    if quote >= 0:
        yield f"{before[quote:]}@{domain}"
    word = _AROUND.split(before)[-1]
    yield f"{word}@{domain}"
    for found in _WITHIN.finditer(word):  # to=ann@example.org, 'ann@example.org'
        yield f"{word[found.end() :]}@{domain}"


def count_fields(parts: Parts, most: int) -> tuple[int, bool]:
    """The number of fields of the header block, and True if the mail has more than the `most` bytes of a
    header that are read."""
    count = len(parts.fields)
    if count >= MAX_FIELDS:
        count = len(_FIELD_START.findall(parts.head))
    return count, len(parts.head) >= most


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
