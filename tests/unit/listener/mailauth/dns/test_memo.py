"""Values that follow from DNS answers, and how long they count."""

from __future__ import annotations

import pytest

from listener.mailauth.dns.memo import MAX_ANSWERS, MAX_BYTES, Memo
from listener.mailauth.dns.resolver import ABSENT, DnsAnswer, Outcome, Question, failed

Answers = dict[Question, DnsAnswer]


def question(number: int = 0) -> Question:
    return Question(f"n{number}.example", "TXT")


def answer(text: bytes = b"x") -> DnsAnswer:
    return DnsAnswer(Outcome.FOUND, (text,), 300.0)


@pytest.fixture
def memo() -> Memo[str, int]:
    return Memo(3)


def test_a_value_counts_while_the_dns_gives_its_answers(memo: Memo[str, int]) -> None:
    answers = {question(): answer(), question(1): ABSENT}
    memo.put("a", answers, 7)
    assert memo.get("a", answers.get) == 7
    assert memo.get("b", answers.get) is None


@pytest.mark.parametrize("now", [{}, {question(): answer(b"y")}, {question(): answer()}])
def test_an_answer_that_expired_or_was_asked_for_again_ends_it(memo: Memo[str, int], now: Answers) -> None:
    memo.put("a", {question(): answer()}, 7)
    assert memo.get("a", now.get) is None


@pytest.mark.parametrize(
    "answers",
    [
        {question(): answer(), question(1): failed("no server answered")},
        {question(number): ABSENT for number in range(MAX_ANSWERS + 1)},
        {question(): answer(b"x" * MAX_BYTES)},
    ],
    ids=["a temporary failure", "too many", "too large"],
)
def test_answers_of_which_nothing_is_kept(memo: Memo[str, int], answers: Answers) -> None:
    memo.put("a", answers, 7)
    assert memo.get("a", answers.get) is None
    assert not len(memo)


def test_the_value_that_was_not_asked_for_longest_leaves_first(memo: Memo[str, int]) -> None:
    answers = {question(): answer()}
    for number, key in enumerate("abc"):
        memo.put(key, answers, number)
    assert memo.get("a", answers.get) == 0
    memo.put("d", answers, 3)
    assert [memo.get(key, answers.get) for key in "abcd"] == [0, None, 2, 3]


def test_a_new_value_replaces_the_old_one(memo: Memo[str, int]) -> None:
    old, new = {question(): answer()}, {question(): answer()}
    memo.put("a", old, 1)
    memo.put("a", new, 2)
    assert (memo.get("a", old.get), memo.get("a", new.get), len(memo)) == (None, 2, 1)
