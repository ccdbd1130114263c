"""The options of `sending-policy`: limits, and what is a mistake."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from listener.filters.sending.options import Limit, SendingPolicyOptions


@pytest.mark.parametrize(
    ("text", "most", "seconds"),
    [
        ("100/min", 100, 60),
        ("100 / Minute", 100, 60),
        ("500/10min", 500, 600),
        ("1/s", 1, 1),
        ("1000/h", 1_000, 3_600),
        ("5000/day", 5_000, 86_400),
        ("9/2weeks", 9, 1_209_600),
        ("20/mail", 20, 0),
    ],
)
def test_a_limit_is_read(text: str, most: int, seconds: int) -> None:
    assert Limit.read(text)[:2] == (most, seconds)


@pytest.mark.parametrize(
    "text", ["100", "0/min", "100/year", "100/2mail", "100/60day", "-1/min", "1/0min", ""]
)
def test_what_is_no_limit_is_a_mistake(text: str) -> None:
    with pytest.raises(ValueError, match=r"limit|31 days"):
        Limit.read(text)


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"from": "a@b.example"},
        {"user": "ann", "from": "<>"},
        {"user": "ann", "from": "${name}@b.example"},
        {"user": "ann", "headerFrom": "regexp:("},
        {"ip": "192.0.2.0/33"},
        {"user": "ann", "limits": ["many"]},
        {"user": "ann", "over": "drop"},
        {"user": "ann", "sender": "x"},
    ],
)
def test_a_rule_that_cannot_be_meant_is_a_mistake(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SendingPolicyOptions.model_validate({"type": "sending-policy", "rules": [rule]})


def test_values_that_look_like_patterns_are_told() -> None:
    rule = {"user": "ann*", "from": ["*@example.com", "example.com"], "to": "glob:*"}
    options = SendingPolicyOptions.model_validate({"type": "sending-policy", "rules": [rule]})
    assert [line.partition(":")[0] for line in options.advice()] == [
        "rules[0].user[0]",
        "rules[0].from[0]",
        "rules[0].from[1]",
        "rules[0].to[0]",
    ]


def test_only_networks_identify_every_client() -> None:
    def identifies(*rules: dict[str, Any]) -> bool:
        return SendingPolicyOptions.model_validate({"type": "sending-policy", "rules": rules}).identifies(
            "AND"
        )

    assert identifies({"ip": "192.0.2.0/24"})
    assert not identifies({"ip": "0.0.0.0/0"})
    assert not identifies({"ip": "192.0.2.0/24"}, {"user": "glob:*"})
