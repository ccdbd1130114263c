"""The filter interface: one hook per phase, each abstaining by default.

A filter is built once, when the configuration is loaded, and serves all connections at once: it
keeps no state of a connection or a mail. The flow keeps the verdicts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from functions.message.headers import Predicate
from listener.api.decision import ABSTAIN, Decision, Phase
from listener.api.session import Credentials, Message, Session, Transaction

Answer = Decision | Awaitable[Decision]
"""A hook is a plain function where it only computes (it then costs no task), or `async def`
where it waits for somebody. Plain hooks must not block: they run in the event loop."""

Operator = Literal["AND", "OR"]
"""How a flow joins the answers of its filters."""


class MailAuthObserver(Protocol):
    """Told of results; `listener.monitoring.events.Events` is one."""

    def mail_auth(self, name: str, method: str, result: str) -> None:
        """The filter called `name` got this result for one mail."""


class FilterOptions(BaseModel):
    """What every filter's options share. Subclasses add `type: Literal["…"]`.

    What stands below the fields is what `check` asks, which reads options and builds no filter.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str | None = None
    """Label in metrics and logs. Default: `TYPE_INDEX`."""

    type: str = ""
    """Which of them this is."""

    guard: ClassVar[bool] = False
    """As `Filter.guard`; a filter whose options say so is one."""

    checks_credentials: ClassVar[bool] = False
    """As `Filter.checks_credentials`."""

    checked_mechanisms: ClassVar[frozenset[str]] = frozenset()
    """The SASL mechanisms beyond PLAIN and LOGIN whose credentials the filter may check."""

    asks_others: ClassVar[bool] = False
    """Whether the filter asks over the network, and defers where no answer comes."""

    judges_content: ClassVar[bool] = False
    """Whether the filter decides after DATA."""

    @property
    def any_user(self) -> bool:
        """As `Filter.any_user`."""
        return False

    def identifies(self, operator: Operator) -> bool:
        """Whether all that the filter accepts, in a flow of that operator, comes from clients that it
        knows: by their credentials, their address, or by asking who knows them. For a guard: whether it
        objects to all other clients."""
        return not self.guard

    @property
    def limits_recipients(self) -> bool:
        """Whether the filter accepts recipients by a list, and the list does not mean everybody."""
        return False

    def never_accepts(self, environ: Mapping[str, str], *, auth: bool, names: bool) -> str:
        """Why the filter cannot accept anything, or a guard cannot object; "" when it can. `auth` says
        that clients can authenticate, `names` that their names are looked up."""
        return "needs AUTH, which no listener offers" if self.checks_credentials and not auth else ""

    def described(self) -> str:
        """What the filter decides by, in a few words without secrets; "" for nothing to tell."""
        return ""

    def files_read(self) -> Mapping[str, str]:
        """The files that have to be there: option to path, relative to the working folder."""
        return {}

    def advice(self) -> Sequence[str]:
        """What the options say and hardly mean, with the cure: one line each, `key: text`."""
        return ()

    def loopingz_differences(self) -> Sequence[str]:
        """What the filter does otherwise than loopingz/smtp-relay's, one line each."""
        return ()


class Filter:
    """One configured filter.

    `phases` are the phases at which this instance may say something other than abstain, given
    its options: until the last of them has run, its silence may still become an acceptance.
    `checks_credentials` says that AUTH succeeds when this filter accepts at the auth phase;
    `any_user` that it succeeds whatever the credentials, which says nothing for the flow.
    `mechanisms` are the SASL mechanisms whose credentials it can check. `needs_name` says that
    it looks at `session.name` before the data phase: the reverse lookup is then waited for
    before connect; else the name may still be `[ip]` until the mail itself comes in.
    `supports_cram_md5` says that it can check CRAM-MD5 for every user.

    `guard` says that the filter only objects: its refusal or deferral counts in a flow of either
    operator, its acceptance never does, and no flow waits for one.

    An answer at connect or auth holds for the connection, at mail or data for the transaction,
    at rcpt for that recipient. A hook that raises or takes longer than `filterTimeout` counts as
    a deferral; the client is never told the exception.
    """

    phases: frozenset[Phase] = frozenset()
    checks_credentials: bool = False
    any_user: bool = False
    mechanisms: frozenset[str] = frozenset({"PLAIN", "LOGIN"})
    needs_name: bool = False
    guard: bool = False
    supports_cram_md5: bool = False

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

    def removals(self, hostname: str) -> Sequence[tuple[str, Predicate]]:
        """Fields that a stranger may not bring along, because this filter writes them: names, and
        whether one with this unfolded value goes. `hostname` is what a listener calls itself."""
        return ()

    def observe(self, observer: MailAuthObserver) -> None:
        """Report to that observer from now on."""

    def fingerprint(self) -> str:
        """What the filter has read that its options do not say, such as a file of users; "" for nothing.
        A reload that changes it ends the connections that the filter decided about before."""
        return ""

    def forget(self) -> None:
        """A reload begins: drop what was remembered of earlier answers."""

    def may_know(self, username: str) -> bool:
        """Whether a user of that name may be one of this filter's. Asked when a trusted proxy says
        that it has checked the credentials itself (XCLIENT's LOGIN)."""
        return True
