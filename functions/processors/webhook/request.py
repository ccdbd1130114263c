"""The body of a request, in each format, and the headers that belong to it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import quote

from functions.errors import Permanent
from functions.http.client import Body
from functions.message.event import cloudevent, mailpit, ses_notification
from functions.message.event.objects import StoredMail
from functions.processors.base import Job
from functions.processors.store import Contents, open_below
from functions.processors.webhook.options import WebhookOptions

_JSON: Final = "application/json"
_RAW: Final = "message/rfc822"

_PIECE: Final = 262_144
_MOST_RECIPIENTS: Final = 4_096  # bytes of a header with addresses: servers take 8 KiB of a line

# A cut event names its cuts. In JSON no text holds these quotes, so only the key itself is found.
_UNCUT: Final = b'"truncated":{"fields":[]'

_HEADER_SAFE: Final = "!#$&'()*+,-./:;<=>?@[]^_`{|}~"


class Request(NamedTuple):
    """What one attempt sends, apart from signatures."""

    headers: dict[str, str]
    body: Body
    size: int

    def pieces(self) -> Iterator[bytes]:
        """The body's bytes."""
        if isinstance(self.body, bytes):
            yield self.body
            return
        room = self.size
        with self.body() as stream:
            while room and (piece := stream.read(min(_PIECE, room))):
                room -= len(piece)
                yield piece


def make(options: WebhookOptions, job: Job, contents: Contents, stored: StoredMail | None) -> Request:
    """The request about one mail. Raises Permanent if it is too large and must not be cut."""
    whole = stored is not None and stored.first is not None
    if options.format == "raw":
        return _raw(options, job, stored, strict=not whole and options.on_too_large == "dead-letter")
    envelope, parts, flow = job.mail.envelope, contents.parts, job.flow
    about = {"smtp-relay-flow": header_value(flow)}
    if options.format == "mailpit":
        return _of(about | _storage(stored), _JSON, mailpit.build(envelope, parts, flow=flow))
    if options.format == "ses":
        url = stored.first.url if stored is not None and stored.first is not None else None
        body = ses_notification.build(envelope, parts, flow=flow, storage_url=url, max_bytes=options.most)
        return _of(about, _JSON, body)
    body = cloudevent.build(
        envelope, parts, flow=flow, stored=stored, max_bytes=options.most, limits=contents.limits
    )
    if not whole and options.on_too_large == "dead-letter" and _UNCUT not in body:
        raise _too_large(options)
    if options.format == "cloudevent":
        return _of(about, cloudevent.CONTENT_TYPE, body)
    event = json.loads(body)
    data = cloudevent.encode(event.pop("data"))
    event.pop("datacontenttype")  # the binding: it is the Content-Type
    return _of(about | {f"ce-{name}": header_value(str(value)) for name, value in event.items()}, _JSON, data)


def _of(headers: Mapping[str, str], content_type: str, body: bytes) -> Request:
    return Request({**headers, "Content-Type": content_type}, body, len(body))


def _raw(options: WebhookOptions, job: Job, stored: StoredMail | None, *, strict: bool) -> Request:
    envelope = job.mail.envelope
    with open_below(job.mail, job.flow, b"") as stream:
        size = stream.seek(0, io.SEEK_END)
    if size > options.most and strict:
        raise _too_large(options)
    headers = {
        "smtp-relay-id": envelope.id,
        "smtp-relay-flow": header_value(job.flow),
        "smtp-relay-mail-from": header_value(envelope.reverse_path),
        **_recipients(job.recipients),
        "smtp-relay-size": str(size),
        **_storage(stored),
        "Content-Type": _RAW,
    }
    if size > options.most:
        headers["smtp-relay-truncated"] = "true"
    opening: Any = partial(_opened, job)
    return Request(headers, opening, min(size, options.most))


def _opened(job: Job) -> BinaryIO:
    return open_below(job.mail, job.flow, b"")


def _recipients(recipients: tuple[str, ...]) -> dict[str, str]:
    """As many as fit into one header, and how many there are."""
    shown: list[str] = []
    room = _MOST_RECIPIENTS
    for each in recipients:
        text = quote(each, safe="!#$&'*+-/=?^_`{|}~.@[]:")
        room -= len(text) + 1
        if room < 0:
            break
        shown.append(text)
    return {"smtp-relay-rcpt-to": ",".join(shown), "smtp-relay-rcpt-count": str(len(recipients))}


def _storage(stored: StoredMail | None) -> dict[str, str]:
    there = None if stored is None else stored.first
    if there is None:
        return {}
    found = {"smtp-relay-storage-url": header_value(there.url)}
    return found | ({"smtp-relay-storage-link": there.link} if there.link else {})


def header_value(text: str) -> str:
    """A text as CloudEvents' HTTP binding writes it into a header: everything but printable ASCII is
    percent-encoded, and so are blanks, double quotes and percent signs (section 3.1.3.2)."""
    return quote(text.encode("utf-8", "replace"), safe=_HEADER_SAFE)


def _too_large(options: WebhookOptions) -> Permanent:
    return Permanent(
        f"the body is larger than {options.most} bytes (maxBytes, onTooLarge)",
        enhanced="5.3.4",  # RFC 3463: message too big for system
    )
