"""SPF beyond the public suite: limits per check, temporary failures, hostile records."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import Any, Final

import pytest

from listener.mailauth import spf
from listener.mailauth.dns.resolver import DnsAnswer, Question
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.results import SpfResult
from listener.mailauth.spf import Sender, SpfLimits

SENDER: Final = Sender("192.0.2.1", "mx.example.com", "ann@example.com", "mx.receiver.example")


async def found(zone: dict[str, Any], sender: Sender = SENDER, **arguments: Any) -> SpfResult:
    return await spf.check(MemoryResolver(zone), sender, **arguments)


def txt(*records: str | list[str]) -> dict[str, Any]:
    return {"TXT": list(records)}


def chain(count: int, end: str = "ip4:192.0.2.1 -all") -> dict[str, Any]:
    """example.com includes a name, which includes a name …"""
    zone = {"example.com": txt("v=spf1 include:n1.example.com -all")}
    for number in range(1, count):
        zone[f"n{number}.example.com"] = txt(f"v=spf1 include:n{number + 1}.example.com -all")
    zone[f"n{count}.example.com"] = txt(f"v=spf1 {end}")
    return zone


# -- limits (RFC 7208 section 4.6.4) --------------------------------------------------------------


async def test_ten_lookups_and_one_more() -> None:
    assert (await found(chain(10))).verdict == "pass"
    result = await found(chain(11))
    assert (result.verdict, result.reason) == ("permerror", "more than 10 terms that need the DNS")


async def test_limits_belong_to_the_check() -> None:
    strict, lax = SpfLimits(lookups=3), SpfLimits(lookups=20)
    results = await asyncio.gather(
        found(chain(4), limits=strict), found(chain(15), limits=lax), found(chain(4)), found(chain(15))
    )
    assert [result.verdict for result in results] == ["permerror", "pass", "pass", "permerror"]


async def test_includes_too_deep() -> None:
    wide = SpfLimits(lookups=100)
    assert (await found(chain(20), limits=wide)).verdict == "pass"
    result = await found(chain(30), limits=wide)
    assert (result.verdict, result.reason) == ("permerror", "includes too deep")


async def test_void_lookups() -> None:
    zone = {"example.com": txt("v=spf1 a:a.example.com a:b.example.com a:c.example.com ip4:192.0.2.1 -all")}
    assert (await found(zone)).verdict == "permerror"
    assert (await found(zone, limits=SpfLimits(voids=3))).verdict == "pass"
    zone["c.example.com"] = {"A": ["198.51.100.1"]}
    assert (await found(zone)).verdict == "pass"


async def test_the_limits_of_pyspf_itself_are_left_alone() -> None:
    await found(chain(4), limits=SpfLimits(lookups=3))
    assert (spf.pyspf.MAX_LOOKUP, spf.pyspf.MAX_VOID_LOOKUPS) == (10, 2)


async def test_mx_records() -> None:
    def zone(count: int) -> dict[str, Any]:
        hosts = {f"mx{n}.example.com": {"A": [f"198.51.100.{n}"]} for n in range(count - 1)}
        last = {f"mx{count - 1}.example.com": {"A": ["192.0.2.1"]}}
        mx = {"MX": [[n, f"mx{n}.example.com"] for n in range(count)], "TXT": ["v=spf1 mx -all"]}
        return {"example.com": mx} | hosts | last

    assert (await found(zone(10))).verdict == "pass"
    assert (await found(zone(11))).verdict == "permerror"


async def test_ptr_errors_are_no_match() -> None:
    """Section 5.5."""
    zone: dict[str, Any] = {
        "example.com": txt("v=spf1 ptr -all"),
        "1.2.0.192.in-addr.arpa": {"*": "SERVFAIL"},
    }
    assert (await found(zone)).verdict == "fail"
    zone["1.2.0.192.in-addr.arpa"] = {"PTR": ["broken.example.com", "mx.example.com"]}
    zone["broken.example.com"] = {"*": "TIMEOUT"}
    zone["mx.example.com"] = {"A": ["192.0.2.1"]}
    assert (await found(zone)).verdict == "pass"


# -- temporary failures -----------------------------------------------------------------------------


@pytest.mark.parametrize("behaviour", ["SERVFAIL", "REFUSED", "TIMEOUT"])
async def test_failures_are_temporary_wherever_they_happen(behaviour: str) -> None:
    broken = {"broken.example.com": {"*": behaviour}}
    for record in ("include:broken.example.com", "a:broken.example.com", "mx:broken.example.com",
                   "exists:broken.example.com", "redirect=broken.example.com"):  # fmt: skip
        zone = {"example.com": txt(f"v=spf1 {record}")} | broken
        assert (await found(zone)).verdict == "temperror", record
    assert (await found({"example.com": {"*": behaviour}})).verdict == "temperror"
    # Earlier decisions stay.
    zone = {"example.com": txt("v=spf1 ip4:192.0.2.1 a:broken.example.com -all")} | broken
    assert (await found(zone)).verdict == "pass"


async def test_a_server_that_never_answers() -> None:
    class Silent:
        def known(self, question: Question) -> DnsAnswer | None:
            return None

        async def resolve(self, question: Question) -> DnsAnswer:
            await asyncio.sleep(3600)
            raise AssertionError

    started = time.monotonic()
    result = await spf.check(Silent(), SENDER, time_limit=0.1)
    assert (result.verdict, result.reason) == ("temperror", "DNS: no time left")
    assert time.monotonic() - started < 2


async def test_a_fault_of_the_check_is_temporary(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise IndexError

    monkeypatch.setattr(spf._Evaluation, "check0", broken)
    result = await found({"example.com": txt("v=spf1 -all")})
    assert (result.verdict, result.reason) == ("temperror", "evaluation failed")


# -- identities (sections 2.3, 2.4 and 4.3) ------------------------------------------------------------


@pytest.mark.parametrize(
    ("reverse_path", "helo", "domain", "identity"),
    [
        ("ann@Example.COM", "x", "example.com", "mailfrom"),
        ("@example.com", "x", "example.com", "mailfrom"),
        ("a@b@example.com", "x", "example.com", "mailfrom"),
        ("", "example.com", "example.com", "helo"),
        ("ann@example.com.", "x", "example.com", "mailfrom"),
    ],
)
async def test_identities(reverse_path: str, helo: str, domain: str, identity: str) -> None:
    zone = {"example.com": txt("v=spf1 ip4:192.0.2.1 -all")}
    result = await found(zone, Sender("192.0.2.1", helo, reverse_path, "mx"))
    assert (result.verdict, result.domain, result.identity) == ("pass", domain, identity)


@pytest.mark.parametrize(
    ("reverse_path", "helo"),
    [
        ("", "[192.0.2.1]"),
        ("", "localhost"),
        ("", ""),
        ("ann@[192.0.2.1]", "example.com"),
        ("ann@localhost", "example.com"),
        ("ann", "example.com"),
        ("ann@", "example.com"),
        (f"{'a' * 300}@example.com", "example.com"),
    ],
)
async def test_nothing_to_check(reverse_path: str, helo: str) -> None:
    zone = {"example.com": txt("v=spf1 -all")}
    result = await found(zone, Sender("192.0.2.1", helo, reverse_path, "mx"))
    assert (result.verdict, result.domain) == ("none", "")


async def test_internationalized_addresses() -> None:
    """RFC 8616 section 4: A-labels are asked for; a local part that is not ASCII matches no macro."""
    zone = {
        "xn--bcher-kva.example": txt("v=spf1 ip4:192.0.2.1 -all"),
        "example.com": txt("v=spf1 exists:%{l}.example.com ?all"),
    }
    assert (await found(zone, Sender("192.0.2.1", "x", "jörg@bücher.example", "mx"))).verdict == "pass"
    assert (await found(zone, Sender("192.0.2.1", "x", "jörg@example.com", "mx"))).verdict == "neutral"


@pytest.mark.parametrize("ip", ["2001:db8::1", "fe80::1%eth0"])
async def test_ipv6(ip: str) -> None:
    zone = {"example.com": txt("v=spf1 ip6:2001:db8::/32 ip6:fe80::/10 -all")}
    assert (await found(zone, Sender(ip, "x", "ann@example.com", "mx"))).verdict == "pass"


# -- hostile records ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "verdict"),
    [
        ("v=spf1 " + " ".join(f"include:n{n}.example.com" for n in range(100)), "permerror"),
        ("v=spf1 " + "ip4:192.0.2.9 " * 500 + "ip4:192.0.2.1", "pass"),
        ("v=spf1 " + "ip4:192.0.2.9 " * 1000, "permerror"),
        ("v=spf1 " + "a:%{l}%{l}%{l}%{l}%{l}%{l}.example.com " * 100, "permerror"),
        ("v=spf1 exists:" + "%{sr-}" * 80 + ".example.com -all", "fail"),
        ("v=spf1 exists:" + "%{d}." * 60 + "example.com -all", "fail"),
        ("v=spf1 a:" + ".aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 10 + "!", "permerror"),
        ("v=spf1 a:." + "a" * 400 + "!", "permerror"),
        ("v=spf1 a:." + "a-" * 200 + "!", "permerror"),
        ("v=spf1 " + "a" * 9000, "permerror"),
        ("v=spf1 ip4:192.0.2.0/" + "9" * 400, "permerror"),
        ("v=spf1 a:%{d" + "9" * 400 + "}", "permerror"),
        ("v=spf1 " + "=" * 400, "permerror"),
        ("v=spf1 " + "x=%{" * 90, "permerror"),
        ("v=spf1 redirect=example.com", "permerror"),
        ("v=spf1 include:example.com", "permerror"),
        ("v=spf1 exp=%{" + "x" * 300, "permerror"),
        ("v=spf1 ip4:192.0.2.1\r\nX: y", "permerror"),
        ("v=spf1 \x00", "permerror"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_hostile_records(record: str, verdict: str) -> None:
    sender = Sender("192.0.2.1", "h" * 500, "a.b-c.d" * 8 + "@example.com", "mx")
    started = time.process_time()
    result = await found({"example.com": txt(record)}, sender)
    assert result.verdict == verdict, result
    assert time.process_time() - started < 0.05


async def test_many_long_includes_hold_the_loop_for_little_time() -> None:
    filler = "a:" + ".".join(["a" * 60] * 3) + ".%{d} "
    zone = chain(10, end="-all")
    for types in zone.values():
        record = types["TXT"][0].removesuffix("-all")
        types["TXT"] = [record + "ip4:192.0.2.9 " * 40 + filler * 8 + "-all"]
    started = time.process_time()
    await found(zone)
    assert time.process_time() - started < 0.05


async def test_a_txt_record_of_64_kb() -> None:
    assert (await found({"example.com": txt("v=spf1 " + "x" * 65_000)})).verdict == "permerror"
    assert (await found({"example.com": txt(*["x" * 255] * 250, "v=spf1 -all")})).verdict in ("none", "fail")


async def test_alias_loops() -> None:
    zone: dict[str, Any] = {
        "example.com": {"CNAME": ["a.example.com"]},
        "a.example.com": {"CNAME": ["example.com"]},
    }
    assert (await found(zone)).verdict == "temperror"


async def test_long_names_lose_labels_on_the_left() -> None:
    """Section 7.3."""
    label = "a" * 60
    zone = {
        "example.com": txt("v=spf1 exists:" + "%{l}." * 7 + "example.com -all"),
        ".".join([label] * 3 + ["example.com"]): {"A": ["127.0.0.2"]},
    }
    assert (await found(zone, Sender("192.0.2.1", "x", f"{label}@example.com", "mx"))).verdict == "pass"


async def test_explanations() -> None:
    """Section 6.2: fetched after a failure only, never at the cost of the result."""
    zone: dict[str, Any] = {
        "example.com": txt("v=spf1 exp=why.example.com -all"),
        "why.example.com": txt("No, %{i}\x07"),
    }
    assert (await found(zone)).explanation == ""
    assert (await found(zone, explain=True)).explanation == "No, 192.0.2.1"
    for broken in ({"*": "TIMEOUT"}, txt("%{x}"), txt("a", "b"), txt("ä"), txt("%" * 5000)):
        result = await found(zone | {"why.example.com": broken}, explain=True)
        assert (result.verdict, result.explanation) == ("fail", "SPF fail - not authorized")
    asked = MemoryResolver(zone | {"example.com": txt("v=spf1 ip4:192.0.2.1 exp=why.example.com -all")})
    await spf.check(asked, SENDER, explain=True)
    assert Question("why.example.com", "TXT") not in asked._made


# -- verdicts that are kept -----------------------------------------------------------------------


async def test_a_kept_verdict_ends_with_the_answers_that_it_follows_from() -> None:
    """Two name servers that disagree take turns, as a record that is changed does."""
    passing = MemoryResolver({"example.com": txt("v=spf1 ip4:192.0.2.1 -all")})
    failing = MemoryResolver({"example.com": txt("v=spf1 -all")})
    verdicts = [(await spf.check(each, SENDER)).verdict for each in (passing, failing) * 3]
    assert verdicts == ["pass", "fail"] * 3


async def test_a_kept_verdict_belongs_to_a_client_and_its_limits() -> None:
    dns = MemoryResolver(chain(4, "ip4:192.0.2.1 -all"))
    other = replace(SENDER, ip="192.0.2.2")
    strict = SpfLimits(lookups=3)
    for _ in range(2):
        assert (await spf.check(dns, SENDER)).verdict == "pass"
        assert (await spf.check(dns, SENDER, limits=strict)).verdict == "permerror"
        assert (await spf.check(dns, other)).verdict == "fail"


async def test_a_kept_verdict_names_the_sender_of_the_mail() -> None:
    dns = MemoryResolver({"example.com": txt("v=spf1 ip4:192.0.2.1 -all")})
    first = await spf.check(dns, SENDER)
    bob = replace(SENDER, helo="mx2.example.com", reverse_path="bob@EXAMPLE.com")
    null = replace(SENDER, helo="example.com", reverse_path="")
    assert await spf.check(dns, bob) == replace(first, helo="mx2.example.com", sender="bob@EXAMPLE.com")
    assert await spf.check(dns, null) == replace(first, helo="example.com", sender="", identity="helo")


@pytest.mark.parametrize("explain", [True, False])
async def test_verdicts_of_records_with_macros_are_each_senders_own(explain: bool) -> None:
    dns = MemoryResolver(
        {
            "example.com": txt("v=spf1 exists:%{l}.%{h}.example.com exp=e.example.com -all"),
            "ann.mx.example.com.example.com": {"A": ["127.0.0.2"]},
            "e.example.com": txt("%{s} is not Ann"),
        }
    )
    for _ in range(2):
        ann = await spf.check(dns, SENDER, explain=explain)
        bob = await spf.check(dns, replace(SENDER, reverse_path="bob@example.com"), explain=explain)
        elsewhere = await spf.check(dns, replace(SENDER, helo="a.example"), explain=explain)
        assert (ann.verdict, bob.verdict, elsewhere.verdict) == ("pass", "fail", "fail")
        assert bob.explanation == ("bob@example.com is not Ann" if explain else "")
