"""The filter interface: one hook per phase, each abstaining by default.

A filter is built once, when the configuration is loaded, and serves all connections at once: it
keeps no state of a connection or a mail. The flow keeps the verdicts.
"""

from __future__ import annotations

from collections.abc import Awaitable

from pydantic import BaseModel, ConfigDict

from listener.api.decision import ABSTAIN, Decision, Phase
from listener.api.session import Credentials, Message, Session, Transaction

Answer = Decision | Awaitable[Decision]
"""A hook is a plain function where it only computes (it then costs no task), or `async def`
where it waits for somebody. Plain hooks must not block: they run in the event loop."""


class FilterOptions(BaseModel):
    """What every filter's options share. Subclasses add `type: Literal["…"]`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str | None = None
    """Label in metrics and logs; `TYPE_INDEX` when left out."""


class Filter:
    """One configured filter.

    `phases` are the phases at which this instance may say something other than abstain, given
    its options: until the last of them has run, its silence may still become an acceptance.
    `checks_credentials` says that AUTH succeeds when this filter accepts at the auth phase;
    `any_user` that it succeeds whatever the credentials, which says nothing for the flow.
    `mechanisms` are the SASL mechanisms whose credentials it can check. `needs_name` says that
    it looks at `session.name` before the data phase: the reverse lookup is then waited for
    before connect; else the name may still be `[ip]` until the mail itself comes in.

    An answer at connect or auth holds for the connection, at mail or data for the transaction,
    at rcpt for that recipient. A hook that raises or takes longer than `filterTimeout` counts as
    a deferral; the client is never told the exception.
    """

    phases: frozenset[Phase] = frozenset()
    checks_credentials: bool = False
    any_user: bool = False
    mechanisms: frozenset[str] = frozenset({"PLAIN", "LOGIN"})
    needs_name: bool = False

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

    def fingerprint(self) -> str:
        """What the filter has read that its options do not say, such as a file of users; "" for nothing.
        A reload that changes it ends the connections that the filter decided about before."""
        return ""

    def may_know(self, username: str) -> bool:
        """Whether a user of that name may be one of this filter's. Asked when a trusted proxy says
        that it has checked the credentials itself (XCLIENT's LOGIN)."""
        return True
