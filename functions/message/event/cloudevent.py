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
from typing import Any, Final

from functions.message.addresses import Address
from functions.message.envelope import Envelope
from functions.message.event import header
from functions.message.event.attachments import described
from functions.message.event.bounds import LEVELS, Cuts, entry, octets, share
from functions.message.event.objects import StoredMail
from functions.message.event.reply import reply_text
from functions.message.mime import Limits, Parts

SPEC_VERSION: Final = "1.0"  # CloudEvents 1.0.2, section "Required attributes"
TYPE: Final = "com.loopingz.smtp-relay.v2"
CONTENT_TYPE: Final = "application/cloudevents+json; charset=utf-8"
"""CloudEvents' HTTP binding, structured mode. `http-filter` says application/json instead."""

DATA_SCHEMA: Final = "urn:smtp-relay:v2:cloudevent.schema.json#/$defs/EventData"
"""The schema of `data`, by the `$id` of cloudevent.schema.json."""

MAX_REPLY: Final = 32_768
"""Most characters of replyText."""

MIN_BYTES: Final = 65_536
"""The least `max_bytes`: the event of every mail can be cut to this size."""

LEAST_TEXT: Final = 262_144
"""Bytes of text and of HTML that are read for the shortest event: markup takes many times its text."""

MOST_TEXT: Final = 3_145_728
"""Bytes of text and of HTML that are read for the longest event: in memory they take many times this."""

READ: Final = Limits()
"""The bounds that mails are read with by default."""

_AT_ONCE: Final = 1_048_576  # characters of text and HTML that are encoded with all the rest

AUTH_RESULTS: Final = ("spf", "dkim", "dmarc", "arc")

# SQS accepts only XML 1.0's characters in a message, and lone surrogates are not text. Each of these
# characters has three bytes, like its replacement.
_UNFIT: Final = re.compile("[\ud800-\udfff\ufffe\uffff]")


def build(
    envelope: Envelope,
    parts: Parts,
    *,
    flow: str,
    stored: StoredMail | None = None,
    auth: Mapping[str, Any] | None = None,
    headers: bool = True,
    text_limit: int | None = None,
    max_bytes: int,
    limits: Limits = READ,
) -> bytes:
    """The event of a mail as one flow's outputs send it, UTF-8 JSON of at most `max_bytes` bytes.

    `stored` are the objects that the same output stored. `auth` are mail-auth's results, by default those
    of the flow's notes. Without `headers` the list of header fields is empty. `text_limit` bounds the
    characters of text, html, replyText, subject and file names each. If the event is still too large,
    text and html are cut further, then header fields, then long lists and values; `truncated` names what
    was cut. `limits` are those that `parts` was read with. Raises ValueError for a `max_bytes` below
    MIN_BYTES.
    """
    if max_bytes < MIN_BYTES:
        raise ValueError(f"max_bytes is below {MIN_BYTES}")
    noted = _noted(envelope, flow) if auth is None else auth
    about = _About(envelope, parts, flow, stored, noted, headers, limits)
    bodies = {name: b for name, b in (("text", parts.text), ("html", parts.html)) if b is not None}
    for bounds in LEVELS:
        limit = bounds.characters if text_limit is None else min(bounds.characters, text_limit)
        cuts = Cuts(bounds._replace(texts=limit))
        event = about.event(cuts)
        event["data"]["email"] |= dict.fromkeys(bodies, "")
        shown = {name: body[:text_limit] for name, body in bodies.items()}
        room = max_bytes - len(encode(_reporting(event, cuts, about, bodies, shown)))
        if room >= max_bytes // 4:
            break
    while True:
        few = dict(zip(shown, share(list(shown.values()), room), strict=True))
        # To name one more body as cut takes room as well.
        room = max_bytes - len(encode(_reporting(event, cuts, about, bodies, few)))
        if sum(map(octets, few.values())) <= room:
            break
    event["data"]["email"] |= few
    return _encode_large(event) if sum(map(len, few.values())) > _AT_ONCE else encode(event)


