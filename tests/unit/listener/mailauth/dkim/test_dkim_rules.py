"""The rules of RFC 6376, 8301, 8463 and 8616 for signatures, one by one. tests/support/mails/signer.py
makes the signatures, right or wrong."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final

import dkim
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dkim.verify import MAX_SIGNATURES, KeyRules
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.results import Report, SignatureResult
from listener.mailauth.spf import Sender
from tests.support.mails.signer import ed25519_key, record, rsa_key, sign

NOW: Final = 1_750_000_000

MAIL: Final = (
    b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: hello\r\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n\r\nHi Bob,  \r\n\r\n see\tyou \r\n\r\n\r\n"
)
SENDER: Final = Sender("192.0.2.1", "client.example", "", "mx.example")
KEYS: Final = {"sel._domainkey.example.com": {"TXT": [record(rsa_key())]}}


async def report(mail: bytes, zone: Mapping[str, Any] = KEYS, rules: KeyRules | None = None) -> Report:
    checks = Checks(keys=rules or KeyRules())
    return await check(BytesSource(mail), SENDER, MemoryResolver(zone), checks, now=NOW)


async def judged(
    mail: bytes, zone: Mapping[str, Any] = KEYS, rules: KeyRules | None = None
) -> SignatureResult:
    return (await report(mail, zone, rules)).dkim[0]


def at(*records: Any, name: str = "sel._domainkey.example.com") -> dict[str, Any]:
    return {name: {"TXT": list(records)}}


# -- valid signatures -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "c", ["simple/simple", "simple", "relaxed", "simple/relaxed", "relaxed/simple", "relaxed/relaxed"]
)
async def test_canonicalizations(c: str) -> None:
    result = await judged(sign(MAIL, c=c))
    assert result.verdict == "pass", result
    assert result.canonicalization == (c if "/" in c else f"{c}/simple")


async def test_without_c_it_is_simple() -> None:
    assert (await judged(sign(MAIL, leave_out=["c"]))).verdict == "pass"


async def test_what_is_told_of_a_signature() -> None:
    result = await judged(sign(MAIL, i="ann@mail.example.com"))
    assert (result.domain, result.selector, result.identity) == ("example.com", "sel", "ann@mail.example.com")
    assert (result.algorithm, result.key_bits, len(result.signature)) == ("rsa-sha256", 2048, 8)
    assert (await judged(sign(MAIL))).identity == "@example.com"


async def test_ed25519() -> None:
    """RFC 8463 section 3."""
    zone = at(record(ed25519_key()))
    assert (await judged(sign(MAIL, ed25519_key()), zone)).verdict == "pass"
    changed = sign(MAIL, ed25519_key()).replace(b"hello", b"hullo")
    assert (await judged(changed, zone)).verdict == "fail"


async def test_dkimpy_signs_and_we_verify() -> None:
    pem = rsa_key().private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    for canonicalize in ((b"relaxed", b"relaxed"), (b"simple", b"simple")):
        mail = dkim.sign(MAIL, b"sel", b"example.com", pem, canonicalize=canonicalize) + MAIL
        found = await check(BytesSource(mail), SENDER, MemoryResolver(KEYS), Checks())
        assert found.dkim_verdict == "pass"


async def test_all_signatures_are_judged_the_best_counts() -> None:
    mail = sign(sign(sign(MAIL), s="none"), d="example.org")
    zone = KEYS | at(record(rsa_key(1024)), name="sel._domainkey.example.org")
    found = await report(mail, zone)
    assert [r.verdict for r in found.dkim] == ["fail", "permerror", "pass"]
    assert found.dkim_verdict == "pass"


async def test_signatures_beyond_the_cap_are_counted() -> None:
    mail = MAIL
    for _ in range(MAX_SIGNATURES + 3):
        mail = sign(mail)
    found = await report(mail)
    assert [r.verdict for r in found.dkim] == ["pass"] * MAX_SIGNATURES
    assert found.to_json()["dkim"]["ignored"] == 3


async def test_a_signature_may_sign_another_but_not_itself() -> None:
    """RFC 6376 section 3.5, h=."""
    headers = ("from", "dkim-signature")
    assert (await judged(sign(sign(MAIL), headers=headers))).verdict == "pass"
    assert (await judged(sign(MAIL, headers=(*headers, "dkim-signature")))).verdict == "pass"


async def test_fields_are_taken_from_the_bottom_up() -> None:
    """RFC 6376 section 5.4.2."""
    twice = b"X: one\r\nX: two\r\n" + MAIL
    signed = sign(twice, headers=("from", "x"))
    assert (await judged(signed)).verdict == "pass"
    assert (await judged(signed.replace(b"X: one", b"X: uno"))).verdict == "pass"
    assert (await judged(signed.replace(b"X: two", b"X: dos"))).verdict == "fail"


async def test_a_field_signed_as_absent_must_stay_absent() -> None:
    signed = sign(MAIL, headers=("from", "reply-to", "subject", "subject"))
    assert (await judged(signed)).verdict == "pass"
    assert (await judged(b"Reply-To: eve@example.org\r\n" + signed)).verdict == "fail"
    assert (await judged(b"Subject: other\r\n" + signed)).verdict == "fail"


async def test_names_in_h_in_any_case_and_folded() -> None:
    assert (await judged(sign(MAIL, headers=("FROM", "To"), h="FROM :\r\n\tTo"))).verdict == "pass"


async def test_unknown_tags_are_ignored() -> None:
    assert (await judged(sign(MAIL, z="From:x", r="y", zz="=?"))).verdict == "pass"


async def test_body_length() -> None:
    signed = sign(MAIL, l=len(b"Hi Bob,\r\n"))
    assert (await judged(signed)).verdict == "pass"
    longer = await judged(signed + b"buy this\r\n")
    assert (longer.verdict, longer.unsigned_octets) == ("pass", 26)


async def test_body_length_of_nothing() -> None:
    result = await judged(sign(MAIL, l=0))
    assert result.verdict == "pass"
    assert result.unsigned_octets > 0


async def test_eight_bit_fields_and_bodies() -> None:
    mail = MAIL.replace(b"hello", b"h\xe9llo \xff").replace(b"see", "séé \xff".encode("latin-1"))
    for c in ("simple/simple", "relaxed/relaxed"):
        assert (await judged(sign(mail, c=c))).verdict == "pass"


async def test_domains_in_utf8() -> None:
    """RFC 8616 section 5: U-labels in d= and s=, A-labels in the DNS."""
    zone = at(record(rsa_key()), name="sel._domainkey.xn--bcher-kva.example")
    result = await judged(sign(MAIL, d="bücher.example", i="ann@bücher.example"), zone)
    assert (result.verdict, result.domain) == ("pass", "xn--bcher-kva.example")


# -- signatures that dkimpy accepts -----------------------------------------------------------


async def test_rsa_sha1() -> None:
    """RFC 8301 section 3.1."""
    signed = sign(MAIL, hash_name="sha1")
    result = await judged(signed)
    assert (result.verdict, result.reason) == ("policy", "rsa-sha1 is not accepted")
    assert (await judged(signed, rules=KeyRules(reject_rsa_sha1=False))).verdict == "pass"


@pytest.mark.parametrize(("bits", "verdict"), [(1024, "pass"), (2048, "pass")])
async def test_key_sizes(bits: int, verdict: str) -> None:
    key = rsa_key(bits)
    assert (await judged(sign(MAIL, key), at(record(key)))).verdict == verdict
    strict = await judged(sign(MAIL, key), at(record(key)), KeyRules(min_bits=bits + 1))
    assert (strict.verdict, strict.reason) == ("policy", f"{bits}-bit key is too short")


async def test_from_must_be_signed() -> None:
    """RFC 6376 section 5.4."""
    result = await judged(sign(MAIL, headers=("to", "subject")))
    assert (result.verdict, result.reason) == ("neutral", "From is not signed")


async def test_a_second_from_field() -> None:
    """RFC 6376 section 8.15: the one on top would be shown."""
    signed = sign(MAIL)
    for forged in (
        b"From: boss@example.com\r\n" + signed,
        signed.replace(b"\r\n\r\n", b"\r\nFrom: e@x.example\r\n\r\n", 1),
    ):
        assert (await judged(forged)).verdict == "fail"
    twice = b"From: eve@example.org\r\n" + MAIL
    assert (await judged(sign(twice, headers=("from", "from")))).verdict == "pass"


async def test_body_length_beyond_the_body() -> None:
    """RFC 6376 section 3.5, l=."""
    signed = sign(MAIL, l=10_000)
    result = await judged(signed)
    assert (result.verdict, result.reason) == ("fail", "l= is more than the body has")


@pytest.mark.parametrize(
    ("tags", "verdict", "reason"),
    [
        ({"h": "sha1"}, "permerror", "the key forbids this hash algorithm"),
        ({"h": "sha1:sha512"}, "permerror", "the key forbids this hash algorithm"),
        ({"s": "tlsrpt"}, "permerror", "key not for email"),
        ({"v": "DKIM2"}, "permerror", "key record of another version"),
        ({"k": "ed25519"}, "permerror", "key cannot be read"),
        ({"p": ""}, "permerror", "key revoked"),
    ],
)
async def test_conditions_of_the_key(tags: dict[str, str], verdict: str, reason: str) -> None:
    result = await judged(sign(MAIL), at(record(rsa_key(), **tags)))
    assert (result.verdict, result.reason) == (verdict, reason)


async def test_key_of_another_kind() -> None:
    assert (await judged(sign(MAIL), at(record(ed25519_key())))).verdict == "permerror"
    assert (await judged(sign(MAIL, ed25519_key()), KEYS)).verdict == "permerror"


@pytest.mark.parametrize(
    ("tags", "verdict", "reason"),
    [
        ({"x": NOW - 301}, "fail", "signature expired"),
        ({"t": NOW - 900, "x": NOW - 299}, "pass", ""),
        ({"t": NOW, "x": NOW}, "neutral", "x= is not after t="),
        ({"t": NOW + 3600}, "policy", "signed in the future"),
        ({"t": NOW + 200}, "pass", ""),
        ({"x": 10**40}, "pass", ""),
    ],
)
async def test_times(tags: dict[str, int], verdict: str, reason: str) -> None:
    """RFC 6376 section 3.5, t= and x=; dkimpy gives ten hours."""
    result = await judged(sign(MAIL, **tags))
    assert (result.verdict, result.reason) == (verdict, reason)


@pytest.mark.parametrize("answer", ["SERVFAIL", "REFUSED", "TIMEOUT"])
async def test_dns_failures_are_temporary(answer: str) -> None:
    result = await judged(sign(MAIL), {"sel._domainkey.example.com": {"*": answer}})
    assert result.verdict == "temperror"
    assert (result.domain, result.selector) == ("example.com", "sel")


@pytest.mark.parametrize(
    "zone", [{}, {"sel._domainkey.example.com": {"A": ["192.0.2.1"]}}, at("v=spf1 -all")]
)
async def test_no_key(zone: dict[str, Any]) -> None:
    assert (await judged(sign(MAIL), zone)).verdict == "permerror"


# -- the rest of RFC 6376 -----------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["v", "a", "bh", "d", "h", "s"])
async def test_required_tags(tag: str) -> None:
    result = await judged(sign(MAIL, leave_out=[tag]))
    assert result.verdict == "neutral", result


@pytest.mark.parametrize(
    "tags",
    [
        {"v": "2"},
        {"v": "1.0"},
        {"a": "rsa-sha512"},
        {"a": "RSA-SHA256"},
        {"c": "loose"},
        {"c": "relaxed/simple/relaxed"},
        {"d": "exa mple.com"},
        {"d": "-example.com"},
        {"d": ""},
        {"s": "a b"},
        {"s": "x" * 64},
        {"q": "http"},
        {"i": "ann"},
        {"i": "ann@"},
        {"i": "@example.org"},
        {"i": "@notexample.com"},
        {"i": "@com"},
        {"l": "-1"},
        {"l": "x"},
        {"l": "9" * 77},
        {"t": "now"},
        {"x": "never"},
        {"bh": "*"},
        {"bh": ""},
        {"h": ""},
    ],
    ids=str,
)
async def test_malformed_tags(tags: dict[str, str]) -> None:
    tags = {"bh": base64.b64encode(hashlib.sha256(b"").digest()).decode()} | tags
    headers = tags.get("h", "from").split(":")
    shown = {name: value for name, value in tags.items() if name not in ("c", "l")}
    signed = sign(MAIL, headers=headers, **shown)
    if "c" in tags or "l" in tags:
        extra = "; ".join(f"{name}={value}" for name, value in tags.items() if name in ("c", "l"))
        old = b"c=relaxed/relaxed" if "c" in tags else b"v=1"
        signed = signed.replace(old, extra.encode() if "c" in tags else b"v=1; " + extra.encode(), 1)
    assert (await judged(signed)).verdict == "neutral"


async def test_several_query_methods() -> None:
    assert (await judged(sign(MAIL, q="x/y : dns/txt"))).verdict == "pass"


async def test_a_key_that_forbids_subdomains_in_i() -> None:
    """RFC 6376 section 3.6.1, t=s."""
    zone = at(record(rsa_key(), t="s"))
    assert (await judged(sign(MAIL, i="@mail.example.com"), zone)).verdict == "permerror"
    assert (await judged(sign(MAIL, i="ann@example.com"), zone)).verdict == "pass"


async def test_a_key_in_test() -> None:
    """RFC 6376 section 3.6.1, t=y: a failure is reported apart."""
    zone = at(record(rsa_key(), t="y"))
    assert (await judged(sign(MAIL), zone)).testing
    failed = await judged(sign(MAIL).replace(b"hello", b"hullo"), zone)
    assert (failed.verdict, failed.testing) == ("fail", True)


async def test_several_key_records() -> None:
    other = record(rsa_key(1024))
    good = record(rsa_key())
    assert (await judged(sign(MAIL), at("hello", other, good))).verdict == "pass"
    assert (await judged(sign(MAIL), at("hello", other))).verdict == "fail"
    assert (await judged(sign(MAIL), at(*["hello"] * 4, good))).verdict == "permerror"


@pytest.mark.parametrize("change", [(b"hello", b"hallo"), (b"Hi Bob", b"Hi Rob"), (b"To: bob", b"To: eve")])
async def test_changed_mails(change: tuple[bytes, bytes]) -> None:
    assert (await judged(sign(MAIL).replace(*change))).verdict == "fail"


async def test_a_malformed_header_carries_no_signature() -> None:
    """A line that is not a field ends the header for some readers, and they would show the next lines."""
    signed = sign(MAIL)
    forged = signed.replace(b"\r\n\r\n", b"\r\nDear Bob, send money\r\n\r\n", 1)
    assert (await judged(forged)).verdict == "policy"


async def test_no_signature() -> None:
    found = await report(MAIL)
    assert (found.dkim, found.dkim_verdict) == ((), "none")


@pytest.mark.parametrize("body", [b"", b"\r\n", b"\r\n\r\n"])
async def test_empty_bodies(body: bytes) -> None:
    head = MAIL.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    for c in ("simple/simple", "relaxed/relaxed"):
        assert (await judged(sign(head + body, c=c))).verdict == "pass"


async def test_a_mail_that_ends_in_its_header() -> None:
    head = MAIL.partition(b"\r\n\r\n")[0] + b"\r\n"
    signed = sign(head + b"\r\n", c="simple/simple").removesuffix(b"\r\n")
    assert (await judged(signed)).verdict == "pass"
