"""DMARC by RFC 9989: walks, policies, alignment, and missing answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pytest

from listener.mailauth import policy
from listener.mailauth.dmarc import Identifiers, by_severity, evaluate, walk, walk_names
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.results import DmarcResult

REJECT: Final = "v=DMARC1; p=reject"
NONE: Final = "v=DMARC1; p=none"


def zone(records: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """`_dmarc` records by domain; a behaviour may replace a record."""
    behaviours = ("SERVFAIL", "TIMEOUT", "NXDOMAIN")
    found: dict[str, Any] = {
        f"_dmarc.{domain}": {"*": text} if text in behaviours else {"TXT": [text]}
        for domain, text in records.items()
    }
    return found | more


async def result(
    records: Mapping[str, str],
    author: str,
    identifiers: Identifiers | None = None,
    enforced: str | None = None,
    **more: Any,
) -> DmarcResult:
    resolver = MemoryResolver(zone(records, **more))
    record = policy.parse(enforced.encode()) if enforced else None
    return await evaluate(
        resolver, await walk(resolver, author), identifiers or Identifiers(), enforced=record
    )


# -- the walk (section 4.10) --------------------------------------------------------------------


def test_names_asked_for() -> None:
    assert walk_names("example.com") == ["example.com", "com"]
    assert walk_names("com") == ["com"]
    long = "a.b.c.d.e.f.g.h.i.j.mail.example.com"
    assert walk_names(long) == [
        long,
        "g.h.i.j.mail.example.com",
        "h.i.j.mail.example.com",
        "i.j.mail.example.com",
        "j.mail.example.com",
        "mail.example.com",
        "example.com",
        "com",
    ]
    assert len(walk_names("a.b.c.d.e.f.example.com")) == 8
    assert len(walk_names(".".join("a" * 100))) == 8


@pytest.mark.parametrize(
    ("records", "domain", "organizational"),
    [
        # The examples of section 4.10.2
        ({"mail.example.com": REJECT, "example.com": REJECT}, "a.mail.example.com", "example.com"),
        (
            {"mail.example.com": REJECT + "; psd=n", "example.com": REJECT},
            "a.mail.example.com",
            "mail.example.com",
        ),
        ({"com": REJECT + "; psd=y"}, "a.mail.example.com", "example.com"),
        # No record at all: each domain is its own
        ({}, "a.mail.example.com", "a.mail.example.com"),
        # A PSD at the start of the walk is its own Organizational Domain
        ({"example.com": REJECT + "; psd=y", "com": REJECT}, "example.com", "example.com"),
        # Several records at a name cancel each other out; others are none
        ({"example.com": "v=spf1 -all", "com": REJECT}, "a.example.com", "com"),
        ({"co.uk": REJECT + "; psd=y", "a.b.co.uk": REJECT}, "a.b.co.uk", "b.co.uk"),
    ],
)
async def test_organizational_domains(records: dict[str, str], domain: str, organizational: str) -> None:
    assert (await walk(MemoryResolver(zone(records)), domain)).organizational_domain == organizational


async def test_several_records_at_a_name() -> None:
    resolver = MemoryResolver({"_dmarc.example.com": {"TXT": [REJECT, "v=DMARC1; p=none"]}})
    found = await walk(resolver, "example.com")
    assert not found.records
    resolver = MemoryResolver({"_dmarc.example.com": {"TXT": [REJECT, "v=spf1 -all"]}})
    assert list((await walk(resolver, "example.com")).records) == ["example.com"]


async def test_a_walk_that_cannot_be_finished() -> None:
    found = await walk(MemoryResolver(zone({"example.com": REJECT, "com": "SERVFAIL"})), "a.example.com")
    assert (found.organizational_domain, found.failure) == (None, "SERVFAIL")
    # Above psd=n nothing matters any more.
    ended = {"example.com": REJECT + "; psd=n", "com": "SERVFAIL"}
    assert (await walk(MemoryResolver(zone(ended)), "a.example.com")).organizational_domain == "example.com"
    # Below it, something might have ended the walk earlier.
    below = {"a.example.com": "SERVFAIL", "example.com": REJECT + "; psd=n"}
    assert (await walk(MemoryResolver(zone(below)), "b.a.example.com")).organizational_domain is None


# -- which policy applies (section 4.10.1) ------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "author", "found", "at"),
    [
        ({"example.com": "v=DMARC1; p=reject; sp=none"}, "example.com", "reject", "example.com"),
        ({"example.com": "v=DMARC1; p=none; sp=reject"}, "a.example.com", "reject", "example.com"),
        ({"example.com": "v=DMARC1; p=quarantine"}, "a.b.example.com", "quarantine", "example.com"),
        # The author domain's own record comes first, its sp does not count for it.
        (
            {"a.example.com": "v=DMARC1; p=none; sp=reject", "example.com": REJECT},
            "a.example.com",
            "none",
            "a.example.com",
        ),
        # Between author domain and Organizational Domain nothing counts.
        (
            {"b.example.com": "v=DMARC1; p=none", "example.com": REJECT},
            "a.b.example.com",
            "reject",
            "example.com",
        ),
        # A Public Suffix Domain's policy applies to domains without one.
        ({"com": "v=DMARC1; p=none; sp=reject; psd=y"}, "a.example.com", "reject", "com"),
        (
            {"com": REJECT + "; psd=y", "example.com": "v=DMARC1; p=none"},
            "a.example.com",
            "none",
            "example.com",
        ),
        # Test mode takes one level off.
        ({"example.com": "v=DMARC1; p=reject; t=y"}, "example.com", "quarantine", "example.com"),
        ({"example.com": "v=DMARC1; p=none; sp=quarantine; t=y"}, "a.example.com", "none", "example.com"),
    ],
)
async def test_policies(records: dict[str, str], author: str, found: str, at: str) -> None:
    judged = await result(records, author, **{author: {"A": ["192.0.2.1"]}})
    assert (judged.verdict, judged.policy, judged.policy_domain) == ("fail", found, at)
    assert judged.worst == found


NP: Final = {"example.com": "v=DMARC1; p=none; sp=quarantine; np=reject"}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        ({}, "reject"),
        ({"a.example.com": {"*": "NXDOMAIN"}}, "reject"),
        ({"a.example.com": {"MX": [[10, "mx.example.com"]]}}, "quarantine"),
        ({"a.example.com": {"A": ["192.0.2.1"]}}, "quarantine"),
    ],
)
async def test_domains_that_do_not_exist(answer: dict[str, Any], found: str) -> None:
    """Section 3.2.13: NXDOMAIN, whatever the type."""
    assert (await result(NP, "a.example.com", **answer)).policy == found


async def test_existence_that_cannot_be_told() -> None:
    unsure = {"a.example.com": {"*": "SERVFAIL"}}
    judged = await result(NP, "a.example.com", **unsure)
    assert (judged.verdict, judged.policy, judged.worst) == ("temperror", None, "reject")
    same = await result({"example.com": "v=DMARC1; p=none; sp=reject; np=reject"}, "a.example.com", **unsure)
    assert (same.verdict, same.policy) == ("fail", "reject")
    aligned = await result(NP, "a.example.com", Identifiers(dkim=("example.com",)), **unsure)
    assert (aligned.verdict, aligned.worst) == ("pass", "none")


async def test_np_without_sp() -> None:
    records = {"example.com": "v=DMARC1; p=quarantine; np=reject"}
    assert (await result(records, "a.example.com")).policy == "reject"
    assert (await result(records, "example.com")).policy == "quarantine"


@pytest.mark.parametrize("text", ["v=DMARC1; p=refuse", "v=DMARC1"])
async def test_a_malformed_policy_is_none(text: str) -> None:
    judged = await result({"example.com": text, "com": REJECT}, "example.com")
    assert (judged.verdict, judged.worst) == ("none", "none")


async def test_no_policy() -> None:
    judged = await result({}, "example.com", Identifiers(dkim=("example.com",)))
    assert (judged.verdict, judged.policy) == ("none", None)


# -- alignment (sections 4.4 and 4.10.2) ---------------------------------------------------------

ORG: Final = {"example.com": REJECT}
STRICT: Final = {"example.com": REJECT + "; adkim=s; aspf=s"}


@pytest.mark.parametrize(
    ("records", "author", "identifier", "alignment"),
    [
        (ORG, "example.com", "example.com", "strict"),
        (ORG, "news.example.com", "foo.example.com", "relaxed"),
        (ORG, "example.com", "mail.example.com", "relaxed"),
        (ORG, "mail.example.com", "example.com", "relaxed"),
        (ORG, "example.com", "example.net", "none"),
        (ORG, "example.com", "badexample.com", "none"),
        (ORG, "example.com", "com", "none"),
        (STRICT, "example.com", "mail.example.com", "none"),
        (STRICT, "example.com", "example.com", "strict"),
        # An Organizational Domain of one's own, by psd=n
        (
            {"example.com": REJECT, "b.example.com": REJECT + "; psd=n"},
            "example.com",
            "b.example.com",
            "none",
        ),
        # Siblings below a Public Suffix Domain are strangers
        ({"com": REJECT + "; psd=y"}, "a.com", "b.com", "none"),
        ({"com": REJECT + "; psd=y"}, "x.a.com", "y.a.com", "relaxed"),
        # Without a record on the parent, parent and child are strangers (RFC 9989, unlike RFC 7489)
        ({"mail.example.com": REJECT}, "mail.example.com", "example.com", "none"),
    ],
)
async def test_alignment(records: dict[str, str], author: str, identifier: str, alignment: str) -> None:
    spf = await result(records, author, Identifiers(spf=(identifier,)))
    dkim = await result(records, author, Identifiers(dkim=("other.example", identifier)))
    assert (spf.spf, spf.dkim) == (alignment, "none")
    assert (dkim.spf, dkim.dkim) == ("none", alignment)
    for judged in (spf, dkim):
        assert judged.verdict == ("fail" if alignment == "none" else "pass")


async def test_strictness_is_per_method() -> None:
    records = {"example.com": REJECT + "; aspf=s"}
    both = Identifiers(spf=("mail.example.com",), dkim=("mail.example.com",))
    judged = await result(records, "example.com", both)
    assert (judged.verdict, judged.spf, judged.dkim) == ("pass", "none", "relaxed")


# -- missing DNS answers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("records", "identifiers", "verdict", "worst"),
    [
        # The policy is unknown: a pass of the same domain is aligned under any policy.
        ({"example.com": "SERVFAIL"}, Identifiers(), "temperror", "reject"),
        ({"example.com": "SERVFAIL"}, Identifiers(dkim=("example.com",)), "temperror", "none"),
        ({"example.com": "SERVFAIL"}, Identifiers(dkim=("a.example.com",)), "temperror", "reject"),
        # The policy is known and an identifier is not.
        (ORG, Identifiers(dkim_pending=("example.com",)), "temperror", "reject"),
        (ORG, Identifiers(spf_pending=("a.example.com",)), "temperror", "reject"),
        (ORG, Identifiers(dkim_pending=("example.net",)), "fail", "reject"),
        (ORG, Identifiers(dkim_pending=("example.com",), spf=("example.com",)), "pass", "none"),
        (
            {"example.com": "v=DMARC1; p=none"},
            Identifiers(dkim_pending=("example.com",)),
            "temperror",
            "none",
        ),
        (
            {"example.com": REJECT + "; adkim=s"},
            Identifiers(dkim_pending=("a.example.com",)),
            "fail",
            "reject",
        ),
        # The policy is known, the Organizational Domain is not.
        (ORG | {"com": "SERVFAIL"}, Identifiers(), "fail", "reject"),
        (ORG | {"com": "SERVFAIL"}, Identifiers(dkim=("a.example.com",)), "temperror", "reject"),
        (ORG | {"com": "SERVFAIL"}, Identifiers(dkim=("example.com",)), "pass", "none"),
        (ORG | {"com": "SERVFAIL"}, Identifiers(dkim=("example.net",)), "fail", "reject"),
        (ORG | {"a.example.com": "SERVFAIL"}, Identifiers(dkim=("a.example.com",)), "temperror", "reject"),
    ],
)
async def test_what_is_not_known(
    records: dict[str, str], identifiers: Identifiers, verdict: str, worst: str
) -> None:
    judged = await result(records, "example.com", identifiers)
    assert (judged.verdict, judged.worst) == (verdict, worst)


async def test_a_parent_that_cannot_be_asked() -> None:
    judged = await result({"example.com": "TIMEOUT"}, "a.example.com")
    assert (judged.verdict, judged.worst) == ("temperror", "reject")


# -- a configured policy -------------------------------------------------------------------------


async def test_an_enforced_policy() -> None:
    assert (await result({}, "example.com", enforced=REJECT)).verdict == "fail"
    judged = await result({"example.com": "v=DMARC1; p=none"}, "example.com", enforced=REJECT)
    assert (judged.policy, judged.policy_domain, judged.enforced) == ("reject", "", True)
    assert (await result({"example.com": "SERVFAIL"}, "example.com", enforced=REJECT)).verdict == "fail"


async def test_an_enforced_policy_leaves_the_walk_alone() -> None:
    """The Organizational Domain comes from real DNS."""
    signed = Identifiers(dkim=("example.com",))
    assert (await result(ORG, "a.example.com", signed, enforced=REJECT)).verdict == "pass"
    assert (await result({}, "a.example.com", signed, enforced=REJECT)).verdict == "fail"
    assert (await result(ORG, "a.example.com", signed, enforced=REJECT + "; adkim=s")).verdict == "fail"


def test_the_strictest_failure_decides() -> None:
    results = [
        DmarcResult("pass", "a.example"),
        DmarcResult("temperror", "b.example", worst="reject"),
        DmarcResult("fail", "c.example", "quarantine", worst="quarantine"),
        DmarcResult("fail", "d.example", "reject", worst="reject"),
    ]
    assert [r.domain for r in by_severity(results)] == ["d.example", "b.example", "c.example", "a.example"]