def _reporting(
    event: dict[str, Any], cuts: Cuts, about: _About, bodies: Mapping[str, str], shown: Mapping[str, str]
) -> dict[str, Any]:
    """The event with the names of all that was cut, the bodies included."""
    event["data"]["truncated"]["fields"] = cuts.report() + [
        entry(f"email.{name}", "characters", len(shown[name]), len(body), about.more_text(name))
        for name, body in bodies.items()
        if len(shown[name]) < len(body) or about.more_text(name)
    ]
    return event


def limits_for(max_bytes: int, text_limit: int | None = None) -> Limits:
    """How much of a mail is read for an event that `build` makes with these arguments."""
    wanted = max_bytes if text_limit is None else max(LEAST_TEXT, 4 * text_limit)
    return Limits(text=min(max_bytes, wanted, MOST_TEXT))


def encode(event: Mapping[str, Any]) -> bytes:
    """Compact JSON in UTF-8, without characters that a queue refuses."""
    return _fit(json.dumps(event, ensure_ascii=False, separators=(",", ":")))


def _encode_large(event: Mapping[str, Any]) -> bytes:
    """`encode`, one value at a time: with one emoji Python takes four bytes for each character of a text,
    so the whole event must not be a text again. Slower for the many small values."""
    values = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).iterencode(event)
    return b"".join(map(_fit, values))


def _fit(text: str) -> bytes:
    return _UNFIT.sub("\ufffd", text).encode()


