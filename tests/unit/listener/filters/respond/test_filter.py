"""The filter `respond` among other filters."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from listener.api.decision import ACCEPT
from listener.api.filter import BuildContext
from listener.filters.registry import FILTERS, build_filter
from listener.filters.respond.memory import ScriptMemory
from listener.flows.flow import Flow, Flows
from tests.support.scripted import Dialogue, Scripted, a_session

ANSWERS = {"connect": 0, "auth": 1, "mail": 2, "rcpt": 3, "data": 4}


def respond(*rules: dict[str, Any], memory: ScriptMemory | None = None, **options: Any) -> Any:
    context = replace(BuildContext.of(Path("/"), {}), flow="in", script=memory)
    given = {"type": "respond", "rules": list(rules), **options}
    return build_filter(FILTERS.parse(given), "respond_1", context)


def flows(*filters: Any, operator: Any = "AND", **others: Any) -> Flows:
    return Flows([Flow("in", filters, operator), *others.values()], auth_optional=True, filter_timeout=0.05)


@pytest.mark.parametrize("operator", ["AND", "OR"])
@pytest.mark.parametrize("phase", ["connect", "mail", "rcpt", "data"])
@pytest.mark.parametrize("code", [421, 450, 499, 550, 599])
async def test_a_reply_is_sent_as_it_stands_at_each_phase(operator: str, phase: str, code: int) -> None:
    rule = {"phase": phase, "reply": {"code": code}}
    made = flows(Scripted(connect=ACCEPT), respond(rule), operator=operator)
    dialogue = Dialogue(made, a_session())
    found = {"connect": await dialogue.connect()}
    if found["connect"] == 250:
        found["mail"] = await dialogue.mail()
    if found.get("mail") == 250:
        found["rcpt"] = await dialogue.rcpt("b@h.example")
    if found.get("rcpt") == 250:
        found["data"] = (await dialogue.data()).reply.code
    assert found[phase] == code
    assert all(one == 250 for name, one in found.items() if name != phase)


async def test_another_flow_takes_the_mail_that_a_script_refuses() -> None:
    other = Flow("other", (Scripted(connect=ACCEPT),), "AND")
    made = flows(Scripted(connect=ACCEPT), respond({"phase": "mail", "reply": "550"}), other=other)
    dialogue = Dialogue(made, a_session())
    assert [await dialogue.connect(), await dialogue.mail()] == [250, 250]


async def test_a_login_fails_by_script_whatever_other_filters_say() -> None:
    memory = ScriptMemory.new()
    rule = {"phase": "auth", "user": "bob", "nth": 1, "reply": "454 4.7.0 Later"}
    made = flows(Scripted(checks=True, auth=ACCEPT), respond(rule, memory=memory))
    dialogue = Dialogue(made, a_session())
    assert await dialogue.connect() == 250
    assert await dialogue.auth("bob") == 454
    assert dialogue.session.user is None
    assert await dialogue.auth("bob") == 250
    assert dialogue.session.user == "bob"


async def test_a_delay_is_no_time_out() -> None:
    made = flows(Scripted(connect=ACCEPT), respond({"phase": "mail", "delay": 200, "reply": "451 4.1.8 A"}))
    dialogue = Dialogue(made, a_session())
    await dialogue.connect()
    began = time.monotonic()
    assert await dialogue.mail() == 451
    assert time.monotonic() - began >= 0.2
