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
    """Label in metrics, logs and receipts; the default label is `TYPE_INDEX`."""

    type: str = ""
    """Which of them this is."""

    local: ClassVar[bool] = False
    """Whether the effect stays on this machine."""

    runs_in: ClassVar[frozenset[str]] = frozenset({"aws", "gcp"})
    """The clouds whose function can run the output."""

    loopingz_differences: ClassVar[tuple[str, ...]] = ()
    """What the output does otherwise than loopingz/smtp-relay's, one line each."""

    @property
    def needs_receipts(self) -> bool:
        """Whether repeating the effect is seen: everything but storing, whose objects are created
        once by themselves."""
        return True

    @property
    def publishes(self) -> bool:
        """Whether an event goes to a queue or topic."""
        return False

    @property
    def sends_on(self) -> str:
        """What sends the mail itself on to other mail servers, in words; "" for nothing."""
        return ""

    @property
    def sends_as_anybody(self) -> bool:
        """Whether the cloud's permission to send is not limited to identities."""
        return False

    @property
    def ascii_recipients(self) -> bool:
        """Whether recipients with non-ASCII local parts cannot be served."""
        return False

    @property
    def smtp_port(self) -> int | None:
        """The port of the SMTP server that is connected to; None where there is none."""
        return None

    @property
    def aws_services(self) -> frozenset[str]:
        """The services of AWS that are called beside those that store and publish."""
        return frozenset()

    @property
    def file_folder(self) -> str | None:
        """The folder that the output keeps mail in, relative to the working folder."""
        return None

    def identity(self) -> str:
        """What receipts name this output by: its `name`, else its type and destination without secrets,
        never its position. Subclasses add their destination."""
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


class Placed(Protocol):
    """What a processor leaves to be done around the receipt (the `file` output needs it)."""

    def fsync(self) -> None:
        """Make the effect durable. Called before the receipt is written."""

    def cleanup(self) -> None:
        """Tidy up. Called after the receipt is durable."""


class Job(NamedTuple):
    """One output's work on one mail: `recipients` are those that `flow` took. `shared` says that others
    are still to read the mail from the file that its content has.

    `seconds_left` tells how long the run may still take; no effect starts with less than 35 s
    (docs/reliability.md), which the delivery checks before it calls and processors with several parts
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

    def process(self, job: Job) -> Placed | None:
        """Carry out the output. Raises Temporary or Permanent; anything else that escapes is
        taken as Temporary and logged with its traceback."""
        raise NotImplementedError

    def taken(self, job: Job) -> Placed | None:
        """What an earlier attempt left of a mail that changed in the spool since, because the output gave
        the spool's own file away; None where it did not. Raises Temporary."""
        return None

    def close(self) -> None:
        """Release connections; the process is ending or the configuration was replaced."""
