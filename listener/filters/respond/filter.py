"""`respond`: answers clients by rules, for tests of clients (docs/filters/respond.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from listener.api.decision import ABSTAIN, Decision, Phase
from listener.api.filter import Answer, BuildContext, Filter, FilterOptions, Operator, SharedScript
from listener.api.session import Credentials, Message, Session, Transaction
from listener.filters.respond.memory import ScriptMemory
from listener.filters.respond.rules import MAX_DELAY, MAX_RULES, PhaseName, RespondRule
from listener.filters.respond.running import ScriptState, tell
from listener.filters.respond.script import Action, Script, by_address


class RespondOptions(FilterOptions):
    """Answer clients by rules, to test what they do then."""

    model_config = ConfigDict(alias_generator=to_camel)

    type: Literal["respond"]

    rules: tuple[RespondRule, ...] = Field(default=(), max_length=MAX_RULES)
    """The first one that applies gives the answer. HTTP can replace them while the server runs."""

    plus_addresses: bool = False
    """Recipients such as `user+450@…` ask for an answer themselves."""

    test_only: bool = False
    """Permit this filter beside outputs that send mail on."""

    guard = True
    for_tests = True

    def forbidden_beside(self, leaving: Sequence[str]) -> str:
        if self.test_only or not leaving:
            return ""
        return (
            f"scripted answers are for tests, and {leaving[0]} sends mail on "
            '(remove the filter, or say "testOnly": true)'
        )

    def described(self, operator: Operator) -> str:
        return "that its script refuses"


class Respond(Filter):
    """Asks the script at each phase. It reads rules again when the shared memory has others."""

    phases = frozenset(Phase)
    guard = True
    patience = MAX_DELAY / 1000 + 10

    def __init__(self, name: str, options: RespondOptions, flow: str, memory: SharedScript) -> None:
        super().__init__(name)
        self._options = options
        self._flow = flow
        self._memory = memory
        self._version = -1.0
        self._script = self._read()

    def _read(self) -> Script:
        self._version = self._memory.version
        state = ScriptState.of(self._memory.text())
        rules = state.rules_of(self._flow, self._options.rules)
        return Script(rules, f"{self._flow}\0{self.name}", self._memory)

    def _answer(self, phase: PhaseName, user: str | None, recipients: Sequence[str] = ()) -> Answer:
        if self._memory.version != self._version:
            self._script = self._read()
        action = self._script.action(phase, recipients, user or "")
        if action is None and phase == "rcpt" and self._options.plus_addresses:
            action = by_address(recipients[0])
        if action is None:
            return ABSTAIN
        return _later(action) if action.delay else _decision(action)

    def on_connect(self, session: Session) -> Answer:
        return self._answer("connect", None)

    def on_auth(self, session: Session, credentials: Credentials) -> Answer:
        return self._answer("auth", credentials.username)

    def on_mail(self, session: Session, transaction: Transaction) -> Answer:
        return self._answer("mail", session.user)

    def on_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Answer:
        return self._answer("rcpt", session.user, (recipient,))

    def on_data(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Answer:
        return self._answer("data", session.user, recipients)


def _decision(action: Action) -> Decision:
    if action.reply is None:
        return ABSTAIN
    return Decision("defer" if action.reply.code < 500 else "refuse", action.reply)


async def _later(action: Action) -> Decision:
    await asyncio.sleep(action.delay)
    return _decision(action)


def build(options: RespondOptions, name: str, context: BuildContext) -> Respond:
    """The filter of one entry. Without the server's memory it has one of its own."""
    return Respond(name, options, context.flow, context.script or ScriptMemory.new())


def tell_script(memory: ScriptMemory, flows: Mapping[str, Sequence[FilterOptions]]) -> None:
    """A process uses a file with these flows and filters. Raises ValueError for more rules than fit."""
    found: dict[str, list[RespondRule]] = {}
    for name, filters in flows.items():
        for one in filters:
            if isinstance(one, RespondOptions):
                found.setdefault(name, []).extend(one.rules)
    tell(memory, found)
