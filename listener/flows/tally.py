"""From filters' answers to a flow's verdict (SPEC section 3); nothing here waits or speaks.

A flow's filters are numbered by the bits of an integer, so that what several filters said is
three masks, and a flow is judged in a few integer operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple, Protocol

from listener.api.decision import REFUSE, Decision, Phase, Reply
from listener.api.filter import Answer, Filter

Operator = Literal["AND", "OR"]

TAKES: Final = 0
"""As things stand, the flow takes the recipient. An `AND` flow may still be talked out of it."""

MAY_TAKE: Final = 1
"""Undecided: a filter that has not been asked for the last time may turn it into TAKES."""

DEFERS: Final = 2
"""The flow can no longer take the recipient now, but may when the client tries again."""

REFUSES: Final = 3
"""The flow can no longer take the recipient."""

Standing = Literal[0, 1, 2, 3]

# Phases that come after a phase within one mail. AUTH is kept apart: it comes between connect
# and MAIL, or not at all, and is not permitted during a mail (RFC 4954 section 4).
_LATER: Final = {
    Phase.CONNECT: frozenset({Phase.MAIL, Phase.RCPT, Phase.DATA}),
    Phase.AUTH: frozenset({Phase.MAIL, Phase.RCPT, Phase.DATA}),
    Phase.MAIL: frozenset({Phase.RCPT, Phase.DATA}),
    Phase.RCPT: frozenset({Phase.DATA}),
    Phase.DATA: frozenset[Phase](),
}


class HasFilters(Protocol):
    """What a plan is made from: a flow."""

    @property
    def name(self) -> str: ...

    @property
    def filters(self) -> tuple[Filter, ...]: ...

    @property
    def operator(self) -> Operator: ...


class Tally:
    """What the filters of one flow have said up to some moment. Never changed once made.

    `accepted`, `refused` and `deferred` are masks of filters; `refusal` and `deferral` the first
    replies that came with a refusal or deferral.
    """

    __slots__ = ("accepted", "deferral", "deferred", "refusal", "refused")

    def __init__(
        self,
        accepted: int = 0,
        refused: int = 0,
        deferred: int = 0,
        refusal: Reply | None = None,
        deferral: Reply | None = None,
    ) -> None:
        self.accepted = accepted
        self.refused = refused
        self.deferred = deferred
        self.refusal = refusal
        self.deferral = deferral

    def plus(self, bit: int, answer: Decision) -> Tally:
        """This tally with the answer of the filter at `bit`."""
        verdict = answer.verdict
        if verdict == "accept":
            return Tally(self.accepted | bit, self.refused, self.deferred, self.refusal, self.deferral)
        if verdict == "refuse":
            refusal = self.refusal or answer.reply
            return Tally(self.accepted, self.refused | bit, self.deferred, refusal, self.deferral)
        if verdict == "defer":
            deferral = self.deferral or answer.reply
            return Tally(self.accepted, self.refused, self.deferred | bit, self.refusal, deferral)
        return self

    def plus_for(self, bit: int, answer: Decision, recipient: str) -> Tally:
        """The same for one recipient: a filter that takes the mail, but for other recipients
        (`Decision.recipients`), has refused this one. A refusal or deferral means all of them."""
        kept = answer.recipients
        if kept is not None and recipient not in kept and answer.verdict in ("accept", "abstain"):
            return self.plus(bit, REFUSE)
        return self.plus(bit, answer)


NOTHING_SAID: Final = Tally()


class Hook(NamedTuple):
    """One filter's hook at one phase: `place` is that of its flow, `bit` its own in the flow."""

    place: int
    bit: int
    filter: Filter
    ask: Callable[..., Answer]


class Plan:
    """One flow, made ready: who is asked when, and how the answers are judged.

    `place` is that of the flow among those of its listener. `hooks` is indexed by phase.
    `later[phase]` is the mask of filters that will be asked after that phase of the same mail,
    AUTH left out; `auth` that of filters with something to say at AUTH.
    """

    __slots__ = ("any_suffices", "auth", "everybody", "hooks", "later", "name", "place")

    def __init__(self, flow: HasFilters, place: int) -> None:
        self.place = place
        self.name = flow.name
        self.any_suffices = flow.operator == "OR"
        self.everybody = (1 << len(flow.filters)) - 1
        self.hooks = tuple(_hooks(flow.filters, place, phase) for phase in Phase)
        self.later = tuple(_mask(flow.filters, _LATER[phase]) for phase in Phase)
        self.auth = _mask(flow.filters, frozenset({Phase.AUTH}))

    def standing(self, tally: Tally, to_come: int) -> Standing:
        """Where the flow stands; the silence of the filters in `to_come` is not final yet."""
        if self.any_suffices:
            if tally.accepted:
                return TAKES
            if to_come:
                return MAY_TAKE
            return DEFERS if tally.deferred else REFUSES
        if tally.refused:
            return REFUSES
        if tally.deferred:
            return DEFERS
        missing = self.everybody & ~tally.accepted
        if not missing:
            # Without filters nobody is missing either, and then nothing is taken.
            return TAKES if self.everybody else REFUSES
        return REFUSES if missing & ~to_come else MAY_TAKE

    def settled(self, tally: Tally) -> bool:
        """Whether no answer can change the verdict any more, AUTH after STARTTLS apart.

        A deferral does not settle an `AND` flow, nor does silence: a refusal or deferral that
        comes later outweighs them.
        """
        return (tally.accepted if self.any_suffices else tally.refused) != 0


def _hooks(filters: Sequence[Filter], place: int, phase: Phase) -> tuple[Hook, ...]:
    method = f"on_{phase.name.lower()}"
    return tuple(
        Hook(place, 1 << index, one, getattr(one, method))
        for index, one in enumerate(filters)
        if phase in one.phases
    )


def _mask(filters: Sequence[Filter], phases: frozenset[Phase]) -> int:
    return sum(1 << index for index, one in enumerate(filters) if phases & frozenset(one.phases))
