"""The spool object and its keys: the contract between the two halves.

One accepted mail is one object: the envelope as its first header field, then the mail byte for
byte. The object is a valid RFC 5322 mail.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from functions.message.envelope import FIELD_NAME, Envelope, UnknownEnvelope, decode_value, encode_field

CONTENT_TYPE: Final = "message/rfc822"

MAX_FIELD: Final = 4_194_304
"""Most bytes of the envelope field: 1,000 recipients with long addresses and results fit many times."""

_START: Final = FIELD_NAME.lower() + b":"


def shard(mail_id: str) -> str:
    """The hex digit that spreads load over key ranges: the last of the id."""
    return mail_id[-1]


def spool_key(mail_id: str, received: datetime) -> str:
    """Key of an unfinished mail, below the prefix. `received` is in UTC."""
    return f"spool/{shard(mail_id)}/{received:%Y/%m/%d/%H}/{mail_id}.eml"


def kept_key(mail_id: str, received: datetime) -> str:
    """Key of a finished mail that is kept, below the prefix."""
    return f"kept/{received:%Y/%m/%d/%H}/{mail_id}.eml"


def dead_key(mail_id: str, output_key: str) -> str:
    """Key of the record of an output that was given up, below the prefix."""
    return f"dead/{shard(mail_id)}/{mail_id}/{output_key}.json"


def receipt_prefix(mail_id: str) -> str:
    """The prefix of a mail's receipts, below the spool's prefix (Cloud Storage)."""
    return f"receipts/{shard(mail_id)}/{mail_id}/"


class Head(NamedTuple):
    """A spool object's envelope, and where the mail starts in the object."""

    envelope: Envelope
    offset: int


def encode_object(envelope: Envelope, content: bytes) -> bytes:
    """The whole spool object of a mail that is in memory."""
    return encode_field(envelope) + content


def read_head(start: bytes) -> Head | None:
    """Read the envelope from the first bytes of a spool object.

    Returns None if more bytes are needed because the field is not complete in `start`. Raises
    UnknownEnvelope for an object that is not a spool object of a schema that this version reads.
    """
    if start[: len(_START)].lower() != _START[: len(start)]:
        raise UnknownEnvelope("the object does not start with an envelope field")
    at = 0
    while True:
        end = start.find(b"\r\n", at)
        if (end if end >= 0 else len(start)) > MAX_FIELD:
            raise UnknownEnvelope("the envelope field has no end")
        if end < 0 or end + 2 >= len(start):
            return None
        if start[end + 2 : end + 3] not in (b" ", b"\t"):
            return Head(decode_value(start[len(_START) : end]), end + 2)
        at = end + 2


def split_object(data: bytes) -> tuple[Envelope, bytes]:
    """Envelope and mail of a whole spool object. Raises UnknownEnvelope."""
    head = read_head(data)
    if head is None:
        # An empty mail is the field alone.
        head = read_head(data + b"X") if data.endswith(b"\r\n") else None
    if head is None:
        raise UnknownEnvelope("the object ends inside the envelope field")
    return head.envelope, data[head.offset :]
