"""The filter interface: one hook per phase, each abstaining by default.

A filter is built once, when the configuration is loaded, and serves all connections at once: it
keeps no state of a connection or a mail. The flow keeps the verdicts.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Final, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from functions.message.headers import Predicate
from functions.options.secrets import Runtime
from listener.api.decision import ABSTAIN, Decision, Phase
from listener.api.session import Credentials, Message, Session, Transaction

log: Final = logging.getLogger("smtp_relay.filters")

Answer = Decision | Awaitable[Decision]
"""A hook is a plain function if it only computes (it then costs no task), or `async def` if it waits
for I/O. Plain hooks must not block, because they run in the event loop."""

Operator = Literal["AND", "OR"]
"""How a flow joins the answers of its filters."""


Warn = Callable[[str, str, str], None]


def log_warning(where: str, what: str, cure: str) -> None:
    """Logs a risk, as a server does at start."""
    log.warning("%s: %s (%s)", where, what, cure)


class SharedScript(Protocol):
    """The rules and counts that the filters `respond` of all workers share;
    `listener.filters.respond.memory.ScriptMemory` is one."""

    @property
    def version(self) -> float:
        """A number that changes with the text."""

    def text(self) -> str:
        """The rules that were set while the server runs."""

    def count(self, rule: str, what: int) -> int:
        """Count one event of a rule; returns its number, from 1."""

    def count_in_minute(self, rule: str, now: float) -> int:
        """Count one command of a rule; returns its number in this minute."""


@dataclass(frozen=True, slots=True)
class BuildContext(Runtime):
    """The arguments of a filter's `build()` besides its options: the process's surroundings;
    `filter_timeout`, the number of seconds that a filter has to answer; `warn`, for a risk to tell the
    operator: as for ConfigError, where it is, what it is, and the cure; the name of its flow; the
    memory of scripted answers, None where the process serves no client; the folder where filters remember
    across restarts, None for nowhere; and `mailHeaders`."""

    filter_timeout: float = 30.0
    warn: Warn = log_warning
    flow: str = ""
    script: SharedScript | None = None
    state: Path | None = None
    mail_headers: Mapping[str, object] = field(default_factory=dict)


class FilterObserver(Protocol):
    """Receives results; `listener.monitoring.events.Events` is one."""

    def mail_auth(self, name: str, method: str, result: str) -> None:
        """The filter called `name` got this result for one mail."""

    def recipient_counted(self, name: str, rule: str, share: float) -> None:
        """The filter called `name` counted one recipient; `share` is the used part of the fullest limit."""

    def over_limit(self, name: str, rule: str, limit: str) -> None:
        """The filter called `name` had no room for one recipient."""


class FilterOptions(BaseModel):
    """The options that all filters share. Subclasses add `type: Literal["…"]`.

    The methods below the fields serve `check`, which reads options and builds no filter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str | None = None
    """Label in metrics and logs. Default: `TYPE_INDEX`."""

    type: str = ""
    """The filter's type."""

    guard: ClassVar[bool] = False
    """As `Filter.guard`; the options say if the filter is one."""

    checks_credentials: ClassVar[bool] = False
    """As `Filter.checks_credentials`."""

    checked_mechanisms: ClassVar[frozenset[str]] = frozenset()
    """The SASL mechanisms beyond PLAIN and LOGIN whose credentials the filter may check."""

    asks_others: ClassVar[bool] = False
    """True if the filter asks over the network, and defers if no answer comes."""

    limits_senders: ClassVar[bool] = False
    """True if the filter says who may be named as a mail's sender."""

    for_tests: ClassVar[bool] = False
    """True if the filter answers clients by a script."""

    def forbidden_beside(self, leaving: Sequence[str]) -> str:
        """The reason why the filter must not stand beside outputs of these types, which let mail leave this
        machine; "" if it may."""
        return ""

    @property
    def counts_recipients(self) -> bool:
        """True if the filter limits how many recipients a client has in some time."""
        return False

    @property
    def judges_content(self) -> bool:
        """True if the filter decides after DATA."""
        return False

    @property
    def any_user(self) -> bool:
        """As `Filter.any_user`."""
        return False

    def identifies(self, operator: Operator) -> bool:
        """True if all clients that the filter accepts, in a flow of that operator, are known: by their
        credentials, their address, or the answer of a service. For a guard: true if it objects to all
        other clients."""
        return not self.guard

    @property
    def limits_recipients(self) -> bool:
        """True if the filter accepts recipients by a list, and the list does not match everybody."""
        return False

    def never_accepts(self, environ: Mapping[str, str], *, auth: bool, names: bool) -> str:
        """The reason why the filter cannot accept anything, or a guard cannot object; "" if it can.
        `auth` says that clients can authenticate, `names` that their names are looked up."""
        return "needs AUTH, which no listener offers" if self.checks_credentials and not auth else ""

    def described(self, operator: Operator) -> str:
        """The mail that the filter accepts, or a guard objects to, in a flow of that operator: words after
        "mail", without secrets."""
        return f"that the filter {self.name or self.type} accepts"

    def files_read(self) -> Mapping[str, str]:
        """The files that must exist: option to path, relative to the working folder."""
        return {}

    def advice(self) -> Sequence[str]:
        """Options that are probably a mistake, with the cure: one line each, `key: text`."""
        return ()

    def loopingz_differences(self) -> Sequence[str]:
        """The differences from loopingz/smtp-relay's filter, one line each."""
        return ()