def iso(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, as JavaScript writes dates."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _About:
    """The facts of a mail for the events of one flow, each read once: `event` cuts them to bounds."""

    def __init__(
        self,
        envelope: Envelope,
        parts: Parts,
        flow: str,
        stored: StoredMail | None,
        auth: Mapping[str, Any],
        headers: bool,
        limits: Limits,
    ) -> None:
        self._envelope = envelope
        self._parts = parts
        self._flow = flow
        self._stored = stored
        self._auth = auth
        self._headers = headers
        self._limits = limits
        self._hidden = header.hidden_recipients(envelope, parts, flow)
        self._fields = list(header.shown_fields(parts, envelope.id, self._hidden))
        self._attachments = described(parts, stored)
        self._references = header.references(parts)
        self._in_reply_to = header.in_reply_to(parts)
        answers = bool(self._references or self._in_reply_to)
        self._reply = reply_text(parts.text, parts.subject, answers)

    def event(self, cuts: Cuts) -> dict[str, Any]:
        """The event without text and html."""
        envelope, parts = self._envelope, self._parts
        event: dict[str, Any] = {
            "specversion": SPEC_VERSION,
            "type": TYPE,
            "source": envelope.server.rpartition(":")[0] or envelope.server or "smtp-relay",
            "id": envelope.id,
            "time": iso(envelope.received_at),
            "datacontenttype": "application/json",
            "dataschema": DATA_SCHEMA,
        }
        if parts.message_id:
            event["subject"] = parts.message_id[: cuts.bounds.characters]
        data: dict[str, Any] = {
            "flow": self._flow,
            "size": envelope.size,
            "envelope": _envelope(envelope, self._flow, cuts),
            "email": self._email(cuts),
            "server": _server(envelope, cuts),
            "truncated": {"fields": []},
        }
        stored = self._stored
        if stored is not None and stored.first is not None:
            data["storage"] = stored.first.facts()
            if (manifest := stored.url("manifest")) is not None:
                data["storage"]["manifest"] = manifest
            if (whole := stored.url("raw")) is not None:
                data["truncated"]["rest"] = whole
        if self._auth and cuts.bounds.auth:
            data["auth"] = cuts.tree("auth", self._auth)
        elif self._auth:
            cuts.count("auth", "items", 0, len(self._auth))
        event["data"] = data
        return event

    def more_text(self, name: str) -> bool:
        """True if the mail has more text of this kind than is read."""
        bodies = [leaf for leaf in self._parts.leaves if leaf.is_body]
        markup = [leaf for leaf in bodies if leaf.content_type == "text/html"]
        plain = [leaf for leaf in bodies if leaf.content_type == "text/plain"]
        read = markup if name == "html" or not plain else plain
        whole = self._envelope.size <= self._limits.content
        return not whole or sum(leaf.end - leaf.start for leaf in read) > self._limits.text

    def _email(self, cuts: Cuts) -> dict[str, Any]:
        parts, bounds = self._parts, cuts.bounds
        email: dict[str, Any] = {}
        if parts.from_:
            email["from"] = _address_object(cuts.addresses("email.from.value", parts.from_))
        bcc = header.without(parts.bcc, self._hidden)
        for name, addresses in (("to", parts.to), ("cc", parts.cc), ("bcc", bcc)):
            few = cuts.addresses(f"email.{name}.value", addresses)
            email[name] = [_address_object(few)] if few else []
        if parts.reply_to:
            email["replyTo"] = _plain(cuts.addresses("email.replyTo", parts.reply_to))
        if parts.subject is not None:
            email["subject"] = cuts.text("email.subject", parts.subject, bounds.texts)
        if parts.priority is not None:
            email["priority"] = parts.priority
        if parts.date is not None and (date := _date(parts.date)) is not None:
            email["date"] = date
        words = {
            "messageId": parts.message_id,
            "inReplyTo": self._in_reply_to,
            "listId": header.list_id(parts),
            "autoSubmitted": header.auto_submitted(parts),
        }
        email |= {name: cuts.text(f"email.{name}", word) for name, word in words.items() if word}
        email["references"] = cuts.texts("email.references", self._references)
        email["headers"] = cuts.fields(self._fields) if self._headers else []
        total, more = header.count_fields(parts, self._limits.head)
        total -= len(parts.fields) - len(self._fields)
        cuts.count("email.headers", "items", len(email["headers"]), total, at_least=more)
        email["attachments"] = self._few_attachments(cuts)
        if self._reply is not None:
            most = min(bounds.texts, MAX_REPLY)
            email["replyText"] = cuts.text("email.replyText", self._reply, most)
        return email

    def _few_attachments(self, cuts: Cuts) -> list[dict[str, Any]]:
        # The reader counts containers too, hence the difference.
        more = len(self._parts.leaves) >= self._limits.parts - self._limits.depth
        more = more or self._envelope.size > self._limits.content
        few = []
        for each in cuts.items("email.attachments", self._attachments, at_least=more):
            shown = {"filename": cuts.text("email.attachments.filename", each["filename"], cuts.bounds.texts)}
            few.append(
                each
                | shown
                | {
                    name: cuts.text(f"email.attachments.{name}", each[name])
                    for name in ("contentType", "contentId", "disposition")
                    if name in each
                }
            )
        return few


def _envelope(envelope: Envelope, flow: str, cuts: Cuts) -> dict[str, Any]:
    return {
        "from": cuts.text("envelope.from", envelope.reverse_path),
        "to": cuts.texts("envelope.to", envelope.recipients_of(flow)),
        "parameters": cuts.texts("envelope.parameters", envelope.parameters),
    }


def _server(envelope: Envelope, cuts: Cuts) -> dict[str, Any]:
    return {
        "clientHostname": cuts.text("server.clientHostname", envelope.client.name, cuts.bounds.texts),
        "remoteAddress": envelope.client.ip,
        "remotePort": envelope.client.port,
        "hostNameAppearAs": cuts.text("server.hostNameAppearAs", envelope.helo),
        "id": envelope.session,
        "secure": envelope.tls is not None,
        "transmissionType": envelope.transmission,
        "username": cuts.text("server.username", envelope.user or ""),
    }


def _noted(envelope: Envelope, flow: str) -> dict[str, Any]:
    notes = envelope.notes.get(flow)
    if notes is None:
        return {}
    return {name: notes.results[name] for name in AUTH_RESULTS if name in notes.results}


def _address_object(few: list[Address]) -> dict[str, Any]:
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
