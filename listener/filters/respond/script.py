"""Applies rules to commands."""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from listener.api.decision import DROPPED, Exact
from listener.api.filter import SharedScript
from listener.filters.pattern import Values
from listener.filters.respond.memory import DRAWN, MATCHED
from listener.filters.respond.rules import MAX_DELAY, TEXT, PhaseName, RespondRule, enhanced_for, user_values

_draw: Final = random.SystemRandom().random  # workers that are forked have no state in common

_CODE: Final = re.compile(r"[45][0-9]{2}")
_ENHANCED: Final = re.compile(r"([45])\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})")
_DELAY: Final = re.compile(r"delay([0-9]{1,2})")


class Action(NamedTuple):
    """The answer: wait so many seconds, then send this reply; None goes on as if there were no rule."""

    delay: float
    reply: Exact | None


class _Compiled:
    __slots__ = ("action", "key", "nth", "rule", "to", "user")

    def __init__(self, rule: RespondRule, key: str) -> None:
        self.rule = rule
        self.key = key
        self.to = None if rule.to is None else Values(rule.to)
        self.user = None if rule.user is None else user_values(rule.user)
        self.nth = None if rule.nth is None else frozenset(rule.nth)
        reply = DROPPED if rule.drop else None if rule.reply is None else rule.reply.reply
        self.action = Action(rule.delay / 1000, reply)

    def concerns(self, recipients: Sequence[str], user: str) -> bool:
        return (self.user is None or user in self.user) and (
            self.to is None or any(one in self.to for one in recipients)
        )


class Script:
    """Rules, in order. `name` is of the filter: rules are counted by it, their place and their content."""

    def __init__(
        self,
        rules: Iterable[RespondRule],
        name: str,
        memory: SharedScript,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._memory = memory
        self._clock = clock
        self._by_phase: dict[PhaseName, list[_Compiled]] = {}
        for index, rule in enumerate(rules):
            one = _Compiled(rule, f"{name}\0{index}\0{rule.model_dump_json(exclude_defaults=True)}")
            self._by_phase.setdefault(rule.phase, []).append(one)

    def action(self, phase: PhaseName, recipients: Sequence[str], user: str) -> Action | None:
        """What the first rule that applies says. All rules that a command meets count it."""
        found = None
        for one in self._by_phase.get(phase, ()):
            if one.concerns(recipients, user) and self._applies(one, decided=found is not None):
                found = found or one.action
        return found

    def _applies(self, one: _Compiled, *, decided: bool) -> bool:
        rule, memory = one.rule, self._memory
        if one.nth is not None and memory.count(one.key, MATCHED) not in one.nth:
            return False
        if rule.rate is not None and memory.count_in_minute(one.key, self._clock()) <= rule.rate:
            return False
        if rule.probability is None or decided:
            return True
        if rule.seed is None:
            return _draw() < rule.probability
        return chance(rule.seed, memory.count(one.key, DRAWN)) < rule.probability


def chance(seed: int, number: int) -> float:
    """The number-th chance of a seed, from 0 to below 1."""
    drawn = hashlib.sha256(f"{seed}:{number}".encode()).digest()[:6]
    return int.from_bytes(drawn) / 2**48


def by_address(recipient: str) -> Action | None:
    """The answer that a recipient's plus-address asks for: `user+450@`, `user+5.7.1@`, `user+delay3@`,
    `user+drop@`, also after each other; None for other addresses."""
    local, at, _ = recipient.rpartition("@")
    delay, reply, asked = 0, None, False
    for word in local.split("+")[1:] if at else ():
        lower = word.lower()
        if _CODE.fullmatch(word):
            made = Exact(int(word), enhanced_for(int(word)), TEXT)
        elif found := _ENHANCED.fullmatch(word):
            made = Exact(450 if found[1] == "4" else 550, word, TEXT)
        elif lower == "drop":
            made = DROPPED
        elif (found := _DELAY.fullmatch(lower)) and int(found[1]) <= MAX_DELAY / 1000:
            delay, asked = max(delay, int(found[1])), True
            continue
        else:
            continue
        reply, asked = reply or made, True
    return Action(float(delay), reply) if asked else None