class Filter:
    """One configured filter.

    `phases` are the phases at which this instance may answer something other than abstain, given
    its options: until the last of them has run, its silence may still become an acceptance.
    `checks_credentials` says that AUTH succeeds if this filter accepts at the auth phase;
    `any_user` that it succeeds with any credentials, which decides nothing for the flow.
    `mechanisms` are the SASL mechanisms whose credentials it can check. `needs_name` says that it
    reads `session.name` before the data phase: the listener then waits for the reverse lookup
    before connect; otherwise the name may still be `[ip]` until the mail itself comes in.
    `supports_cram_md5` says that it can check CRAM-MD5 for every user.

    `guard` says that the filter only objects: its refusal or deferral counts in a flow of either
    operator, its acceptance never does, and no flow waits for one. `patience` is the number of seconds
    that it may take where that is more than `filterTimeout`. `follows_mails` says that it is told the end
    of each mail that was not stored whole. `same_at_mail` says that its answer at MAIL depends only on the
    client's address, its user and the reverse-path, and that a question changes nothing: a connection does
    not ask again for the reverse-path of the mail before. `same_at_connect` says that its answer at connect
    depends only on the client's address, and that a question changes nothing: once the client is greeted, no
    such filter is asked at its next connections, where all filters of the listener are such.

    An answer at connect or auth holds for the connection, at mail or data for the transaction, at
    rcpt for that recipient. A hook that raises or takes longer than `filterTimeout` counts as a
    deferral; the client never sees the exception.
    """

    phases: frozenset[Phase] = frozenset()
    checks_credentials: bool = False
    any_user: bool = False
    mechanisms: frozenset[str] = frozenset({"PLAIN", "LOGIN"})
    needs_name: bool = False
    guard: bool = False
    supports_cram_md5: bool = False
    patience: float = 0.0
    follows_mails: bool = False
    same_at_mail: bool = False
    same_at_connect: bool = False

    def __init__(self, name: str) -> None:
        self.name = name

    async def start(self) -> None:
        """Called once in each serving process, in its event loop, before the first connection."""

    async def stop(self) -> None:
        """Called once when the process drains or the configuration is replaced."""

    def on_connect(self, session: Session) -> Answer:
        """A client connected; its real address and name are known."""
        return ABSTAIN

    def on_auth(self, session: Session, credentials: Credentials) -> Answer:
        """The client gave credentials."""
        return ABSTAIN

    def on_mail(self, session: Session, transaction: Transaction) -> Answer:
        """MAIL was given; `transaction.reverse_path` and its parameters are known."""
        return ABSTAIN

    def on_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Answer:
        """One RCPT was given; it is not in `transaction.recipients` yet."""
        return ABSTAIN

    def on_data(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Answer:
        """The whole mail has come in; `recipients` are those that this flow may still take."""
        return ABSTAIN

    def mail_ended(self, transaction: Transaction, taken: Collection[str]) -> None:
        """A mail, about which the flows asked at MAIL, is over; `taken` are the recipients for whom it was
        stored, or may have been, for this filter's flow. If all flows took all recipients, and the mail was
        stored, this is mostly not called. Must not raise."""

    def removals(self, hostname: str) -> Sequence[tuple[str, Predicate]]:
        """Fields that clients must not send, because this filter writes them: names, and a test that is
        true if a field with this unfolded value must be removed. `hostname` is the listener's own
        name."""
        return ()

    def observe(self, observer: FilterObserver) -> None:
        """Report to that observer from now on."""

    def fingerprint(self) -> str:
        """The data that the filter has read beside its options, such as a file of users; "" if there is
        none. A reload that changes it ends the connections about which the filter decided before."""
        return ""

    def forget(self) -> None:
        """A reload begins: forget earlier answers."""

    def may_know(self, username: str) -> bool:
        """True if a user of that name may be one of this filter's. The flow asks this when a trusted
        proxy says that it has checked the credentials itself (XCLIENT's LOGIN)."""
        return True
