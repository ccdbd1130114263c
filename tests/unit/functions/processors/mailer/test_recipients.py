"""From attempt to attempt: no recipient is served twice or forgotten, and the refused are asked once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.errors import Permanent, Temporary
from functions.processors.base import shown
from functions.processors.mailer.recipients import RecipientResults, decode, deliver_to, encode, words
from functions.smtp_client.reply import Said, Unreachable
from functions.smtp_client.transaction import TransactionResult
from tests.support.clients.relaying import Remembering

GONE = Said("5.1.1", "550 gone")
LATER = Said("4.2.0", "450 later")

YES, NO, WAIT, LOST, DOWN = "yes", "no", "wait", "lost", "down"


class Hop:
    """Answers each recipient by its own list of verdicts, one a transaction; the last one stays."""

    def __init__(self, verdicts: dict[str, list[str]], *, crowd: int = 1_000) -> None:
        self.verdicts = {who: list(answers) for who, answers in verdicts.items()}
        self.crowd = crowd
        self.got: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.transactions = 0

    def __call__(self, recipients: Sequence[str]) -> TransactionResult:
        self.transactions += 1
        tally = TransactionResult(answer="250 queued")
        answers = {}
        for who in recipients:
            left = self.verdicts[who]
            answers[who] = left.pop(0) if len(left) > 1 else left[0]
            self.asked[who] += 1
        if DOWN in answers.values():
            raise Unreachable("down", enhanced="4.4.1")
        if LOST in answers.values():
            raise Temporary("lost", enhanced="4.4.2")
        for who, answer in answers.items():
            if answer == YES and len(tally.accepted) < self.crowd:
                tally.accepted.append(who)
                self.got[who] += 1
            elif answer == YES:
                tally.deferred[who] = Said("4.5.3", "452 too many")
                tally.crowded = True
            elif answer == NO:
                tally.refused[who] = GONE
            else:
                tally.deferred[who] = LATER
        return tally


def attempt(once: Any, hop: Hop) -> Exception | None:
    try:
        deliver_to(list(hop.verdicts), once, hop).settle()
    except (Temporary, Permanent) as fault:
        return fault
    return None


def test_everybody_is_served_in_one_transaction() -> None:
    hop, once = Hop({"a": [YES], "b": [YES]}), Remembering()
    assert attempt(once, hop) is None
    assert list(once.results.values()) == ["250 queued"]
    assert attempt(once, hop) is None
    assert hop.transactions == 1


def test_those_put_off_are_retried_alone() -> None:
    hop, once = Hop({"a": [YES], "b": [WAIT, WAIT, YES], "c": [NO]}), Remembering()
    for _ in range(2):
        fault = attempt(once, hop)
        assert isinstance(fault, Temporary)
        assert not fault.in_doubt
        assert (fault.enhanced, set(fault.recipients)) == ("4.2.0", {"b", "c"})
        assert fault.reason == "<b>: 450 later; refused for good: <c>: 550 gone"
    fault = attempt(once, hop)
    assert isinstance(fault, Permanent)
    assert (fault.enhanced, fault.recipients) == ("5.1.1", ("c",))
    assert fault.reason == "<c>: 550 gone"
    assert hop.got == {"a": 1, "b": 1}
    assert hop.asked == {"a": 1, "b": 3, "c": 1}


def test_a_replay_asks_the_refused_again() -> None:
    hop, once = Hop({"a": [YES], "b": [NO, NO, YES], "c": [NO]}), Remembering()
    assert isinstance(attempt(once, hop), Permanent)
    assert hop.asked == {"a": 1, "b": 1, "c": 1}
    assert isinstance(attempt(once, hop), Permanent)
    assert hop.asked == {"a": 1, "b": 2, "c": 2}
    fault = attempt(once, hop)
    assert isinstance(fault, Permanent)
    assert fault.recipients == ("c",)
    assert hop.got == {"a": 1, "b": 1}
    hop.verdicts["c"] = [YES]
    assert attempt(once, hop) is None
    assert hop.got == {"a": 1, "b": 1, "c": 1}


def test_when_nobody_is_served_the_fault_is_about_all() -> None:
    fault = attempt(Remembering(), Hop({"a": [NO]}))
    assert isinstance(fault, Permanent)
    assert (fault.reason, fault.recipients) == ("550 gone", ())
    fault = attempt(Remembering(), Hop({"a": [WAIT], "b": [WAIT]}))
    assert isinstance(fault, Temporary)
    assert (fault.reason, fault.recipients) == ("450 later", ())
    fault = attempt(Remembering(), Hop({"a": [NO], "b": [WAIT]}))
    assert isinstance(fault, Temporary)
    assert (fault.reason, fault.recipients) == ("<b>: 450 later; refused for good: <a>: 550 gone", ())


def test_too_many_at_once_is_gone_on_with_now() -> None:
    hop, once = Hop({name: [YES] for name in "abcdefg"}, crowd=3), Remembering()
    assert attempt(once, hop) is None
    assert hop.transactions == 3
    assert set(hop.got.values()) == {1}


def test_too_many_and_then_nobody() -> None:
    hop = Hop({"a": [YES], "b": [YES, DOWN], "c": [YES]}, crowd=1)
    fault = attempt(Remembering(), hop)
    assert isinstance(fault, Temporary)
    assert fault.recipients == ("b", "c")
    assert hop.got == {"a": 1}


def test_doubt_is_passed_on() -> None:
    def lost(recipients: Sequence[str]) -> TransactionResult:
        raise Temporary("may have it", in_doubt=True)

    ending = deliver_to(["a"], Remembering(), lost)
    with pytest.raises(Temporary, match="may have it") as caught:
        ending.settle()
    assert caught.value.in_doubt


def test_a_permanent_fault_of_the_mail_goes_through() -> None:
    def too_large(recipients: Sequence[str]) -> TransactionResult:
        raise Permanent("too large")

    with pytest.raises(Permanent):
        deliver_to(["a"], Remembering(), too_large)


def test_receipts_that_remember_nothing_are_not_taken_for_success() -> None:
    def forgetful(part: str, effect: Any) -> None:
        return None

    fault = attempt(forgetful, Hop({"a": [YES]}))
    assert isinstance(fault, Temporary)
    assert fault.in_doubt


def test_what_a_receipt_keeps() -> None:
    tally = TransactionResult(["a"], {"b": GONE}, {"c": LATER}, "250 2.0.0 queued as X")
    text = encode(tally)
    assert shown(text) == "250 2.0.0 queued as X"
    assert json.loads(text.partition("\n")[2]) == {"refused": {"b": ["5.1.1", "550 gone"]}, "deferred": ["c"]}
    found = decode(text, ["a", "b", "c"])
    assert (found.accepted, found.refused, list(found.deferred)) == (["a"], {"b": GONE}, ["c"])


def test_words_stay_short() -> None:
    many = {f"r{number}@server.example": GONE for number in range(1_000)}
    text = words(many)
    assert text.endswith("<r9@server.example> and 990 more: 550 gone")
    assert len(words({each: Said("5.0.0", each * 50) for each in many})) <= 4_000


@given(
    st.lists(st.lists(st.sampled_from([YES, NO, WAIT, LOST, DOWN]), max_size=5), min_size=1, max_size=6),
    st.integers(1, 3),
)
def test_whatever_happens(answers: list[list[str]], crowd: int) -> None:
    """Every recipient ends served or refused; none got a mail twice; no refused one was asked again
    before the end."""
    hop = Hop(
        {f"r{number}": [*each, YES if number % 2 else NO] for number, each in enumerate(answers)}, crowd=crowd
    )
    once = Remembering()
    fault: Exception | None = Temporary("not yet")
    attempts = 0
    while isinstance(fault, Temporary):
        fault = attempt(once, hop)
        attempts += 1
        assert attempts < 100
    refused = set() if fault is None else set(fault.recipients or hop.verdicts)  # type: ignore[attr-defined]
    assert set(hop.got) | refused == set(hop.verdicts)
    assert not set(hop.got) & refused
    assert set(hop.got.values()) <= {1}


def test_an_ending_sums_groups_up() -> None:
    total = RecipientResults()
    total.add(RecipientResults(["a"], {"b": GONE}))
    total.add(RecipientResults([], {}, {"c": LATER}, in_doubt=True))
    with pytest.raises(Temporary) as caught:
        total.settle()
    assert caught.value.in_doubt
    assert set(caught.value.recipients) == {"b", "c"}


@pytest.mark.parametrize("rest", ["{", "[]", '{"refused": 1}', '{"refused": {"a": [1]}}', "[" * 100_000])
def test_a_receipt_that_cannot_be_read_tells_nothing(rest: str) -> None:
    with pytest.raises(Temporary, match="cannot be read") as caught:
        decode(f"250 ok\n{rest}", ["a"])
    assert caught.value.in_doubt


def test_recipients_that_are_served_beside_a_doubt_are_not_asked_again() -> None:
    """LMTP: the session is lost between the replies for two recipients."""
    asked: list[list[str]] = []

    def half(recipients: Sequence[str]) -> TransactionResult:
        asked.append(list(recipients))
        if len(asked) > 1:
            return TransactionResult(accepted=list(recipients), answer="250 queued")
        return TransactionResult(["a"], {"no": GONE}, {"b": LATER, "c": LATER}, "250 queued", in_doubt=True)

    once = Remembering()
    first = deliver_to(["a", "no", "b", "c"], once, half)
    assert (first.served, list(first.deferred), first.in_doubt) == (["a"], ["b", "c"], True)
    with pytest.raises(Temporary) as caught:
        first.settle()
    assert caught.value.in_doubt
    assert set(caught.value.recipients) == {"no", "b", "c"}
    assert len(once.parts) == 2, "the doubt is announced as one of its own recipients"
    second = deliver_to(["a", "no", "b", "c"], once, half)
    assert asked == [["a", "no", "b", "c"], ["b", "c"]]
    assert sorted(second.served) == ["a", "b", "c"]


def test_a_doubt_beside_which_nobody_is_served_is_one() -> None:
    def lost(recipients: Sequence[str]) -> TransactionResult:
        return TransactionResult(deferred={"a": LATER, "b": LATER}, in_doubt=True)

    assert deliver_to(["a", "b"], Remembering(), lost).in_doubt


def test_a_wait_that_was_asked_for_and_a_failed_login_are_passed_on() -> None:
    def later(recipients: Sequence[str]) -> TransactionResult:
        raise Temporary("waiting", retry_after=7.0)

    def no_login(recipients: Sequence[str]) -> TransactionResult:
        raise Unreachable("no", enhanced="4.7.8", no_login=True)

    for send, wait, failed in ((later, 7.0, False), (no_login, None, True)):
        with pytest.raises(Temporary) as caught:
            deliver_to(["a"], Remembering(), send).settle()
        assert (caught.value.retry_after, caught.value.no_login) == (wait, failed)
