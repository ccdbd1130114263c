"""Rules and chaos that are set while a server runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from listener.api.decision import ABSTAIN, Decision
from listener.api.filter import BuildContext
from listener.api.session import Transaction
from listener.filters.respond.filter import Respond, RespondOptions, build, tell_script
from listener.filters.respond.memory import ScriptMemory
from listener.filters.respond.running import ALL, RunningScript, Scope
from tests.support.scripted import a_session

OFF = {
    "Sender": {"ErrorCode": 451, "Probability": 0},
    "Recipient": {"ErrorCode": 451, "Probability": 0},
    "Authentication": {"ErrorCode": 535, "Probability": 0},
}


class Server:
    """The filters of two flows, and their script at run time."""

    def __init__(self) -> None:
        self.memory = ScriptMemory.new()
        in_file = [{"to": "file@h.example", "reply": "450"}]
        options = RespondOptions.model_validate({"type": "respond", "rules": in_file})
        tell_script(self.memory, {"in": [options], "out": [options], "plain": []})
        self.script = RunningScript(self.memory)
        self.filters = {name: self._filter(options, name) for name in ("in", "out")}

    def _filter(self, options: RespondOptions, flow: str) -> Respond:
        context = replace(BuildContext.of(Path("/"), {}), flow=flow, script=self.memory)
        return build(options, "respond_0", context)

    def rcpt(self, flow: str, to: str = "a@h.example", user: str | None = None) -> int:
        answer = self.filters[flow].on_rcpt(a_session(user=user), Transaction("", ""), to)
        assert isinstance(answer, Decision)
        return 250 if answer is ABSTAIN or answer.reply is None else answer.reply.code

    def put(self, *rules: dict[str, Any], scope: Scope = ALL) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.script.set_rules({"rules": list(rules)}, scope)["rules"]
        return found


@pytest.fixture
def server() -> Server:
    return Server()


def test_the_files_rules_count_until_others_are_put_and_come_back(server: Server) -> None:
    in_file = {"phase": "rcpt", "to": ["file@h.example"], "reply": {"code": 450}}
    shown = [{**in_file, "flow": "in"}, {**in_file, "flow": "out"}]
    assert server.script.rules(ALL) == {"rules": shown}
    assert server.rcpt("in", "file@h.example") == 450
    server.put({"reply": "550 5.1.1 No"}, {"flow": "out", "reply": "551"})
    assert [server.rcpt("in"), server.rcpt("out"), server.rcpt("in", "file@h.example")] == [550] * 3
    server.put()
    assert server.rcpt("in", "file@h.example") == 250
    assert server.script.set_rules({"rules": None}, ALL) == {"rules": shown}
    assert server.rcpt("in", "file@h.example") == 450


def test_a_rule_of_one_flow_leaves_the_other_alone(server: Server) -> None:
    server.put({"flow": "out", "reply": "551"})
    assert [server.rcpt("in"), server.rcpt("out")] == [250, 551]


def test_each_change_counts_anew(server: Server) -> None:
    rule = {"flow": "in", "nth": 1, "reply": "450"}
    for _ in range(2):
        server.put(rule)
        assert [server.rcpt("in") for _ in range(3)] == [450, 250, 250]


def test_chaos_comes_before_the_rules_and_leaves_them(server: Server) -> None:
    assert server.script.chaos(ALL) == OFF
    server.put({"reply": "550"})
    given = {"Recipient": {"ErrorCode": 452, "Probability": 100}}
    assert server.script.set_chaos(given, ALL) == {**OFF, **given} == server.script.chaos(ALL)
    assert server.rcpt("in") == 452
    assert server.script.set_chaos({}, ALL) == OFF
    assert server.rcpt("in") == 550


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"Sender": {"Probability": 5}}, {"Sender": {"ErrorCode": 451, "Probability": 5}}),
        ({"sender": {"errorcode": 0, "probability": 1}}, {"Sender": {"ErrorCode": 451, "Probability": 1}}),
        ({"Authentication": {"ErrorCode": 454}}, {"Authentication": {"ErrorCode": 454, "Probability": 0}}),
        ({"Sender": None, "Recipient": {}}, {}),
    ],
)
def test_triggers_have_mailpits_defaults(server: Server, given: Any, found: Any) -> None:
    assert server.script.set_chaos(given, ALL) == {**OFF, **found}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"Sender": {"ErrorCode": 399}}, "error code must be between 400 and 599"),
        ({"Sender": {"ErrorCode": 600}}, "error code must be between 400 and 599"),
        ({"Recipient": {"ErrorCode": 451, "Probability": 101}}, "probability must be between 0 and 100"),
        ({"Recipient": {"ErrorCode": 451, "Probability": -1}}, "probability must be between 0 and 100"),
        ({"Recipient": {"ErrorCode": "451"}}, "Recipient.ErrorCode is not a whole number"),
        ({"Recipient": {"ErrorCode": True}}, "Recipient.ErrorCode is not a whole number"),
        ({"Recipient": 5}, "Recipient is not an object"),
        ({"Recipients": {}}, "'Recipients'"),
        ({"Sender": {}, "sender": {}}, "'sender'"),
        ([], "the body is not an object"),
    ],
)
def test_mistaken_triggers_change_nothing(server: Server, given: Any, told: str) -> None:
    server.script.set_chaos({"Sender": {"Probability": 7}}, ALL)
    before = server.script.chaos(ALL)
    with pytest.raises(ValueError, match=told):
        server.script.set_chaos(given, ALL)
    assert server.script.chaos(ALL) == before


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "the body must be"),
        ({"rule": []}, "the body must be"),
        ({"rules": {}}, "rules: is not a list"),
        ({"rules": [5]}, r"rules\[0\]: Input should be"),
        ({"rules": [{"drop": True}, {"reply": "250 2.0.0 OK"}]}, r"rules\[1\]\.reply\.code: Input should be"),
        ({"rules": [{"reply": {"code": 451, "enhancedCode": "5.1.1"}}]}, r"rules\[0\]\.reply: enhancedCode"),
        ({"rules": [{"flow": "no", "drop": True}]}, r"rules\[0\]\.flow: no flow 'no'.*there are in, out"),
        ({"rules": [{"drop": True}] * 101}, "more than 100"),
        ({"rules": [{"drop": True}] * 100_000}, "more than 100"),
        ({"rules": [{"to": "x" * 200_000, "drop": True}]}, "longer than"),
    ],
)
def test_mistaken_rules_change_nothing(server: Server, given: Any, told: str) -> None:
    before = server.put({"nth": 2, "reply": "450"})
    with pytest.raises(ValueError, match=told):
        server.script.set_rules(given, ALL)
    assert server.script.rules(ALL) == {"rules": before}


def test_an_inbox_sees_and_changes_its_own_rules_alone(server: Server) -> None:
    of_in, of_bob = Scope(flow="in"), Scope(user="bob")
    assert [one["flow"] for one in server.script.rules(of_in)["rules"]] == ["in"]
    assert server.put({"reply": "551"}, scope=of_in) == [
        {"phase": "rcpt", "flow": "in", "reply": {"code": 551}}
    ]
    server.put({"user": "bob", "reply": "552"}, scope=of_bob)
    assert [server.rcpt("in"), server.rcpt("out", "file@h.example")] == [551, 450]
    assert [server.rcpt("out", user="bob"), server.rcpt("out", user="eve")] == [552, 250]
    server.script.set_rules({"rules": None}, of_in)
    assert [server.rcpt("in"), server.rcpt("in", "file@h.example")] == [250, 450]
    assert server.rcpt("out", user="bob") == 552
    for scope, rule in ((of_in, {"flow": "out"}), (of_bob, {"user": ["bob", "eve"]})):
        with pytest.raises(ValueError, match="has only"):
            server.put({**rule, "drop": True}, scope=scope)


def test_chaos_of_an_inbox_concerns_that_inbox_alone(server: Server) -> None:
    always = {"Recipient": {"ErrorCode": 452, "Probability": 100}}
    server.script.set_chaos({"Recipient": {"Probability": 100}}, Scope(flow="in"))
    server.script.set_chaos(always, Scope(user="bob"))
    assert server.script.chaos(ALL) == OFF
    assert server.script.chaos(Scope(user="bob")) == {**OFF, **always}
    assert [server.rcpt("in"), server.rcpt("out"), server.rcpt("out", user="bob")] == [451, 250, 452]
    server.script.set_chaos({"Recipient": {"ErrorCode": 550, "Probability": 100}}, ALL)
    assert [server.rcpt("in"), server.rcpt("out"), server.rcpt("out", user="bob")] == [451, 550, 452]
    for scope in (Scope(flow="in"), Scope(user="bob"), ALL):
        server.script.set_chaos({}, scope)
    assert [server.rcpt("in"), server.rcpt("out"), server.rcpt("out", user="bob")] == [250] * 3
