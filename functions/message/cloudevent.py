"""The CloudEvent of a mail: CloudEvents 1.0, structured JSON (docs/cloudevent.md).

`data.email` and `data.server` have the fields of the reference's interface, and the type is also the
reference's, so consumers of its events keep working.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final, NamedTuple

from functions.message.addresses import Address
from functions.message.envelope import Envelope
from functions.message.mime import Limits, Parts

SPEC_VERSION: Final = "1.0"  # CloudEvents 1.0.2, section "Required attributes"
TYPE: Final = "com.loopingz.smtp-relay.v2"
CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
"""CloudEvents' HTTP binding, structured mode. `http-filter` says application/json instead."""

MIN_BYTES: Final = 65_536
"""The least `max_bytes`: the event of every mail can be cut to this size."""

LEAST_TEXT: Final = 262_144
"""Bytes of text and of HTML that are read for the shortest event: markup takes many times its text."""

AUTH_RESULTS: Final = ("spf", "dkim", "dmarc", "arc")

# SQS accepts only XML 1.0's characters in a message, and lone surrogates are not text. Each of these
# characters has three bytes, like its replacement.
_UNFIT: Final = re.compile("[\ud800-\udfff\ufffe\uffff]")


class _Bounds(NamedTuple):
    """Bounds for everything but text and html: characters of each value, items of each list, and
    characters of the texts that `text_limit` covers."""

    characters: int
    items: int
    auth: bool = True
    texts: int = 0


_LEVELS: Final = (
    _Bounds(100_000, 2_000),
    _Bounds(1_000, 500),
    _Bounds(250, 100),
    _Bounds(100, 20),
    _Bounds(60, 2, auth=False),
)


def build(
    envelope: Envelope,
    parts: Parts,
    *,
    flow: str,
    storage_url: str | None = None,
    auth: Mapping[str, Any] | None = None,
    text_limit: int | None = None,
    max_bytes: int,
) -> bytes:
    """The event of a mail as one flow's outputs send it, UTF-8 JSON of at most `max_bytes` bytes.

    `storage_url` is where this flow stored the mail. `auth` are mail-auth's results, by default those of
    the flow's notes. `text_limit` bounds the characters of text, html, subject and file names each. If
    the event is still too large, text and html are cut further, then long lists and values. Raises
    ValueError for a `max_bytes` below MIN_BYTES.
    """
    if max_bytes < MIN_BYTES:
        raise ValueError(f"max_bytes is below {MIN_BYTES}")
    bodies = {
        name: b[:text_limit] for name, b in (("text", parts.text), ("html", parts.html)) if b is not None
    }
    if auth is None:
        auth = _noted(envelope, flow)
    for bounds in _LEVELS:
        limit = bounds.characters if text_limit is None else min(bounds.characters, text_limit)
        event = _event(envelope, parts, bounds._replace(texts=limit), storage_url, auth)
        email = event["data"]["email"]
        email |= dict.fromkeys(bodies, "")
        room = max_bytes - len(encode(event))
        if room >= max_bytes // 4:
            break
    email |= zip(bodies, _share(list(bodies.values()), room), strict=True)
    return encode(event)


def limits_for(max_bytes: int, text_limit: int | None = None) -> Limits:
    """How much of a mail is read for an event that `build` makes with these arguments."""
    wanted = max_bytes if text_limit is None else max(LEAST_TEXT, 4 * text_limit)
    return Limits(text=min(max_bytes, wanted))


