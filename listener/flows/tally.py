"""Combines filters' answers into a flow's verdict (docs/concepts.md), without I/O.

A flow's filters are numbered by the bits of an integer. So the answers of several filters are three
masks, and a few integer operations judge a flow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, Protocol

from listener.api.decision import REFUSE, Decision, Phase, Reply
from listener.api.filter import Answer, Filter, Operator

TAKES: Final = 0
"""As things stand, the flow takes the recipient. An `AND` flow or a guard may still change that."""

MAY_TAKE: Final = 1
"""Undecided: a filter that has not been asked for the last time may turn it into TAKES."""

DEFERS: Final = 2
"""The flow can no longer take the recipient now, but may if the client tries again."""

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
    """The source of a plan: a flow."""

    @property
    def name(self) -> str: ...

    @property
    def filters(self) -> tuple[Filter, ...]: ...

    @property
    def operator(self) -> Operator: ...


Words = tuple[tuple[int, Reply], ...]
"""Filters' bits and their replies."""


class FilterVerdicts:
    """The answers of the filters of one flow up to some moment. It never changes after it is made.

    `accepted`, `refused` and `deferred` are masks of filters; `refusals` and `deferrals` the
    replies that came with a refusal or deferral, each beside its filter's bit, in order.
    """

    __slots__ = ("accepted", "deferrals", "deferred", "refusals", "refused")

    def __init__(
        self,
        accepted: int = 0,
        refused: int = 0,
        deferred: int = 0,
        refusals: Words = (),
        deferrals: Words = (),
    ) -> None:
        self.accepted = accepted
        self.refused = refused
        self.deferred = deferred
        self.refusals = refusals
        self.deferrals = deferrals

    def plus(self, bit: int, answer: Decision) -> FilterVerdicts:
        """This tally with the answer of the filter at `bit`."""
        verdict = answer.verdict
        if verdict == "accept":
            accepted = self.accepted | bit
            if self.refusals or self.deferrals:
                return FilterVerdicts(accepted, self.refused, self.deferred, self.refusals, self.deferrals)
            return _wordless(accepted, self.refused, self.deferred)
        if answer.reply is None and not (self.refusals or self.deferrals):
            if verdict == "refuse":
                return _wordless(self.accepted, self.refused | bit, self.deferred)
            if verdict == "defer":
                return _wordless(self.accepted, self.refused, self.deferred | bit)
            return self
        own = () if answer.reply is None else ((bit, answer.reply),)
        if verdict == "refuse":
            refusals = self.refusals + own
            return FilterVerdicts(self.accepted, self.refused | bit, self.deferred, refusals, self.deferrals)
        if verdict == "defer":
            deferrals = self.deferrals + own
            return FilterVerdicts(self.accepted, self.refused, self.deferred | bit, self.refusals, deferrals)
        return self

    def plus_for(self, bit: int, answer: Decision, recipient: str) -> FilterVerdicts:
        """The same for one recipient: a filter that accepts the mail, but for other recipients
        (`Decision.recipients`), has refused this one. A refusal or deferral means all of them."""
        kept = answer.recipients
        if kept is not None and recipient not in kept and answer.verdict in ("accept", "abstain"):
            return self.plus(bit, REFUSE)
        return self.plus(bit, answer)


NOTHING_SAID: Final = FilterVerdicts()

_wordless: Final = lru_cache(maxsize=1_024)(FilterVerdicts)
"""Tallies without replies, shared by all recipients and mails: so equal ones are mostly the same object."""


_SHARED: Final = 256
"""Most tallies of one listener that connections and mails share."""


class Tallies:
    """The tallies of all flows of a listener up to some moment, by the flows' places. They never change
    after they are made, so scopes share them, and conclusions from them are drawn once."""

    __slots__ = (
        "_known",
        "alone_at_data",
        "alone_at_rcpt",
        "hooks",
        "offers",
        "outcome",
        "passed",
        "verdicts",
        "whole",
    )

    def __init__(
        self, verdicts: Sequence[FilterVerdicts], known: dict[Sequence[FilterVerdicts], Tallies] | None = None
    ) -> None:
        self.verdicts = verdicts
        self._known = {} if known is None else known
        """The tallies that follow from the same first ones, by their verdicts: connections and mails that get
        the same answers share them. Verdicts with replies are equal to no others, and are left out."""
        self.passed = 0
        """The mask of the phases at which a flow is known to take the mail, or that it may."""
        self.hooks: list[tuple[Hook, ...] | None] = [None] * len(Phase)
        """The hooks of the flows that are not settled, by phase; None where `unsettled` was not asked."""
        self.offers: tuple[tuple[Hook, ...], ...] = ()
        """The hooks at DATA of each flow that may take a recipient then, once `offered` was asked."""
        self.alone_at_rcpt: Hook | None = None
        self.alone_at_data: Hook | None = None
        """The hook of a filter that is asked alone then, and not measured; None if there is no such one."""
        self.outcome: tuple[str, ...] | Reply | None = None
        """The outcome of a recipient if no filter answers at DATA; None while it is not known."""
        self.whole = False
        """True if by that outcome all flows take the recipient."""

    def plus(self, answers: Sequence[tuple[Hook, Decision]]) -> Tallies:
        """These tallies with the answers of filters."""
        after = list(self.verdicts)
        for hook, answer in answers:
            after[hook.place] = after[hook.place].plus(hook.bit, answer)
        verdicts = tuple(after)
        made = self._known.get(verdicts)
        if made is None:
            made = Tallies(verdicts, self._known)
            for one in after:
                if one.refusals or one.deferrals:
                    return made
            if len(self._known) >= _SHARED:
                self._known.clear()
            self._known[verdicts] = made
        return made

    def unsettled(self, phase: Phase, plans: Sequence[Plan]) -> tuple[Hook, ...]:
        """The hooks at that phase of all flows that are not settled; `plans` are always the same."""
        found = tuple([hook for plan in plans for hook in plan.unsettled(phase, self.verdicts[plan.place])])
        self.hooks[phase] = found
        return found

    def prepare(self, plans: Sequence[Plan], *, measured: bool) -> tuple[Hook, ...]:
        """Find out which hooks are asked at RCPT and at DATA; returns those at RCPT."""
        hooks, offers = self.unsettled(Phase.RCPT, plans), self.offered(plans)
        if not measured:
            self.alone_at_rcpt = hooks[0] if len(hooks) == 1 else None
            self.alone_at_data = offers[0][0] if [len(one) for one in offers] == [1] else None
        return hooks

    def offered(self, plans: Sequence[Plan]) -> tuple[tuple[Hook, ...], ...]:
        """The hooks at DATA of each flow that may take a recipient then; `plans` are always the same."""
        found = [plan.hooks[Phase.DATA] for plan in plans if plan.may_take(self.verdicts[plan.place])]
        self.offers = tuple([hooks for hooks in found if hooks])
        return self.offers


