"""Jobs for processors, with receipts in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from functions.errors import DeliveryFault
from functions.message.envelope import Envelope
from functions.message.mail import BytesContent, Content, Mail
from functions.processors.base import Job
from tests.support.mails.spooled import MAIL, envelope_of


class Receipts:
    """Remembers which parts were done, as a ledger would, and what they returned."""

    def __init__(self) -> None:
        self.done: dict[str, str | None] = {}

    def __call__(self, part: str, effect: Callable[[], str | None]) -> str | None:
        if part not in self.done:
            result = effect()
            self.done[part] = result
        return self.done[part]


def job_of(
    content: bytes | Content = MAIL,
    *,
    once: Receipts | None = None,
    envelope: Envelope | None = None,
    seconds_left: float = 100.0,
    **about: Any,
) -> Job:
    """One mail's work for the first of its flows."""
    data = content if isinstance(content, bytes) else content.read()
    envelope = envelope or envelope_of(data, **about)
    flow = envelope.flows()[0]
    body = BytesContent(content) if isinstance(content, bytes) else content
    recipients = envelope.recipients_of(flow)
    return Job(Mail(envelope, body), flow, recipients, once or Receipts(), lambda: seconds_left)


def fault_of(work: Callable[[], Any]) -> DeliveryFault:
    """The fault that a piece of work ends with."""
    try:
        work()
    except DeliveryFault as fault:
        return fault
    raise AssertionError("it worked")
