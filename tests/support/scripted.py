"""Filters that answer by a script, for tests of flows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from listener.api.decision import ABSTAIN, Decision, Phase, Reply
from listener.api.filter import Filter
from listener.api.session import Credentials, Message, Session, Transaction

Script = Decision | Exception | None | Callable[..., Any]
"""The answer, the exception, None (abstain), or a function of the hook's arguments."""


class Scripted(Filter):
    """Answers at each phase as its script says; `phases` are those that have a script.

    `calls` records every question as (phase, last argument that tells them apart). With `slow`
    the hooks are asynchronous.
    """

    def __init__(
        self,
        name: str = "scripted",
        *,
        checks: bool = False,
        guard: bool = False,
        slow: bool = False,
        connect: Script = None,
        auth: Script = None,
        mail: Script = None,
        rcpt: Script = None,
        data: Script = None,
        phases: frozenset[Phase] | None = None,
    ) -> None:
        super().__init__(name)
        self.checks_credentials = checks
        self.guard = guard
        self.slow = slow
        scripts = dict(zip(Phase, (connect, auth, mail, rcpt, data), strict=True))
        self.scripts = scripts
        self.phases = (
            frozenset(one for one, script in scripts.items() if script is not None)
            if phases is None
            else phases
        )
        self.calls: list[tuple[Phase, Any]] = []

    def on_connect(self, session: Session) -> Any:
        return self._answer(Phase.CONNECT, session.ip, session)

    def on_auth(self, session: Session, credentials: Credentials) -> Any:
        return self._answer(Phase.AUTH, credentials.username, session, credentials)

    def on_mail(self, session: Session, transaction: Transaction) -> Any:
        return self._answer(Phase.MAIL, transaction.reverse_path, session, transaction)

    def on_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Any:
        return self._answer(Phase.RCPT, recipient, session, transaction, recipient)

    def on_data(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Any:
        return self._answer(Phase.DATA, recipients, session, transaction, message, recipients)

    def _answer(self, phase: Phase, told: Any, *arguments: Any) -> Any:
        self.calls.append((phase, told))
        return self._slowly(phase, arguments) if self.slow else self._now(phase, arguments)

    async def _slowly(self, phase: Phase, arguments: tuple[Any, ...]) -> Any:
        await asyncio.sleep(0)
        return self._now(phase, arguments)

    def _now(self, phase: Phase, arguments: tuple[Any, ...]) -> Any:
        script = self.scripts[phase]
        if isinstance(script, Exception):
            raise script
        if script is None or isinstance(script, Decision):
            return script or ABSTAIN
        return script(*arguments)


def a_session(**facts: Any) -> Session:
    """A client's session, from 192.0.2.1 by default."""
    given: dict[str, Any] = {
        "id": "session-1",
        "listener": "default",
        "ip": "192.0.2.1",
        "port": 40000,
        "name": "[192.0.2.1]",
        "server": "127.0.0.1:25",
    }
    return Session(**(given | facts))


def password(username: str = "bob", secret: str = "secret", mechanism: str = "PLAIN") -> Credentials:
    """A client's AUTH data."""
    return Credentials(mechanism, username, secret)


class Dialogue:
    """One connection's state, driven as the protocol drives it: accepted RCPTs go into the transaction.
    Every method returns the reply's code, 250 for none."""

    def __init__(self, flows: Any, session: Session | None = None) -> None:
        self.session = session or a_session()
        self.state = flows.connection(self.session)
        self.mails = 0
        self.transaction = Transaction("", "")

    async def connect(self) -> int:
        return code(await value(self.state.connect()))

    async def auth(self, username: str = "bob", **given: str) -> int:
        return code(await value(self.state.auth(password(username, **given))))

    async def mail(self, reverse_path: str = "a@example.com") -> int:
        self.mails += 1
        self.transaction = Transaction(f"mail-{self.mails}", reverse_path)
        return code(await value(self.state.mail(self.transaction)))

    async def rcpt(self, address: str) -> int:
        reply = await value(self.state.rcpt(self.transaction, address))
        if reply is None:
            self.transaction.recipients.append(address)
            self.transaction.recipient_parameters.append(())
        return code(reply)

    async def data(self) -> Any:
        outcome = await value(self.state.data(self.transaction, None))
        self.state.reset()
        return outcome


async def value(outcome: Any) -> Any:
    """The outcome, awaited where it must be."""
    return await outcome if hasattr(outcome, "__await__") else outcome


def code(reply: Reply | None) -> int:
    """The reply's code; 250 for none."""
    return 250 if reply is None else reply.code
