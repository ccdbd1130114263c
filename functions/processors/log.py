"""Output `log`: one log record per mail (docs/outputs/log.md)."""

from __future__ import annotations

import logging
from typing import ClassVar, Final, Literal

from functions.message.addresses import Address
from functions.message.mail import Mail
from functions.message.mime import Limits, Parts, read_parts
from functions.processors.base import Job, OutputOptions, Processor
from functions.processors.context import BuildContext

log: Final = logging.getLogger("smtp_relay.output.log")

Field = Literal["from", "to", "cc", "bcc", "subject", "text"]

_TEXT: Final = 10_000
"""Most characters of the text in the record."""

_LIMITS: Final = Limits(content=262_144, head=32_768, parts=100, text=65_536)
"""The event loop reads the mails: within these bounds the worst mail takes a tenth of a second."""


class LogOutputOptions(OutputOptions):
    """Log the mail as one record."""

    type: Literal["log"] = "log"

    fields: tuple[Field, ...] = ("from", "to", "cc", "bcc", "subject", "text")
    """The parts of the mail to show."""

    local = True

    @property
    def effect(self) -> str:
        return "logs it"

    def identity(self) -> str:
        return self.name or f"log:{','.join(self.fields)}"


class LogProcessor(Processor):
    """Logs mails at INFO; ids and size always, the chosen fields where the mail has them."""

    quick: ClassVar[bool] = True
    needs_spool = False

    def __init__(self, options: LogOutputOptions, name: str) -> None:
        self._fields = options.fields
        self._name = name

    def process(self, job: Job) -> None:
        self.place(job.mail, job.flow, shared=job.shared)

    def place(self, mail: Mail, flow: str, *, shared: bool) -> None:
        if not log.isEnabledFor(logging.INFO):
            return
        envelope = mail.envelope
        extra: dict[str, object] = {
            "id": envelope.id,
            "session": envelope.session,
            "flow": flow,
            "output": self._name,
            "size": envelope.size,
        }
        if self._fields:
            parts = read_parts(mail, flow, _LIMITS)
            for field in self._fields:
                value = _show(parts, field)
                if value:
                    extra[field] = value
        log.info("mail", extra=extra)


def _show(parts: Parts, field: Field) -> str | list[str]:
    match field:
        case "from":
            return _written(parts.from_)
        case "to":
            return _written(parts.to)
        case "cc":
            return _written(parts.cc)
        case "bcc":
            return _written(parts.bcc)
        case "subject":
            return parts.subject or ""
        case "text":
            return (parts.text or "")[:_TEXT]


def _written(addresses: list[Address]) -> list[str]:
    return [f"{name} <{address}>" if name else address for name, address in addresses]


def build(options: LogOutputOptions, name: str, context: BuildContext) -> LogProcessor:
    """The processor of one `log` output; it needs nothing of its surroundings."""
    return LogProcessor(options, name)
