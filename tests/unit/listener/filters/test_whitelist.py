"""The whitelist filter: the accepted and refused values of each field, and their phases."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from listener.api.decision import ACCEPT, REFUSE, Decision, Phase
from listener.api.filter import BuildContext
from listener.api.session import Transaction
from listener.filters.whitelist import Networks, Whitelist, WhitelistOptions, build, subnet
from listener.flows.flow import Flow, Flows
from tests.support.scripted import Dialogue, a_session

CONTEXT = BuildContext.of(Path("/"), {})


def options(**fields: Any) -> WhitelistOptions:
    return WhitelistOptions.model_validate({"type": "whitelist", **fields}, by_alias=True, by_name=False)


def whitelist(**fields: Any) -> Whitelist:
    return build(options(**fields), "whitelist_0", CONTEXT)


def at_connect(one: Whitelist, ip: str, name: str = "") -> Decision:
    return one.on_connect(a_session(ip=ip, name=name or f"[{ip}]"))


def at_mail(one: Whitelist, reverse_path: str) -> Decision:
    return one.on_mail(a_session(), Transaction("m", reverse_path))


def at_rcpt(one: Whitelist, recipient: str) -> Decision:
    return one.on_rcpt(a_session(), Transaction("m", ""), recipient)


# -- fields --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "phases"),
    [
        ({}, set()),
        ({"ips": "127.0.0.1"}, {Phase.CONNECT}),
        ({"domains": ["a.example"]}, {Phase.CONNECT}),
        ({"subnets": ["10.0.0.0/8"]}, {Phase.CONNECT}),
        ({"from": "a@b.example"}, {Phase.MAIL}),
        ({"to": ["a@b.example"]}, {Phase.RCPT}),
        ({"ips": [], "from": [], "to": []}, {Phase.CONNECT, Phase.MAIL, Phase.RCPT}),
    ],
)
def test_phases_are_those_of_the_fields_given(fields: dict[str, Any], phases: set[Phase]) -> None:
    assert whitelist(**fields).phases == phases


@pytest.mark.parametrize(
    ("values", "reverse_path", "expected"),
    [
        ("Bob@A.example", "bob@a.EXAMPLE", ACCEPT),
        ("bob@a.example", "ann@a.example", REFUSE),
        ("bob@a.example", "bob@a.example.evil.example", REFUSE),
        ("@a.example", "bob@a.example", REFUSE),
        ("regexp:.*@a\\.example", "bob@a.example", ACCEPT),
        ("regexp:.*@a\\.example", "bob@A.example", REFUSE),
        ("regexp:(?i).*@a\\.example", "bob@A.example", ACCEPT),
        ("regexp:a\\.example", "bob@a.example", REFUSE),
        (["x@y.example", "regexp:b.b@.*"], "bob@a.example", ACCEPT),
        ("", "", ACCEPT),
        ("<>", "", ACCEPT),
        ("kim@a.example", "\u212aim@a.example", REFUSE),
        ("bob@münchen.example", "BOB@xn--mnchen-3ya.example", ACCEPT),
        ("regexp:.*@xn--mnchen-3ya\\.example", "bob@münchen.example", ACCEPT),
        ("regexp:.*", "", ACCEPT),
        ("regexp:.+", "", REFUSE),
        ("bob@a.example", "", REFUSE),
        ([], "bob@a.example", REFUSE),
    ],
)
def test_from(values: Any, reverse_path: str, expected: Decision) -> None:
    assert at_mail(whitelist(**{"from": values}), reverse_path) is expected


@pytest.mark.parametrize(
    ("values", "recipient", "expected"),
    [
        (["regexp:.*@mydomain.com"], "bob@mydomain.com", ACCEPT),
        (["regexp:.*@mydomain.com"], "bob@mydomain.com.evil.example", REFUSE),
        (["Bob@a.example"], "bob@A.example", ACCEPT),
        (["postmaster"], "Postmaster", ACCEPT),
        ([], "bob@a.example", REFUSE),
        # Only A to Z have a case in a local part:
        (["kim@a.example"], "\u212aim@a.example", REFUSE),  # KELVIN SIGN
        (["\u212aim@a.example"], "kim@a.example", REFUSE),
        (["\u212aim@a.example"], "\u212aIM@a.example", ACCEPT),
        (["strasse@a.example"], "straße@a.example", REFUSE),
        (["straße@a.example"], "STRAßE@a.example", ACCEPT),
        (["straße@a.example"], "STRASSE@a.example", REFUSE),
        (["sam@a.example"], "\u017fam@a.example", REFUSE),  # LATIN SMALL LETTER LONG S
        (["i\u0307@a.example"], "\u0130@a.example", REFUSE),
        (["é@a.example"], "É@a.example", REFUSE),
        # One domain, however it is written:
        (["bob@münchen.example"], "bob@xn--mnchen-3ya.example", ACCEPT),
        (["bob@xn--mnchen-3ya.example"], "bob@münchen.example", ACCEPT),
        (["Bob@MÜNCHEN.example"], "bob@mu\u0308nchen.EXAMPLE", ACCEPT),
        (["bob@münchen.example"], "bob@münchen\u3002example", ACCEPT),
        (["bob@münchen.example"], "bob@munchen.example", REFUSE),
        (["bob@fass.example"], "bob@faß.example", REFUSE),
        (["bob@faß.example"], "bob@fass.example", REFUSE),
        (["bob@faß.example"], "bob@xn--fa-hia.example", ACCEPT),
        (["bob@a_b.example"], "bob@A_b.example", ACCEPT),
        (["bob@a_ü.example"], "bob@A_ü.example", ACCEPT),
        (["bob@💩.example"], "bob@💩.example", ACCEPT),
        (["bob@xn--ls8h.example"], "bob@💩.example", REFUSE),
        (["bob@[192.0.2.1]"], "bob@[192.0.2.1]", ACCEPT),
        (["bob@" + "a" * 70 + ".example"], "bob@" + "A" * 70 + ".example", ACCEPT),
        # An expression sees the address as it was sent, then with its A-labels:
        (["regexp:.*@münchen\\.example"], "bob@münchen.example", ACCEPT),
        (["regexp:.*@xn--mnchen-3ya\\.example"], "bob@münchen.example", ACCEPT),
        (["regexp:.*@xn--mnchen-3ya\\.example"], "bøb@MÜNCHEN.example", ACCEPT),
        (["regexp:Bob@xn--.*"], "bob@münchen.example", REFUSE),
        (["regexp:.*@münchen\\.example"], "bob@MÜNCHEN.example", REFUSE),
        (["regexp:.*@fass\\.example"], "bob@faß.example", REFUSE),
        (["regexp:.*@xn--.*"], "bob@💩.example", REFUSE),
    ],
)
def test_to(values: Any, recipient: str, expected: Decision) -> None:
    assert at_rcpt(whitelist(to=values), recipient) is expected


@pytest.mark.parametrize(
    ("values", "ip", "expected"),
    [
        ("regexp:.*", "192.0.2.1", ACCEPT),
        (["regexp:192\\.0\\.2\\..*"], "192.0.2.77", ACCEPT),
        (["regexp:192\\.0\\.2"], "192.0.2.77", REFUSE),
        (["127.0.0.1", "::1"], "::1", ACCEPT),
        (["2001:DB8:0:0::0007"], "2001:db8::7", ACCEPT),
        (["::ffff:127.0.0.1"], "127.0.0.1", ACCEPT),
        (["::FFFF:7f00:1"], "127.0.0.1", ACCEPT),
        (["127.0.0.1"], "127.0.0.11", REFUSE),
        ([], "127.0.0.1", REFUSE),
    ],
)
def test_ips(values: Any, ip: str, expected: Decision) -> None:
    assert at_connect(whitelist(ips=values), ip) is expected


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        ("Mail.Example.com.", "mail.example.com", ACCEPT),
        ("example.com", "mail.example.com", REFUSE),
        ("regexp:.*\\.example\\.com", "mail.example.com", ACCEPT),
        ("regexp:.*\\.example\\.com", "mail.example.com.evil.example", REFUSE),
        ("regexp:.*\\.example\\.com", "[192.0.2.1]", REFUSE),
        ("Mail.MÜNCHEN.example", "mail.xn--mnchen-3ya.example", ACCEPT),
        ("mail.faß.example", "mail.fass.example", REFUSE),
        ("\u212a.example", "k.example", ACCEPT),  # in a domain it is another way to write k
        ("a_b.example.com", "a_b.example.com", ACCEPT),
        ("[192.0.2.1]", "[192.0.2.1]", ACCEPT),
        ([], "mail.example.com", REFUSE),
    ],
)
def test_domains(values: Any, name: str, expected: Decision) -> None:
    assert at_connect(whitelist(domains=values), "192.0.2.1", name) is expected


@pytest.mark.parametrize(
    ("values", "ip", "expected"),
    [
        ("192.0.2.0/24", "192.0.2.255", ACCEPT),
        ("192.0.2.0/24", "192.0.3.0", REFUSE),
        ("192.0.2.9/24", "192.0.2.1", ACCEPT),
        ("192.0.2.1", "192.0.2.1", ACCEPT),
        ("192.0.2.1", "192.0.2.2", REFUSE),
        ("0.0.0.0/0", "192.0.2.1", ACCEPT),
        ("0.0.0.0/0", "2001:db8::1", REFUSE),
        ("::/0", "192.0.2.1", REFUSE),
        ("2001:db8::/32", "2001:db8:ffff::1", ACCEPT),
        ("2001:db8::/32", "2001:db9::1", REFUSE),
        ("::ffff:10.0.0.0/104", "10.255.0.1", ACCEPT),
        ("::ffff:10.0.0.1", "10.0.0.1", ACCEPT),
        ([], "192.0.2.1", REFUSE),
        ("0.0.0.0/0", "", REFUSE),
    ],
)
def test_subnets(values: Any, ip: str, expected: Decision) -> None:
    assert at_connect(whitelist(subnets=values), ip) is expected


NETWORKS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).flatmap(
    lambda one: st.integers(0, one.max_prefixlen).map(
        lambda bits: ipaddress.ip_network(f"{one}/{bits}", strict=False)
    )
)


@given(st.lists(NETWORKS, max_size=8), st.ip_addresses(), st.data())
def test_networks_agree_with_the_standard_library(
    networks: list[Any], address: Any, data: st.DataObject
) -> None:
    probes = [address, *(data.draw(st.ip_addresses(network=one)) for one in networks)]
    ours = Networks(networks)
    for probe in probes:
        assert (probe in ours) == any(probe in one for one in networks)


def test_clients_fields_are_alternatives_of_each_other() -> None:
    one = whitelist(ips="192.0.2.1", domains="mail.example.com", subnets="10.0.0.0/8")
    assert at_connect(one, "192.0.2.1") is ACCEPT
    assert at_connect(one, "198.51.100.1", "mail.example.com") is ACCEPT
    assert at_connect(one, "10.1.2.3") is ACCEPT
    assert at_connect(one, "198.51.100.1", "other.example.com") is REFUSE


# -- in a flow -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "sender", "recipient", "codes"),
    [
        ("AND", "good@a.example", "box@b.example", [250, 250, 250]),
        ("AND", "bad@a.example", "box@b.example", [250, 550]),
        ("AND", "good@a.example", "other@b.example", [250, 250, 550]),
        ("OR", "bad@a.example", "box@b.example", [250, 250, 250]),
        ("OR", "good@a.example", "other@b.example", [250, 250, 250]),
        ("OR", "bad@a.example", "other@b.example", [250, 250, 550]),
    ],
)
async def test_all_fields_count_in_and_any_of_them_in_or(
    operator: Any, sender: str, recipient: str, codes: list[int]
) -> None:
    one = whitelist(**{"from": "good@a.example", "to": "box@b.example"})
    talk = Dialogue(Flows([Flow("in", (one,), operator)], auth_optional=True))
    found = [await talk.connect(), await talk.mail(sender)]
    if found[-1] == 250:
        found.append(await talk.rcpt(recipient))
    assert found == codes


async def test_a_client_that_is_not_listed_is_refused_at_connect() -> None:
    flows = Flows([Flow("in", (whitelist(ips="127.0.0.1"),))], auth_optional=True)
    assert await Dialogue(flows).connect() == 554


async def test_a_whitelist_that_lists_nothing_accepts_nothing() -> None:
    flows = Flows([Flow("in", (whitelist(),))], auth_optional=True)
    assert await Dialogue(flows).connect() == 554


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        ({"from": ["a@b.example", "regexp:(?!x)"]}, ("from", 1), "lookahead is not supported"),
        ({"to": "regexp:["}, ("to", 0), "not a regular expression"),
        ({"ips": ["10.0.0.0/8"]}, ("ips", 0), "is not an IP address (networks go in subnets"),
        ({"ips": ["localhost"]}, ("ips", 0), "names in domains"),
        ({"subnets": ["10.0.0.0/33"]}, ("subnets", 0), "is not a subnet"),
        ({"subnets": ["regexp:.*"]}, ("subnets", 0), "is not a subnet"),
        ({"domains": [3]}, ("domains", 0), "string"),
        ({"to": {"a": 1}}, ("to",), "tuple"),
        ({"From": "a"}, ("From",), "Extra inputs"),
        ({"from_": "a"}, ("from_",), "Extra inputs"),
    ],
)
def test_mistakes_name_their_place(
    fields: dict[str, Any], place: tuple[str | int, ...], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        options(**fields)
    (error,) = caught.value.errors()
    assert error["loc"] == place
    assert message in error["msg"]


def test_subnets_of_mapped_addresses_are_ipv4() -> None:
    assert subnet("::ffff:0:0/96") == ipaddress.ip_network("0.0.0.0/0")
    assert subnet("::/0") == ipaddress.ip_network("::/0")


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"ips": ["192.0.2.1"]}, True),
        ({"subnets": ["192.0.2.0/24"], "from": ["a@b.example"]}, True),
        ({"ips": ["192.0.2.1"], "domains": ["client.example"]}, False),
    ],
)
def test_the_answer_at_connect_depends_on_the_address_alone_unless_names_are_listed(
    fields: dict[str, Any], same: bool
) -> None:
    assert whitelist(**fields).same_at_connect is same
