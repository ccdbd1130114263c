"""The processor interface: a processor carries out one output for one mail.

Processors know neither trigger nor spool. They are synchronous, are built once per process and may
be called from several threads at once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field

from functions.message.mail import Mail
from functions.options.retry import RetryOptions
from functions.options.types import Milliseconds

PLENTY: Final = 64
"""The room of a processor that takes any number of mails."""

MIN_SECONDS_LEFT: Final = 35.0
"""The least seconds left of the run when an effect starts: a request then ends before the run's
deadline."""


@dataclass(frozen=True, slots=True)
class FolderLimit:
    """Limits of the files that outputs place in the folder with the real path `root`: their number, their
    age in seconds, their bytes. None is no limit."""

    root: bytes
    count: int | None
    age: float | None
    bytes: int | None


class OutputOptions(BaseModel):
    """The options that all outputs share. Subclasses add `type: Literal["…"]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str | None = None
    """Label in metrics, logs and receipts; the default label is `TYPE_INDEX`."""

    type: str = ""
    """The output's type."""

    retry: RetryOptions | None = None
    """Waits between attempts at this output. Default: `delivery.retry`."""

    give_up_after: Milliseconds | None = Field(default=None, alias="giveUpAfter")
    """Time after which this output is given up. Default: `delivery.giveUpAfter`."""

    concurrency: int | None = Field(default=None, ge=1, le=1_000)
    """Most mails that one process gives to this output at a time. A function runs no more instances than
    the least of these, and two at least."""

    local: ClassVar[bool] = False
    """True if the effect stays on this machine."""

    repeatable: ClassVar[bool] = False
    """True if the other side tells a repeated effect by its id: then no effect is in doubt."""

    runs_in: ClassVar[frozenset[str]] = frozenset({"aws", "gcp"})
    """The clouds whose function can run the output."""

    loopingz_differences: ClassVar[tuple[str, ...]] = ()
    """The differences from loopingz/smtp-relay's output, one line each."""

    @property
    def needs_receipts(self) -> bool:
        """True if a repeated effect is visible: for every output except storing, which creates each
        object only once."""
        return True

    @property
    def publishes(self) -> bool:
        """True if an event goes to a queue or topic."""
        return False

    @property
    def stores(self) -> bool:
        """True if the output stores the mail where others can read it."""
        return False

    @property
    def makes_links(self) -> bool:
        """True if the output can make links to what it stored."""
        return False

    @property
    def sends_on(self) -> str:
        """The way in which the output sends the mail itself on to other mail servers, in words; "" if
        it does not."""
        return ""

    @property
    def sends_as_anybody(self) -> bool:
        """True if the cloud's permission to send is not limited to identities."""
        return False

    @property
    def sets_sender(self) -> str:
        """The option that writes a sender into the mail's header; "" if there is none."""
        return ""

    @property
    def ascii_recipients(self) -> bool:
        """True if the output cannot serve recipients with non-ASCII local parts."""
        return False

    @property
    def smtp_port(self) -> int | None:
        """The port of the SMTP server that the output connects to; None if there is no such server."""
        return None

    @property
    def longest_call(self) -> float:
        """Seconds that one call of the output may take, as its options say; 0 if they do not."""
        return 0.0

    @property
    def aws_services(self) -> frozenset[str]:
        """The AWS services that the output calls, beside those that store and publish."""
        return frozenset()

    def advice(self, ports: Container[int]) -> Iterable[tuple[str, str]]:
        """Options that are probably a mistake: key and text with the cure. `ports` are the server's own."""
        return ()

    @property
    def effect(self) -> str:
        """What the output does with a mail: a verb and its object, without secrets."""
        return f"gives it to the output {self.name or self.type}"

    @property
    def file_folder(self) -> str | None:
        """The folder that the output keeps mail in, relative to the working folder."""
        return None

    @property
    def file_retention(self) -> Any:
        """The limits of the mail that stays in that folder; None if all of it stays."""
        return None

    def misfit(self, flow: Sequence[OutputOptions]) -> str:
        """Why the output does not fit among those of its flow, and the cure; "" if it fits."""
        return ""

    def identity(self) -> str:
        """The output's name in receipts: its `name`, else its type and destination without secrets,
        never its position. Subclasses add their destination."""
        raise NotImplementedError


class Once(Protocol):
    """Receipts for effects that the output's API would repeat."""

    def __call__(self, part: str, effect: Callable[[], str | None]) -> str | None:
        """Run `effect` unless the receipt for this part of this output exists; returns the effect's
        result, of now or of the time when the receipt was written.

        `effect` returns the provider's id for the effect. Its first line is logged (`shown`);
        further lines are only kept with the receipt. It raises Temporary (with `in_doubt` if no
        answer came) or Permanent; then no receipt is kept and the fault goes through. Raises
        Temporary if another run holds the claim at this moment.
        """


def took_place(result: str | None) -> bool:
    """True if an effect's result holds more than refusals, whose first line is empty."""
    return result is None or bool(shown(result))


def shown(result: str | None) -> str | None:
    """The part of an effect's result that the log shows: its first line."""
    return result.partition("\n")[0] if result else result


class Placed(Protocol):
    """The work that a processor leaves to be done before and after the receipt (for the `file` output)."""

    def fsync(self) -> None:
        """Make the effect durable. The delivery calls this before it writes the receipt."""

    def cleanup(self) -> None:
        """Tidy up. The delivery calls this after the receipt is durable."""


class Begun(Protocol):
    """The first half of an output's work on a mail. Others see nothing of it, and a crash may leave it."""

    def finish(self) -> Placed:
        """Do the rest. If this raises an error, `process` does all of it."""

    def discard(self) -> None:
        """Undo it."""


class Peer(Protocol):
    """An output of a flow."""

    @property
    def label(self) -> str: ...

    @property
    def processor(self) -> Processor: ...


class Job(NamedTuple):
    """One output's work on one mail: `recipients` are those that `flow` took. `shared` says that other
    outputs have yet to read the mail from its content's file. `key` is the hash of mail, replay, flow and
    output, and `peers` are all outputs of the flow; a `quick` processor gets neither.

    `seconds_left` returns how long the run may still take. No effect starts with less than 35 s
    (docs/reliability.md): the delivery checks this before it calls, and processors with several
    parts check it between them.
    """

    mail: Mail
    flow: str
    recipients: tuple[str, ...]
    once: Once
    seconds_left: Callable[[], float]
    shared: bool = False
    key: str = ""
    peers: Sequence[Peer] = ()


class Processor:
    """One configured output. `quick` marks outputs whose effect is local and takes well under a
    millisecond: the in-process delivery runs them in its event loop. They take no receipts."""

    quick: ClassVar[bool] = False

    needs_spool: bool = True
    """False if the output can `place` a mail."""

    limit: FolderLimit | None = None
    """The limits of the files that the output places. Its `Placed` then has the file as `owned`
    (`functions.processors.file.owned`)."""

    def process(self, job: Job) -> Placed | None:
        """Carry out the output. Raises Temporary or Permanent; any other exception is treated as
        Temporary and logged with its traceback."""
        raise NotImplementedError

    def place(self, mail: Mail, flow: str, *, shared: bool) -> str | None:
        """Carry out the output for a mail that no spool has: at once, whole or not at all, with nothing left
        to record. Returns the path of the file that it made, if it made one. `shared` as in `Job`; raises
        what `process` raises."""
        raise NotImplementedError

    def begin(self, mail: Mail, flow: str) -> Begun | None:
        """Do the first half of `process` for a mail in memory that was never tried, and may yet be refused.
        None if the output has no such half, or it failed: `process` then does all of it."""
        return None

    def taken(self, job: Job) -> Placed | None:
        """The result of an earlier attempt at a mail that changed in the spool since, because the
        output gave the spool's own file away; None if there is none. Raises Temporary."""
        return None

    def stored(self, job: Job) -> Any:
        """The objects that this output stored of the mail (`functions.message.event.objects.StoredMail`);
        None while it has not stored it. Raises DeliveryFault."""
        return None

    def link(self, key: str, seconds: int) -> str:
        """A URL that gives a stored object for so many seconds, without a login. It is a secret. Raises
        DeliveryFault."""
        raise NotImplementedError

    def file_of(self, placed: Placed) -> str | None:
        """The path of the file that `process` made of a mail, for logs; None if it made none."""
        return None

    @property
    def room(self) -> int:
        """The number of mails that the output takes now; 0 while its server is known to be down."""
        return PLENTY

    def close(self) -> None:
        """Release connections; the process is ending or the configuration was replaced."""
