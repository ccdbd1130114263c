"""The fields that `addRawHeaders` puts on top of a stored raw mail (SPEC section 7)."""

from __future__ import annotations

import re
from typing import Final

from functions.processors.base import Job

_UNSAFE: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def raw_fields(job: Job) -> bytes:
    """One `X-smtp-relay-RCPT_TO` for each of this flow's recipients, then the reverse-path, the
    user, the client's name and its HELO, each CRLF-ended; values cannot end a field."""
    envelope = job.mail.envelope
    fields = [("RCPT_TO", recipient) for recipient in job.recipients]
    fields += [
        ("MAIL_FROM", envelope.reverse_path),
        ("USER", envelope.user or ""),
        ("CLIENT_HOSTNAME", envelope.client.name),
        ("HELO", envelope.helo),
    ]
    return b"".join(f"X-smtp-relay-{name}: {_UNSAFE.sub('', value)}\r\n".encode() for name, value in fields)
