"""The processor interface: what carries out one output for one mail.

Processors know no trigger and no spool. They are synchronous, are built once per process and may
be called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Final, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict

from functions.message.mail import Mail

MIN_SECONDS_LEFT: Final = 35.0
"""No effect starts with less than this left of the run: a request then still ends before the run's
deadline."""


class OutputOptions(BaseModel):
    """What every output's options share. Subclasses add `type: Literal["…"]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str | None = None
    """Label in metrics, logs and receipts; `TYPE_INDEX` as a label when left out."""

    def identity(self) -> str:
        """What receipts name this output by: its `name`, else its type and destination without
        secrets, never its position (SPEC section 6). Subclasses add their destination."""
        raise NotImplementedError


class Once(Protocol):
    """Receipts for effects that the output's API would repeat."""

    def __call__(self, part: str, effect: Callable[[], str | None]) -> str | None:
        """Run `effect` unless the receipt for this part of this output exists; returns what the
        effect returned, now or when the receipt was written.

        `effect` returns the provider's id of what it did. Its first line is logged (`shown`);
        further lines are only kept with the receipt. It raises Temporary (with `in_doubt` when no
        answer came) or Permanent; then no receipt is kept and the fault goes through. Raises
        Temporary when another run holds the claim right now.
        """


def took_place(result: str | None) -> bool:
    """Whether an effect's result tells of more than refusals, whose first line is empty."""
    return result is None or bool(shown(result))


def shown(result: str | None) -> str | None:
    """What the log shows of an effect's result: its first line."""
    return result.partition("\n")[0] if result else result


class Landed(Protocol):
    """What a processor leaves to be done around the receipt (the `file` output needs it)."""

    def flush(self) -> None:
        """Make the effect durable. Called before the receipt is written."""

    def settle(self) -> None:
        """Tidy up. Called after the receipt is durable."""


class Job(NamedTuple):
    """One output's work on one mail: `recipients` are those that `flow` took. `shared` says that others
    are still to read the mail from the file that its content has.

    `seconds_left` tells how long the run may still take; no effect starts with less than 35 s
    (SPEC section 6), which the delivery checks before it calls and processors with several parts
    check between them.
    """

    mail: Mail
    flow: str
    recipients: tuple[str, ...]
    once: Once
    seconds_left: Callable[[], float]
    shared: bool = False


class Processor:
    """One configured output. `quick` marks those whose effect is local and takes well under a
    millisecond: the in-process delivery runs them in its event loop. They take no receipts."""

    quick: ClassVar[bool] = False

    def process(self, job: Job) -> Landed | None:
        """Carry out the output. Raises Temporary or Permanent; anything else that escapes is
        taken as Temporary and logged with its traceback."""
        raise NotImplementedError

    def close(self) -> None:
        """Release connections; the process is ending or the configuration was replaced."""
