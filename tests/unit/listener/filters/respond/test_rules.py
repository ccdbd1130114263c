"""What rules of `respond` may say, and the replies that they stand for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from listener.filters.respond.filter import RespondOptions
from listener.filters.respond.rules import RespondRule, RuntimeRule, ScriptedReply


def rule(**fields: Any) -> RespondRule:
    return RespondRule.model_validate(fields, by_alias=True, by_name=False)


@given(st.integers(min_value=-1, max_value=1_000), st.integers(0, 9), st.integers(0, 1_200))
def test_no_reply_can_say_that_a_mail_was_taken(code: int, kind: int, detail: int) -> None:
    enhanced = f"{kind}.{detail}.1"
    fits = 400 <= code <= 599 and kind == code // 100 and detail <= 999
    try:
        made = rule(reply={"code": code, "enhancedCode": enhanced}).reply
    except ValidationError:
        assert not fits
    else:
        assert fits
        assert made is not None
        assert str(made.reply) == f"{code} {enhanced} This answer is scripted"


@given(st.integers(400, 599), st.sampled_from(["", "Try again", "a - b"]), st.booleans())
def test_a_reply_as_text_means_the_same_as_its_parts(code: int, text: str, enhanced: bool) -> None:
    status = f"{code // 100}.7.1" if enhanced else ""
    line = " ".join(part for part in (str(code), status, text) if part)
    parts = {"code": code, **({"enhancedCode": status} if status else {}), **({"text": text} if text else {})}
    assert rule(reply=line).reply == rule(reply=parts).reply


@given(st.integers(400, 599))
def test_a_reply_without_an_enhanced_code_gets_one_of_its_class(code: int) -> None:
    assert ScriptedReply(code=code).reply.enhanced.startswith(f"{code // 100}.")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "does nothing"),
        ({"reply": "250 2.0.0 OK"}, "greater than or equal to 400"),
        ({"reply": "451 5.0.0 Later"}, "'5.0.0' does not fit 451 (write 4.3.0)"),
        ({"reply": "later"}, "is no reply such as"),
        ({"reply": {"code": 451, "text": "a\r\n250 OK"}}, "not printable ASCII"),
        ({"reply": {"code": 451, "text": "später"}}, "not printable ASCII"),
        ({"reply": {"code": 451, "text": "x" * 481}}, "at most 480"),
        ({"reply": "451", "drop": True}, "has reply and drop"),
        ({"delay": "61s"}, "less than or equal to 60000"),
        ({"delay": -1}, "greater than or equal to 0"),
        ({"phase": "helo", "drop": True}, "phase"),
        ({"phase": "mail", "to": "a@h.example", "drop": True}, "no recipient is known at mail"),
        ({"phase": "connect", "user": "a", "drop": True}, "no user is known at connect"),
        ({"seed": 3, "drop": True}, "no chance without probability"),
        ({"probability": 0, "drop": True}, "greater than 0"),
        ({"probability": 1.1, "drop": True}, "less than or equal to 1"),
        ({"nth": 0, "drop": True}, "greater than or equal to 1"),
        ({"nth": [], "drop": True}, "at least 1"),
        ({"to": [], "drop": True}, "at least 1"),
        ({"to": "regexp:(", "drop": True}, "to"),
        ({"rate": 0, "drop": True}, "greater than or equal to 1"),
        ({"recipient": "a@h.example", "drop": True}, "Extra inputs"),
    ],
)
def test_a_mistaken_rule_is_refused_with_its_reason(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        rule(**fields)
    assert told in str(refused.value)


def test_a_rule_survives_its_form_as_json() -> None:
    given = {
        "phase": "rcpt", "flow": "in", "to": ["a@h.example", "glob:b*@h.example"], "user": ["bob"],
        "nth": [1, 3], "rate": 5, "probability": 0.5, "seed": 7, "delay": 1_000,
        "reply": {"code": 450, "enhancedCode": "4.2.1", "text": "Busy"},
    }  # fmt: skip
    made = RuntimeRule.model_validate(given, by_alias=True, by_name=False)
    assert made.as_json() == given
    assert RuntimeRule.model_validate(made.as_json(), by_alias=True, by_name=False) == made


def test_a_filter_has_a_hundred_rules_at_most() -> None:
    with pytest.raises(ValidationError, match="at most 100"):
        RespondOptions.model_validate({"type": "respond", "rules": [{"drop": True}] * 101})
