"""Tallies that connections and mails share."""

from __future__ import annotations

import pytest

from listener.api.decision import ABSTAIN, ACCEPT, DEFER, REFUSE, Decision, Phase, refuse
from listener.flows.flow import Flow
from listener.flows.outcome import outcome_of
from listener.flows.tally import NOTHING_SAID, Hook, Plan, Tallies
from tests.support.scripted import Scripted

FIRST = Tallies([NOTHING_SAID, NOTHING_SAID])


def answered(*decisions: Decision) -> list[tuple[Hook, Decision]]:
    """One filter's answers in each flow, in their order."""
    return [(Hook(place, 1, Scripted(), lambda: ACCEPT), one) for place, one in enumerate(decisions)]


def test_the_same_answers_lead_to_the_same_tallies() -> None:
    for decisions in ((ACCEPT,), (REFUSE,), (DEFER,), (ACCEPT, REFUSE)):
        found = FIRST.plus(answered(*decisions))
        assert FIRST.plus(answered(*decisions)) is found
        assert found is not FIRST
    assert FIRST.plus(answered(ACCEPT)) is not FIRST.plus(answered(REFUSE))
    assert FIRST.plus(answered(ACCEPT, REFUSE)) is FIRST.plus(answered(ACCEPT)).plus(answered(ACCEPT, REFUSE))


def test_answers_with_a_reply_of_their_own_are_kept_apart() -> None:
    one, other = refuse(550, "5.7.1", "no"), refuse(550, "5.7.1", "never")
    found = FIRST.plus(answered(one))
    assert FIRST.plus(answered(other)) is not found
    assert found.verdicts[0].refusals == ((1, one.reply),)


def test_the_number_of_shared_tallies_is_bounded() -> None:
    first = Tallies([NOTHING_SAID])
    for bit in range(2_000):
        first.plus([(Hook(0, 1 << bit, Scripted(), lambda: ACCEPT), ACCEPT)])
    assert len(first._known) <= 256


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(("first", "second"), [(1, 0), (0, 1), (1, 1), (2, 0), (0, 0)])
def test_a_filter_is_asked_alone_only_if_no_other_one_of_any_flow_is_asked_and_nobody_measures(
    first: int, second: int, measured: bool
) -> None:
    plans = [
        Plan(Flow("in", tuple(Scripted(rcpt=ABSTAIN, data=ABSTAIN) for _ in range(number))), place)
        for place, number in enumerate((first, second))
    ]
    row = Tallies([NOTHING_SAID, NOTHING_SAID])
    hooks = row.prepare(plans, measured=measured)
    assert hooks == row.hooks[Phase.RCPT] == (*plans[0].hooks[Phase.RCPT], *plans[1].hooks[Phase.RCPT])
    alone = first + second == 1 and not measured
    assert (row.alone_at_rcpt, row.alone_at_data) == ((hooks[0], row.offers[0][0]) if alone else (None, None))


@pytest.mark.parametrize(
    ("answers", "whole"), [((ACCEPT, ACCEPT), True), ((ACCEPT, REFUSE), False), ((REFUSE, REFUSE), False)]
)
def test_an_outcome_is_whole_if_all_flows_take_the_recipient(
    answers: tuple[Decision, Decision], whole: bool
) -> None:
    plans = [Plan(Flow(str(place), (Scripted(connect=ACCEPT),)), place) for place in range(2)]
    row = FIRST.plus(answered(*answers))
    outcome_of(plans, row)
    assert row.whole is whole
