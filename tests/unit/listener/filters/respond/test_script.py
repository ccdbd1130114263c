"""Which rule answers a command, and how commands are counted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.api.decision import DROPPED
from listener.filters.respond.memory import DRAWN, MATCHED, MOST_TEXT, ScriptMemory
from listener.filters.respond.rules import PhaseName, RespondRule
from listener.filters.respond.script import Action, Script, by_address, chance

PHASES: tuple[PhaseName, ...] = ("connect", "auth", "mail", "rcpt", "data")


def script(*rules: dict[str, Any], memory: ScriptMemory | None = None, clock: Any = None) -> Script:
    made = [RespondRule.model_validate(one, by_alias=True, by_name=False) for one in rules]
    return Script(made, "filter", memory or ScriptMemory.new(), **({"clock": clock} if clock else {}))


def code(action: Action | None) -> int:
    return 0 if action is None or action.reply is None else action.reply.code


def codes(one: Script, times: int, to: str = "a@h.example") -> list[int]:
    return [code(one.action("rcpt", (to,), "")) for _ in range(times)]


RULES = st.fixed_dictionaries(
    {"reply": st.sampled_from(["450", "451", "550"])},
    optional={
        "to": st.sampled_from(["a@h.example", "glob:b*@h.example"]),
        "user": st.sampled_from(["u", "glob:u*"]),
        "nth": st.lists(st.integers(1, 5), min_size=1, max_size=3),
        "rate": st.integers(1, 4),
    },
)


@given(
    st.lists(RULES, max_size=5),
    st.lists(st.tuples(st.sampled_from(["a@h.example", "b1@h.example"]), st.sampled_from(["u", "u2", ""]))),
)
def test_the_first_rule_that_applies_answers(
    rules: list[dict[str, Any]], commands: list[tuple[str, str]]
) -> None:
    """Against a plain reading of the rules, with all commands in one minute."""
    one = script(*rules, clock=lambda: 1_000.0)
    met = [0] * len(rules)
    more = [0] * len(rules)
    for to, user in commands:
        expected = 0
        for index, rule in enumerate(rules):
            if rule.get("to", to) not in (to, f"glob:{to[0]}*@h.example"):
                continue
            if rule.get("user", user) != user and not (rule["user"] == "glob:u*" and user.startswith("u")):
                continue
            met[index] += 1
            if "nth" in rule and met[index] not in rule["nth"]:
                continue
            more[index] += 1
            if "rate" in rule and more[index] <= rule["rate"]:
                continue
            expected = expected or int(rule["reply"])
        assert code(one.action("rcpt", (to,), user)) == expected


@pytest.mark.parametrize("phase", PHASES)
def test_a_rule_answers_at_its_phase_alone(phase: PhaseName) -> None:
    one = script({"phase": phase, "drop": True})
    for asked in PHASES:
        found = one.action(asked, ("a@h.example",), "bob")
        assert (found == Action(0.0, DROPPED)) is (asked == phase)


def test_after_data_one_recipient_is_enough() -> None:
    one = script({"phase": "data", "to": "b@h.example", "reply": "451"})
    assert code(one.action("data", ("a@h.example", "B@H.example"), "")) == 451
    assert code(one.action("data", ("a@h.example",), "")) == 0


def test_a_rate_lets_so_many_through_each_minute() -> None:
    now = [100.0]
    one = script({"rate": 2, "reply": "450"}, clock=lambda: now[0])
    assert codes(one, 4) == [0, 0, 450, 450]
    now[0] = 159.9
    assert codes(one, 1) == [450]
    now[0] = 160.0
    assert codes(one, 3) == [0, 0, 450]


@given(st.integers(), st.floats(0.01, 1))
def test_the_same_seed_gives_the_same_chances(seed: int, probability: float) -> None:
    rule = {"probability": probability, "seed": seed, "reply": "450"}
    first = codes(script(rule), 50)
    assert first == codes(script(rule), 50)
    assert first == [450 if chance(seed, n) < probability else 0 for n in range(1, 51)]


@pytest.mark.parametrize("rule", [{"probability": 0.3}, {"probability": 0.3, "seed": 1}])
def test_a_probability_is_met_about_as_often_as_it_says(rule: dict[str, Any]) -> None:
    found = codes(script({**rule, "reply": "450"}), 2_000)
    assert 450 < found.count(450) < 750  # nine standard deviations


@pytest.mark.parametrize(
    ("address", "answer"),
    [
        ("user+450@h.example", (0, "450 4.2.0")),
        ("user+5.7.1@h.example", (0, "550 5.7.1")),
        ("user+4.2.2@h.example", (0, "450 4.2.2")),
        ("user+599@h.example", (0, "599 5.0.0")),
        ("user+delay3@h.example", (3, "")),
        ("user+DELAY60@h.example", (60, "")),
        ("user+delay3+550@h.example", (3, "550 5.7.1")),
        ("user+news+452@h.example", (0, "452 4.3.1")),
        ("user+drop@h.example", (0, "421")),
        ("user@h.example", None),
        ("user+250@h.example", None),
        ("user+354@h.example", None),
        ("user+600@h.example", None),
        ("user+4500@h.example", None),
        ("user+2.0.0@h.example", None),
        ("user+5.1234.0@h.example", None),
        ("user+delay61@h.example", None),
        ("user+delay@h.example", None),
        ("450@h.example", None),
        ("user@450+450.example", None),
        ("user+450", None),
        ("user+\u0664\u0665\u0660@h.example", None),
    ],
)
def test_a_plus_address_asks_for_an_answer(address: str, answer: tuple[int, str] | None) -> None:
    found = by_address(address)
    if answer is None:
        assert found is None
    else:
        assert found is not None
        assert found.delay == answer[0]
        assert str(found.reply or "").startswith(answer[1])


@given(st.text(max_size=40))
def test_no_plus_address_asks_for_more_than_a_minute_or_an_acceptance(local: str) -> None:
    found = by_address(f"user+{local}@h.example")
    if found is not None:
        assert 0 <= found.delay <= 60
        assert found.reply is None or 400 <= found.reply.code <= 599


def forked(count: int, work: Any) -> None:
    """Run `work` in so many processes at once, as workers that share what their parent made."""
    children = []
    for _ in range(count):
        if not (pid := os.fork()):
            try:
                work()
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


def test_workers_count_together() -> None:
    memory = ScriptMemory.new()

    def work() -> None:
        for _ in range(500):
            memory.count("rule", MATCHED)
            memory.count("other", DRAWN)

    forked(4, work)
    assert memory.count("rule", MATCHED) == 2_001
    assert memory.count("other", DRAWN) == 2_001
    assert memory.count("other", MATCHED) == 1


def test_a_text_that_one_process_writes_is_read_by_all() -> None:
    memory = ScriptMemory.new()
    memory.count("rule", MATCHED)
    forked(1, lambda: memory.change(lambda before: f"{before}one "))
    forked(3, lambda: memory.change(lambda before: f"{before}more "))
    assert memory.version == 4
    assert memory.text() == "one more more more "
    assert memory.count("rule", MATCHED) == 1, "a change counts anew"


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has files without a disk")
def test_the_memory_needs_no_disk_which_may_be_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", os.fspath(tmp_path / "absent"))
    memory = ScriptMemory.new()
    forked(1, lambda: memory.change(lambda _: "x" * MOST_TEXT))
    assert memory.text() == "x" * MOST_TEXT


def test_a_text_that_is_too_long_changes_nothing() -> None:
    memory = ScriptMemory.new()
    memory.change(lambda _: "x")
    with pytest.raises(ValueError, match="longer than"):
        memory.change(lambda _: "x" * (MOST_TEXT + 1))
    assert (memory.text(), memory.version) == ("x", 1)
    memory.change(lambda _: "é" * (MOST_TEXT // 2))
    assert memory.text() == "é" * (MOST_TEXT // 2)


def test_more_rules_than_there_is_room_for_begin_to_count_anew() -> None:
    memory = ScriptMemory.new()
    found: Sequence[int] = [memory.count(str(number), MATCHED) for number in range(5_000)]
    assert set(found) == {1}
    assert memory.count("4999", MATCHED) == 2