@dataclass(frozen=True, slots=True)
class Hook:
    """One filter's hook at one phase: `place` is that of its flow, `bit` its own in the flow."""

    place: int
    bit: int
    filter: Filter
    ask: Callable[..., Answer]


class Plan:
    """One flow, prepared: the order of its questions, and the judgement of the answers.

    `place` is that of the flow among those of its listener. `hooks` is indexed by phase.
    `later[phase]` is the mask of filters that will be asked after that phase of the same mail,
    without AUTH; `auth` that of filters that may answer at AUTH. `may_accept` is the mask of the
    filters whose acceptance counts, all except guards; `decide` that of those whose refusal or
    deferral decides for the flow, whatever others accept: all under `AND`, guards under `OR`.
    """

    __slots__ = (
        "any_suffices",
        "auth",
        "decide",
        "guard_hooks",
        "hooks",
        "later",
        "may_accept",
        "name",
        "place",
    )

    def __init__(self, flow: HasFilters, place: int) -> None:
        self.place = place
        self.name = flow.name
        self.any_suffices = flow.operator == "OR"
        guards = sum(1 << index for index, one in enumerate(flow.filters) if one.guard)
        self.may_accept = (1 << len(flow.filters)) - 1 & ~guards
        # If no filter can accept, the flow takes nothing, now or later, whatever guards answer.
        self.decide = (guards if self.any_suffices else self.may_accept | guards) if self.may_accept else 0
        self.hooks = tuple(_hooks(flow.filters, place, phase) for phase in Phase)
        self.guard_hooks = tuple(tuple(one for one in hooks if one.bit & guards) for hooks in self.hooks)
        self.later = tuple(_mask(flow.filters, _LATER[phase]) for phase in Phase)
        self.auth = _mask(flow.filters, frozenset({Phase.AUTH}))

    def standing(self, tally: FilterVerdicts, to_come: int) -> Standing:
        """The state of the flow; the silence of the filters in `to_come` is not final yet."""
        if tally.refused & self.decide:
            return REFUSES
        if tally.deferred & self.decide:
            return DEFERS
        awaited = self.may_accept
        if self.any_suffices:
            if tally.accepted & awaited:
                return TAKES
            if to_come & awaited:
                return MAY_TAKE
            return DEFERS if tally.deferred & awaited else REFUSES
        missing = awaited & ~tally.accepted
        if not missing:
            # Without such filters none is missing either, and then the flow takes nothing.
            return TAKES if awaited else REFUSES
        return REFUSES if missing & ~to_come else MAY_TAKE

    def may_take(self, tally: FilterVerdicts) -> bool:
        """True if the flow may take a recipient that was accepted at RCPT."""
        return self.standing(tally, self.later[Phase.RCPT]) <= MAY_TAKE

    def unsettled(self, phase: Phase, tally: FilterVerdicts) -> tuple[Hook, ...]:
        """The hooks at that phase whose answers may still change the verdict; AUTH after STARTTLS is
        apart.

        A refusal that decides settles a flow. A deferral does not, nor does silence, because a
        later refusal or deferral outweighs them. An `OR` flow that takes waits only for its guards.
        """
        if tally.refused & self.decide:
            return ()
        if self.any_suffices and tally.accepted & self.may_accept:
            return self.guard_hooks[phase]
        return self.hooks[phase]

    def refusal(self, tally: FilterVerdicts) -> Reply | None:
        """The first words of the filters whose refusal decides; None for the standard ones."""
        return self._first(tally.refusals, tally.refused)

    def deferral(self, tally: FilterVerdicts) -> Reply | None:
        """The first words of the filters whose deferral decides; None for the standard ones."""
        return self._first(tally.deferrals, tally.deferred)

    def _first(self, words: Words, said: int) -> Reply | None:
        deciding = said & self.decide or said
        return next((reply for bit, reply in words if bit & deciding), None)


def _hooks(filters: Sequence[Filter], place: int, phase: Phase) -> tuple[Hook, ...]:
    method = f"on_{phase.name.lower()}"
    return tuple(
        Hook(place, 1 << index, one, getattr(one, method))
        for index, one in enumerate(filters)
        if phase in one.phases
    )


def _mask(filters: Sequence[Filter], phases: frozenset[Phase]) -> int:
    return sum(1 << index for index, one in enumerate(filters) if phases & frozenset(one.phases))
