"""The filter `blacklist`: the refusals of each field, their phases, and their effect on a flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from listener.api.decision import ABSTAIN, ACCEPT, DEFER, REFUSE, Phase
from listener.api.filter import BuildContext
from listener.api.session import Transaction
from listener.filters.blacklist import Blacklist, BlacklistOptions, build
from listener.filters.registry import FILTERS, build_filter
from listener.filters.whitelist import WhitelistOptions
from listener.flows.flow import Flow, Flows
from tests.support.scripted import Dialogue, Scripted, a_session

CONTEXT = BuildContext.of(Path("/"), {})


def blacklist(**fields: Any) -> Blacklist:
    given = {"type": "blacklist", **fields}
    return build(BlacklistOptions.model_validate(given, by_alias=True, by_name=False), "blacklist_0", CONTEXT)


def test_it_has_the_fields_of_a_whitelist() -> None:
    assert BlacklistOptions.model_fields.keys() == WhitelistOptions.model_fields.keys()


@pytest.mark.parametrize(
    ("fields", "ip", "name", "answer"),
    [
        ({"ips": "192.0.2.1"}, "192.0.2.1", "", REFUSE),
        ({"ips": "::ffff:192.0.2.1"}, "192.0.2.1", "", REFUSE),
        ({"ips": "glob:192.0.2.*"}, "192.0.2.77", "", REFUSE),
        ({"ips": "glob:2001:DB8::*"}, "2001:db8::1", "", REFUSE),
        ({"ips": "glob:192.0.2.*"}, "192.0.20.1", "", ABSTAIN),
        ({"subnets": "192.0.2.0/24"}, "192.0.2.9", "", REFUSE),
        ({"domains": "glob:*.spam.example"}, "192.0.2.1", "mx.spam.example", REFUSE),
        ({"domains": "glob:*.spam.example"}, "192.0.2.1", "spam.example", ABSTAIN),
        ({"ips": "192.0.2.1", "subnets": "10.0.0.0/8", "domains": "a.example"}, "10.1.1.1", "", REFUSE),
        ({"ips": "192.0.2.1", "subnets": "10.0.0.0/8", "domains": "a.example"}, "11.1.1.1", "", ABSTAIN),
        ({"ips": []}, "192.0.2.1", "", ABSTAIN),
    ],
)
def test_a_listed_client_is_refused_at_connect(
    fields: dict[str, Any], ip: str, name: str, answer: object
) -> None:
    one = blacklist(**fields)
    assert one.phases == {Phase.CONNECT}
    assert one.on_connect(a_session(ip=ip, name=name or f"[{ip}]", name_sure=True)) is answer


def test_a_client_whose_name_is_not_known_now_is_deferred() -> None:
    unsure = a_session(name_sure=False)
    assert blacklist(domains="a.example").on_connect(unsure) is DEFER
    assert blacklist(domains="a.example", ips="192.0.2.1").on_connect(unsure) is REFUSE
    assert blacklist(ips="192.0.2.2").on_connect(unsure) is ABSTAIN


def test_listed_paths_and_recipients_are_refused() -> None:
    one = blacklist(**{"from": ["", "glob:*@spam.example"], "to": "regexp:no.*"})
    assert one.phases == {Phase.MAIL, Phase.RCPT}
    for path, answer in (("", REFUSE), ("A@SPAM.example", REFUSE), ("a@b.example", ABSTAIN)):
        assert one.on_mail(a_session(), Transaction("m", path)) is answer
    for recipient, answer in (("no@b.example", REFUSE), ("yes@b.example", ABSTAIN)):
        assert one.on_rcpt(a_session(), Transaction("m", ""), recipient) is answer


@pytest.mark.parametrize("operator", ["AND", "OR"])
async def test_one_match_outweighs_what_others_accept(operator: Any) -> None:
    one = blacklist(to="no@b.example")
    everybody = Scripted(connect=ACCEPT, rcpt=ACCEPT)
    for filters in ((one, everybody), (everybody, one)):
        talk = Dialogue(Flows([Flow("in", filters, operator)], auth_optional=True))
        assert [await talk.connect(), await talk.mail()] == [250, 250]
        assert [await talk.rcpt(each) for each in ("no@b.example", "yes@b.example")] == [550, 250]
        assert (await talk.data()).recipients == (("yes@b.example", ("in",)),)


def test_a_filter_whose_options_say_so_is_a_guard() -> None:
    class Options(WhitelistOptions):
        guard = True

    plain = build_filter(WhitelistOptions(type="whitelist"), "one", CONTEXT)
    assert not plain.guard
    assert build_filter(Options(type="whitelist"), "one", CONTEXT).guard


@pytest.mark.parametrize("kind", FILTERS.kinds)
def test_options_and_filter_agree(kind: str) -> None:
    fields: dict[str, Any] = {"url": "http://x"} if kind.startswith("http") else {}
    if kind == "static-auth":
        fields = {"username": "u", "password": "plain:p"}
    if kind == "sending-policy":
        fields = {"rules": [{"user": "u", "from": "glob:*"}]}
    options = FILTERS.parse({"type": kind, **fields})
    made = build_filter(options, "one", CONTEXT)
    assert (made.guard, made.any_user, made.checks_credentials) == (
        options.guard,
        options.any_user,
        options.checks_credentials,
    )
    beyond = made.mechanisms - {"PLAIN", "LOGIN"}
    assert beyond <= options.checked_mechanisms
    assert not made.supports_cram_md5 or "CRAM-MD5" in options.checked_mechanisms