def encode(event: Mapping[str, Any]) -> bytes:
    """Compact JSON in UTF-8, without characters that a queue refuses."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    return _UNFIT.sub("\ufffd", text).encode()


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as JavaScript writes dates."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _event(
    envelope: Envelope,
    parts: Parts,
    bounds: _Bounds,
    storage_url: str | None,
    auth: Mapping[str, Any],
) -> dict[str, Any]:
    event: dict[str, Any] = {
        "specversion": SPEC_VERSION,
        "type": TYPE,
        "source": envelope.server.rpartition(":")[0] or envelope.server or "smtp-relay",
        "id": envelope.id,
        "time": iso(envelope.received_at),
        "datacontenttype": "application/json",
    }
    if parts.message_id:
        event["subject"] = parts.message_id[: bounds.characters]
    data: dict[str, Any] = {"email": _email(parts, bounds), "server": _server(envelope, bounds)}
    if storage_url is not None:
        data["storage"] = {"url": storage_url}
    if auth and bounds.auth:
        data["auth"] = _cut_all(auth, bounds)
    event["data"] = data
    return event


def _email(parts: Parts, bounds: _Bounds) -> dict[str, Any]:
    email: dict[str, Any] = {}
    if parts.from_:
        email["from"] = _address_object(parts.from_, bounds)
    for name, addresses in (("to", parts.to), ("cc", parts.cc), ("bcc", parts.bcc)):
        email[name] = [_address_object(addresses, bounds)] if addresses else []
    if parts.reply_to:
        email["replyTo"] = _plain(_few(parts.reply_to, bounds))
    if parts.subject is not None:
        email["subject"] = parts.subject[: bounds.texts]
    if parts.priority is not None:
        email["priority"] = parts.priority
    if parts.date is not None and (date := _date(parts.date)) is not None:
        email["date"] = date
    email["attachments"] = [
        {"filename": attachment.filename[: bounds.texts], "size": attachment.size}
        for attachment in parts.attachments[: bounds.items]
    ]
    return email


def _server(envelope: Envelope, bounds: _Bounds) -> dict[str, Any]:
    return {
        "clientHostname": envelope.client.name[: bounds.texts],
        "remoteAddress": envelope.client.ip,
        "remotePort": envelope.client.port,
        "hostNameAppearAs": envelope.helo[: bounds.characters],
        "id": envelope.session,
        "secure": envelope.tls is not None,
        "transmissionType": envelope.transmission,
        "username": (envelope.user or "")[: bounds.characters],
    }


def _noted(envelope: Envelope, flow: str) -> dict[str, Any]:
    notes = envelope.notes.get(flow)
    if notes is None:
        return {}
    return {name: notes.results[name] for name in AUTH_RESULTS if name in notes.results}


def _few(addresses: list[Address], bounds: _Bounds) -> list[Address]:
    return [
        Address(one.name[: bounds.characters], one.address[: bounds.characters])
        for one in addresses[: bounds.items]
    ]


def _address_object(addresses: list[Address], bounds: _Bounds) -> dict[str, Any]:
    few = _few(addresses, bounds)
    return {
        "value": [{"address": one.address, "name": one.name} for one in few],
        "html": _markup(few),
        "text": _plain(few),
    }


def _plain(addresses: Iterable[Address]) -> str:
    return ", ".join(_mailbox(one.name, one.address) for one in addresses)


def _mailbox(name: str, address: str) -> str:
    if not name:
        return address
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{quoted} <{address}>" if address else quoted


def _markup(addresses: Iterable[Address]) -> str:
    """The classes match style sheets for the reference's events."""
    found = []
    for one in addresses:
        name, address = html.escape(one.name), html.escape(one.address)
        link = f'<a href="mailto:{address}" class="mp_address_email">{address}</a>' if address else ""
        if name:
            link = f'<span class="mp_address_name">{name}</span>' + (f" &lt;{link}&gt;" if link else "")
        found.append(f'<span class="mp_address_group">{link}</span>')
    return ", ".join(found)


def _date(date: datetime) -> str | None:
    try:
        return iso(date)
    except OverflowError:  # the offset leads beyond the years of a datetime
        return None


def _cut_all(value: Any, bounds: _Bounds) -> Any:
    if isinstance(value, str):
        return value[: bounds.characters]
    if isinstance(value, Mapping):
        pairs = islice(value.items(), bounds.items)
        return {str(key)[: bounds.characters]: _cut_all(item, bounds) for key, item in pairs}
    if isinstance(value, list | tuple):
        return [_cut_all(item, bounds) for item in value[: bounds.items]]
    return value


def _share(bodies: list[str], room: int) -> list[str]:
    """Both bodies within `room` bytes of JSON; one may use the room that the other leaves."""
    shown = []
    needs = sum(map(_octets, bodies))
    for left, body in zip(range(len(bodies), 0, -1), bodies, strict=True):
        own = _octets(body)
        needs -= own
        fits = body if own <= room // left else _prefix(body, max(room // left, room - needs))
        shown.append(fits)
        room -= _octets(fits)
    return shown


def _octets(text: str) -> int:
    """The length of a text between the quotes of JSON."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "surrogatepass")) - 2


def _prefix(text: str, room: int) -> str:
    """The longest start of `text` that takes at most `room` bytes in JSON."""
    text = text[: max(0, room)]
    if _octets(text) <= room:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if _octets(text[:middle]) <= room:
            low = middle
        else:
            high = middle - 1
    return text[:low]
