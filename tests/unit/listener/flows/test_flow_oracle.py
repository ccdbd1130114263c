"""Flows against an oracle that is slow and follows docs/concepts.md to the letter.

The oracle knows no masks and no shortcuts: it remembers every answer with the scope it holds for,
judges a flow by the sentences on AND and OR, and finds out if a flow can still take something by
trying every future answer of every filter that will be asked again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from listener.api.decision import Decision, Phase, Reply
from listener.flows.flow import Flow, Flows
from tests.support.scripted import Dialogue, Scripted

SENDERS = ("one@a.example", "two@b.example")
ADDRESSES = ("x@c.example", "y@d.example")
USERS = ("ann", "bob")

VERDICTS = ("accept", "abstain", "refuse", "defer", "fault")
MOSTLY_GOOD = ("accept",) * 6 + ("abstain",) * 3 + VERDICTS
"""Many dialogues should come as far as DATA."""
AFTER = {
    Phase.CONNECT: {Phase.MAIL, Phase.RCPT, Phase.DATA},
    Phase.MAIL: {Phase.RCPT, Phase.DATA},
    Phase.RCPT: {Phase.DATA},
    Phase.DATA: set(),
}


# -- the generated input ------------------------------------------------------------------------


@dataclass(frozen=True)
class FilterScript:
    """Every answer that a filter will ever give."""

    phases: frozenset[Phase]
    checks: bool
    guard: bool
    slow: bool
    connect: str
    auth: dict[str, str]
    mail: dict[str, str]
    rcpt: dict[tuple[str, str], str]
    data: dict[str, tuple[str, frozenset[str] | None]]


@dataclass(frozen=True)
class FlowScript:
    name: str
    operator: str
    filters: tuple[FilterScript, ...]

    def verdict(self, heard: Heard) -> str:
        return verdict(self.operator, [one.guard for one in self.filters], heard)


Step = tuple[str, Any]


@st.composite
def filter_scripts(draw: st.DrawFn) -> FilterScript:
    verdict = st.sampled_from(MOSTLY_GOOD)
    checks = draw(st.sampled_from((False, False, True)))
    phases = draw(st.frozensets(st.sampled_from(list(Phase)), min_size=1, max_size=3))
    kept = st.sampled_from((None, None, frozenset(ADDRESSES[:1]), frozenset(ADDRESSES), frozenset[str]()))
    return FilterScript(
        phases=phases | {Phase.AUTH} if checks else phases,
        checks=checks,
        guard=draw(st.sampled_from((False, False, True))),
        slow=draw(st.booleans()),
        connect=draw(verdict),
        auth={user: draw(verdict) for user in USERS},
        mail={sender: draw(verdict) for sender in SENDERS},
        rcpt={pair: draw(verdict) for pair in itertools.product(SENDERS, ADDRESSES)},
        data={sender: (draw(verdict), draw(kept)) for sender in SENDERS},
    )


flow_scripts = st.lists(
    st.tuples(st.sampled_from(("AND", "OR")), st.lists(filter_scripts(), max_size=3)), min_size=1, max_size=3
).map(
    lambda flows: [
        FlowScript(f"flow{index}", operator, tuple(filters))
        for index, (operator, filters) in enumerate(flows)
    ]
)

mails = st.tuples(
    st.just("mail"),
    st.tuples(
        st.sampled_from(SENDERS),
        st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3),
        st.sampled_from((True, True, False)),
    ),
)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("auth"), st.sampled_from(USERS)),
        mails,
        mails,
        mails,
        st.tuples(st.just("starttls"), st.none()),
        st.tuples(st.just("rset"), st.none()),
    ),
    min_size=2,
    max_size=8,
)


# -- the oracle ----------------------------------------------------------------------------------

Heard = list[list[str]]
"""For each filter of a flow, all its answers that still hold."""


def verdict(operator: str, guards: list[bool], heard: Heard) -> str:
    """The sentences on AND, OR and guards, one after the other."""
    objections = [one for said, guard in zip(heard, guards, strict=True) if guard for one in said]
    heard = [said for said, guard in zip(heard, guards, strict=True) if not guard]
    everything = [one for said in heard for one in said]
    if not heard:
        return "refuse"
    if operator == "AND":
        everything += objections
    elif "refuse" in objections:
        return "refuse"
    elif "defer" in objections:
        return "defer"
    if operator == "AND":
        if "refuse" in everything:
            return "refuse"
        if "defer" in everything:
            return "defer"
        return "take" if all("accept" in said for said in heard) else "refuse"
    if "accept" in everything:
        return "take"
    return "defer" if "defer" in everything else "refuse"


def futures(heard: Heard, asked_again: list[bool]) -> Iterator[Heard]:
    """All possible final answers."""
    choices = [("accept", "refuse", "defer", "abstain") if again else ("abstain",) for again in asked_again]
    for chosen in itertools.product(*choices):
        yield [[*said, one] for said, one in zip(heard, chosen, strict=True)]


@dataclass
class Oracle:
    flows: list[FlowScript]
    must_authenticate: bool
    lifted: bool
    partial: bool
    user: str | None = None
    sender: str | None = None
    accepted: list[str] = field(default_factory=list)

    @property
    def anyone_checks(self) -> bool:
        return any(one.checks for flow in self.flows for one in flow.filters)

    def heard(self, flow: FlowScript, until: Phase, address: str | None = None) -> Heard:
        result = []
        for one in flow.filters:
            said = []
            if Phase.CONNECT in one.phases:
                said.append(one.connect)
            if Phase.AUTH in one.phases and self.user is not None:
                said.append(one.auth[self.user])
            if self.sender is not None:
                if Phase.MAIL in one.phases and until >= Phase.MAIL:
                    said.append(one.mail[self.sender])
                if Phase.RCPT in one.phases and until >= Phase.RCPT and address is not None:
                    said.append(one.rcpt[self.sender, address])
            result.append(["defer" if answer == "fault" else answer for answer in said])
        return result

    def can_take(self, flow: FlowScript, heard: Heard, to_come: set[Phase]) -> bool:
        again = [bool(one.phases & to_come) for one in flow.filters]
        return any(flow.verdict(end) == "take" for end in futures(heard, again))

    def answer(self, phase: Phase, address: str | None = None) -> int:
        """250 if a recipient may still be taken, else the code of the reply."""
        heard = [(flow, self.heard(flow, phase, address)) for flow in self.flows]
        may_authenticate = self.user is None and not self.lifted
        to_come = AFTER[phase] | ({Phase.AUTH} if phase == Phase.CONNECT and may_authenticate else set())
        if any(self.can_take(flow, said, to_come) for flow, said in heard):
            return 250
        if any(flow.verdict(said) == "defer" for flow, said in heard):
            return 421 if phase == Phase.CONNECT else 451
        if may_authenticate and any(self.can_take(f, said, to_come | {Phase.AUTH}) for f, said in heard):
            return 530
        return 554 if phase == Phase.CONNECT else 550

    def auth(self, user: str) -> int:
        said = [one.auth[user] for flow in self.flows for one in flow.filters if one.checks]
        if self.anyone_checks and "accept" not in said:
            return 454 if "defer" in said or "fault" in said else 535
        self.user = user
        return 250

    def mail(self, sender: str) -> int:
        self.sender, self.accepted = None, []
        if self.must_authenticate and self.user is None and not self.lifted:
            return 530
        self.sender = sender
        code = self.answer(Phase.MAIL)
        if code != 250:
            self.sender = None
        return code

    def rcpt(self, address: str) -> int:
        code = self.answer(Phase.RCPT, address)
        if code == 250:
            self.accepted.append(address)
        return code

    def data(self) -> tuple[list[tuple[str, ...] | int], int]:
        """Per recipient the flows or a code, and the code of the one reply."""
        assert self.sender is not None
        outcomes: list[tuple[str, ...] | int] = []
        for address in self.accepted:
            verdicts = {flow.name: self.at_data(flow, address) for flow in self.flows}
            took = tuple(name for name, one in verdicts.items() if one == "take")
            outcomes.append(took or (451 if "defer" in verdicts.values() else 550))
        if 451 in outcomes:
            return outcomes, 451
        if 550 in outcomes and not (self.partial and any(outcome != 550 for outcome in outcomes)):
            return outcomes, 550
        return outcomes, 250

    def at_data(self, flow: FlowScript, address: str) -> str:
        assert self.sender is not None
        heard = self.heard(flow, Phase.RCPT, address)
        asked_about = {
            one
            for one in self.accepted
            if self.can_take(flow, self.heard(flow, Phase.RCPT, one), {Phase.DATA})
        }
        if asked_about:
            for one, said in zip(flow.filters, heard, strict=True):
                if Phase.DATA in one.phases:
                    answer, kept = one.data[self.sender]
                    if answer in ("accept", "abstain") and kept is not None:
                        # A subset of its recipients; the others were not excluded.
                        answer = answer if address in kept or address not in asked_about else "refuse"
                    said.append("defer" if answer == "fault" else answer)
        return flow.verdict(heard)


# -- the real thing ------------------------------------------------------------------------------


def decision(answer: str, kept: frozenset[str] | None = None) -> Any:
    if answer == "fault":
        raise RuntimeError("made to fail")
    return Decision(answer, recipients=kept)  # type: ignore[arg-type]


def built(script: FilterScript, name: str) -> Scripted:
    return Scripted(
        name,
        checks=script.checks,
        guard=script.guard,
        slow=script.slow,
        phases=script.phases,
        connect=lambda session: decision(script.connect),
        auth=lambda session, credentials: decision(script.auth[credentials.username]),
        mail=lambda session, mail: decision(script.mail[mail.reverse_path]),
        rcpt=lambda session, mail, address: decision(script.rcpt[mail.reverse_path, address]),
        data=lambda session, mail, message, recipients: decision(*script.data[mail.reverse_path]),
    )


async def compare(oracle: Oracle, flows: Flows, plan: list[Step]) -> None:
    real = Dialogue(flows)
    code = oracle.answer(Phase.CONNECT)
    assert await real.connect() == code
    if code != 250:
        return
    for verb, argument in plan:
        if verb == "auth" and oracle.user is None and not oracle.lifted:
            assert await real.auth(argument) == oracle.auth(argument)
            assert real.session.user == oracle.user
        elif verb == "starttls":
            real.state.restart()
            oracle.user = oracle.sender = None
            assert real.session.user is None
        elif verb == "rset":
            real.state.reset()
            oracle.sender = None
        elif verb == "mail":
            await compare_mail(oracle, real, *argument)


async def compare_mail(
    oracle: Oracle, real: Dialogue, sender: str, addresses: list[str], finished: bool
) -> None:
    code = oracle.mail(sender)
    assert await real.mail(sender) == code
    if code != 250:
        return
    for address in addresses:
        assert await real.rcpt(address) == oracle.rcpt(address)
    if finished and oracle.accepted:
        outcomes, reply = oracle.data()
        outcome = await real.data()
        found = [outcome.code if isinstance(outcome, Reply) else outcome for _, outcome in outcome.recipients]
        assert [address for address, _ in outcome.recipients] == oracle.accepted
        assert found == outcomes
        assert (250 if outcome.reply is None else outcome.reply.code) == reply


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("smtp_relay.filters")
    logger.disabled = True
    yield
    logger.disabled = False


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scripts=flow_scripts,
    plan=steps,
    must_authenticate=st.sampled_from((False, False, True)),
    lifted=st.sampled_from((False, False, True)),
    partial=st.booleans(),
)
def test_flows_agree_with_the_oracle(
    scripts: list[FlowScript], plan: list[Step], must_authenticate: bool, lifted: bool, partial: bool
) -> None:
    flows = Flows(
        [
            Flow(
                script.name,
                tuple(built(one, f"{script.name}.{index}") for index, one in enumerate(script.filters)),
                script.operator,  # type: ignore[arg-type]
            )
            for script in scripts
        ],
        auth_optional=not must_authenticate,
        auth_lifted=lifted,
        partial_accept=partial,
    )
    asyncio.run(compare(Oracle(scripts, must_authenticate, lifted, partial), flows, plan))
