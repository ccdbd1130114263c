"""The ids of messages in FIFO queues and topics."""

from __future__ import annotations

import re
from typing import Final

from functions.processors.base import Job

_OTHERS: Final = re.compile(r"[^A-Za-z0-9!-~]")


def ids_of(job: Job) -> dict[str, str]:
    """The group, which is the flow, and a deduplication id that is the same at every attempt."""
    replay = f"-{job.mail.envelope.replay}" if job.mail.envelope.replay else ""
    flow = _OTHERS.sub("-", job.flow)
    return {
        "MessageGroupId": flow[:128] or "mail",
        "MessageDeduplicationId": f"{job.mail.id}{replay}-{flow[:60]}",
    }
