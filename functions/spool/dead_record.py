"""The record of one output of one mail that was given up."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from functions.message.envelope import LAST, Envelope

UNKNOWN: Final = "unknown"
"""Takes the place of the output in the key and record of a flow that is not known."""


class DeadRecord(BaseModel):
    """The reason why one output of one mail was given up. Times are Unix milliseconds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = 1
    id: str
    key: str
    """The output key: hash of mail, replay, flow and output."""
    flow: str
    output: str
    reason: str
    code: str
    """RFC 3463 enhanced status code."""
    attempts: int = 1
    first: int = Field(ge=0, le=LAST)
    last: int = Field(ge=0, le=LAST)
    replay: int = 0
    recipients: tuple[str, ...] = ()
    reverse_path: str = ""

    def summary(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return self.model_dump(mode="json")


def refused_records(envelope: Envelope) -> list[DeadRecord]:
    """The dead records of recipients that were refused when the mail was accepted (`partialAccept`)."""
    return [
        DeadRecord(
            id=envelope.id,
            key=f"recipient-{index}",
            flow="",
            output=UNKNOWN,
            reason=refused.reason,
            code=refused.code,
            first=envelope.received,
            last=envelope.received,
            recipients=(refused.address,),
            reverse_path=envelope.reverse_path,
        )
        for index, refused in enumerate(envelope.refused)
    ]
