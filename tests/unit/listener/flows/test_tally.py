"""Tallies that connections and mails share."""

from __future__ import annotations

from listener.api.decision import ACCEPT, DEFER, REFUSE, Decision, refuse
from listener.flows.tally import NOTHING_SAID, Hook, Tallies
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
