"""RFC 8617's rules for chains, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dkim.arc import MAX_INSTANCES
from listener.mailauth.dkim.verify import KeyRules
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.results import ArcResult
from listener.mailauth.spf import Sender
from tests.support.mails.signer import arc_set, ed25519_key, record, rsa_key

MAIL: Final = (
    b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: hello\r\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n\r\nHi Bob\r\n"
)
KEYS: Final = {"sel._domainkey.example.com": {"TXT": [record(rsa_key())]}}


async def judged(mail: bytes, zone: Mapping[str, Any] = KEYS, rules: KeyRules | None = None) -> ArcResult:
    checks = Checks(keys=rules or KeyRules())
    report = await check(
        BytesSource(mail), Sender("192.0.2.1", "h.example", "", "mx"), MemoryResolver(zone), checks
    )
    assert report.arc is not None
    return report.arc


def chained(count: int, mail: bytes = MAIL, **arguments: Any) -> bytes:
    for instance in range(1, count + 1):
        mail = arc_set(mail, instance, **arguments)
    return mail


@pytest.mark.parametrize("count", [1, 2, 3, 10])
async def test_sound_chains(count: int) -> None:
    result = await judged(chained(count))
    assert (result.verdict, result.instances, result.oldest_pass) == ("pass", count, 0), result
    assert (result.domain, result.selector) == ("example.com", "sel")


async def test_fifty_instances_and_one_more() -> None:
    """Section 4.2.1."""
    longest = chained(MAX_INSTANCES)
    assert (await judged(longest)).verdict == "pass"
    result = await judged(arc_set(longest, MAX_INSTANCES + 1))
    assert (result.verdict, result.reason) == ("fail", "too many instances")


async def test_a_change_on_the_way_shows_in_oldest_pass() -> None:
    """Section 5.2: only the newest message signature must verify."""
    changed = chained(2).replace(b"Subject: hello", b"Subject: [list] hello")
    assert (await judged(changed)).verdict == "fail"
    result = await judged(arc_set(changed, 3))
    assert (result.verdict, result.oldest_pass) == ("pass", 3)


async def test_a_changed_seal_or_results_field() -> None:
    for old, new in ((b"relay1.example", b"relay9.example"), (b"ARC-Seal: i=1;", b"ARC-Seal: i=1; x=1;")):
        assert old in chained(2)
        assert (await judged(chained(2).replace(old, new))).verdict == "fail"


@pytest.mark.parametrize("field", [b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results"])
async def test_incomplete_sets(field: bytes) -> None:
    mail = chained(2)
    start = mail.index(field)
    end = (
        mail.index(b"\r\nARC-", start) + 2
        if field != b"ARC-Authentication-Results"
        else mail.index(b"\r\n", start) + 2
    )
    assert (await judged(mail[:start] + mail[end:])).verdict == "fail"


async def test_instances_are_one_to_n() -> None:
    assert (await judged(arc_set(MAIL, 2, cv="none"))).verdict == "fail"
    assert (await judged(arc_set(chained(1), 3))).verdict == "fail"
    assert (await judged(arc_set(chained(1), 1))).verdict == "fail"


@pytest.mark.parametrize(
    ("instance", "cv"), [(1, "pass"), (1, "fail"), (2, "none"), (2, "fail"), (2, "Pass"), (2, "")]
)
async def test_chain_validation_status(instance: int, cv: str) -> None:
    mail = arc_set(chained(instance - 1), instance, seal={"cv": cv})
    assert (await judged(mail)).verdict == "fail"


@pytest.mark.parametrize(
    "tags",
    [{"h": "from"}, {"bh": "AAAA"}, {"i": "0"}, {"i": "1x"}, {"i": "01"}, {"a": "rsa-sha1"}, {"d": ""}],
)
async def test_malformed_seals(tags: dict[str, str]) -> None:
    assert (await judged(arc_set(MAIL, 1, seal=tags))).verdict == "fail"


async def test_message_signatures_do_not_sign_seals() -> None:
    """Section 4.1.2."""
    assert (await judged(arc_set(MAIL, 1, message={"h": "from:arc-seal"}))).verdict == "fail"


async def test_short_keys() -> None:
    zone = {"sel._domainkey.example.com": {"TXT": [record(rsa_key(1024))]}}
    mail = chained(1, key=rsa_key(1024))
    assert (await judged(mail, zone)).verdict == "pass"
    assert (await judged(mail, zone, KeyRules(min_bits=2048))).verdict == "fail"


async def test_ed25519() -> None:
    zone = {"sel._domainkey.example.com": {"TXT": [record(ed25519_key())]}}
    mail = chained(2, key=ed25519_key(), seal={"a": "ed25519-sha256"})
    assert (await judged(mail, zone)).verdict == "pass"


async def test_dns_failures_are_temporary() -> None:
    zone = {"sel._domainkey.example.com": {"*": "SERVFAIL"}}
    assert (await judged(chained(2), zone)).verdict == "temperror"
    # A fault that does not depend on the keys is not temporary.
    assert (await judged(chained(2).replace(b"Hi Bob", b"Hi Rob"), zone)).verdict == "fail"


@pytest.mark.parametrize("zone", [{}, {"sel._domainkey.example.com": {"TXT": ["hello"]}}])
async def test_without_a_key(zone: dict[str, Any]) -> None:
    assert (await judged(chained(1), zone)).verdict == "fail"


async def test_another_key() -> None:
    zone = {"sel._domainkey.example.com": {"TXT": [record(rsa_key(1024))]}}
    assert (await judged(chained(1), zone)).verdict == "fail"


async def test_no_chain() -> None:
    assert (await judged(MAIL)).verdict == "none"
