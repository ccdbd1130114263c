"""How many questions the checks of one mail ask the DNS, and in which order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest

from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dns.client import DnsResolver
from listener.mailauth.results import Report
from listener.mailauth.spf import Sender
from listener.mailauth.verdict import decide
from tests.support.mails.hungry import hungry
from tests.support.mails.signer import arc_set, record, rsa_key, sign
from tests.support.net import HOST
from tests.support.servers.dns_server import DnsServer

MAIL: Final = (
    b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: hello\r\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n\r\nHi Bob\r\n"
)
ZONE: Final[dict[str, Any]] = {
    "sel._domainkey.example.com": {"TXT": [record(rsa_key())]},
    "example.com": {"TXT": ["v=spf1 ip4:192.0.2.0/24 -all"]},
    "_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject"]},
    "default._bimi.example.com": {"TXT": ["v=BIMI1; l=https://example.com/logo.svg"]},
}
BUDGET: Final = 60


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as running:
        yield running


@pytest.fixture
async def resolver(server: DnsServer) -> AsyncIterator[DnsResolver]:
    made = DnsResolver([HOST], server.port, timeout=0.3)
    yield made
    await made.close()


async def checked(
    resolver: DnsResolver, mail: bytes, reverse_path: str = "ann@example.com", **options: Any
) -> Report:
    sender = Sender("192.0.2.1", "mx.example.com", reverse_path, "mx.receiver.example")
    return await check(BytesSource(mail), sender, resolver, Checks(**options))


def chain(count: int, zone: dict[str, Any], **last: dict[str, str]) -> bytes:
    """A mail with ARC sets that hold, each with two keys of its own; `last` changes the newest one."""
    mail = sign(MAIL)
    for n in range(1, count + 1):
        selectors: dict[str, dict[str, str]] = {"seal": {"s": f"seal{n}"}, "message": {"s": f"message{n}"}}
        if n == count:
            selectors = {part: tags | last.get(part, {}) for part, tags in selectors.items()}
        mail = arc_set(mail, n, **selectors)
        for name in (f"seal{n}", f"message{n}"):
            zone[f"{name}._domainkey.example.com"] = ZONE["sel._domainkey.example.com"]
    return mail


def asked(server: DnsServer) -> list[str]:
    """Each name once, in the order of the first query for it."""
    return list(dict.fromkeys(name for name, _, _ in server.queries))


@pytest.mark.parametrize("silent", [True, False], ids=["that never answers", "that knows no such name"])
async def test_a_mail_asks_at_most_sixty_questions_of_a_server(
    server: DnsServer, resolver: DnsResolver, silent: bool
) -> None:
    server.silent = "hungry.example" if silent else None
    server.zone = ZONE | {
        "sender.hungry.example": {"TXT": [" ".join(["v=spf1", *(f"mx:m{n}.example" for n in range(9))])]},
        **{
            f"m{n}.example": {"MX": [f"10 m{n}x{host}.hungry.example" for host in range(10)]}
            for n in range(9)
        },
    }
    report = await checked(resolver, hungry("hungry.example"), "x@sender.hungry.example", time_limit=8.0)
    found = {(name, type_) for name, type_, _ in server.queries}
    assert 20 <= len(found) <= BUDGET
    assert report.dmarc


@pytest.mark.parametrize(("max_queries", "verdict"), [(BUDGET, "pass"), (30, "temperror")])
async def test_a_chain_that_holds_is_asked_for_within_the_rest_of_the_queries(
    server: DnsServer, resolver: DnsResolver, max_queries: int, verdict: str
) -> None:
    """Seals come first. Without a message signature's key nothing is said about where the mail changed."""
    zone = dict(ZONE)
    mail = chain(50, zone)
    server.zone = zone
    report = await checked(resolver, mail, max_queries=max_queries)
    assert len(server.queries) == max_queries
    assert report.arc is not None
    assert (report.arc.verdict, report.arc.instances, report.arc.oldest_pass) == (verdict, 50, None)
    assert (report.spf.verdict, report.dkim_verdict, report.dmarc[0].verdict) == ("pass", "pass", "pass")


async def test_the_number_of_queries_is_an_option(server: DnsServer, resolver: DnsResolver) -> None:
    zone = dict(ZONE)
    mail = chain(50, zone)
    server.zone = zone
    report = await checked(resolver, mail, max_queries=200)
    assert report.arc is not None
    assert (report.arc.verdict, report.arc.oldest_pass) == ("pass", 0)


@pytest.mark.parametrize("broken", ["seal", "message"])
async def test_older_arc_sets_are_not_asked_for_when_the_newest_one_does_not_hold(
    server: DnsServer, resolver: DnsResolver, broken: str
) -> None:
    zone = dict(ZONE)
    mail = chain(5, zone, **{broken: {"s": "missing"}})
    server.zone = zone
    report = await checked(resolver, mail)
    assert report.arc is not None
    assert report.arc.verdict == "fail"
    keys = [name for name in asked(server) if "_domainkey" in name and not name.startswith("sel.")]
    other = "message5" if broken == "seal" else "seal5"
    assert sorted(keys) == sorted([f"{other}._domainkey.example.com", "missing._domainkey.example.com"])


async def test_older_arc_sets_are_not_asked_for_while_the_newest_one_is_unknown(
    server: DnsServer, resolver: DnsResolver
) -> None:
    zone = dict(ZONE)
    mail = chain(5, zone)
    server.zone = zone | {"seal5._domainkey.example.com": {"TXT": "SERVFAIL"}}
    report = await checked(resolver, mail)
    assert report.arc is not None
    assert report.arc.verdict == "temperror"
    assert not [name for name in asked(server) if name.startswith(("seal4.", "message1."))]


async def test_spf_and_dmarc_are_asked_for_before_arc_and_bimi(
    server: DnsServer, resolver: DnsResolver
) -> None:
    zone = dict(ZONE)
    mail = chain(3, zone)
    server.zone = zone
    report = await checked(resolver, mail)
    assert report.arc is not None
    assert report.bimi is not None
    assert (report.arc.verdict, report.arc.oldest_pass, report.bimi.verdict) == ("pass", 0, "pass")
    informs = ["_bimi" in name or name.startswith(("seal", "message")) for name in asked(server)]
    assert informs == sorted(informs), asked(server)
    assert informs.count(False) == 4  # SPF, the key, and the policies of two names


async def test_silent_arc_keys_leave_spf_and_dmarc_their_verdicts(
    server: DnsServer, resolver: DnsResolver
) -> None:
    server.silent = "hungry.example"
    mail = sign(MAIL)
    mail = arc_set(mail, 1, seal={"d": "hungry.example"}, message={"d": "hungry.example"})
    report = await checked(resolver, mail, time_limit=1.0)
    assert report.arc is not None
    assert report.arc.verdict == "temperror"
    assert decide(report, ("dmarc-reject",)).verdict == "accept"


@pytest.mark.parametrize("max_queries", [10, 20, 60])
async def test_a_spoofed_mail_that_uses_all_queries_up_is_never_taken(
    server: DnsServer, resolver: DnsResolver, max_queries: int
) -> None:
    server.silent = "hungry.example"
    mail = hungry("hungry.example", author="ann@example.com")
    report = await checked(resolver, mail, "x@hungry.example", max_queries=max_queries, time_limit=5.0)
    assert decide(report, ("dmarc-reject",)).verdict != "accept"


async def test_an_aligned_signature_that_no_query_is_left_for_is_a_reason_to_wait(
    server: DnsServer, resolver: DnsResolver
) -> None:
    """A refusal would be wrong, because the signature may be good."""
    mail = sign(MAIL)
    for n in range(9):
        mail = sign(mail, d=f"d{n}.other.example")
    server.silent = "other.example"
    report = await checked(resolver, mail, "x@other.example", max_queries=10, time_limit=5.0)
    assert decide(report, ("dmarc-reject",)).verdict == "defer"


async def test_a_question_is_asked_once_for_a_mail_whatever_the_time_to_live(
    server: DnsServer, resolver: DnsResolver
) -> None:
    server.ttl = 0
    zone = dict(ZONE)
    server.zone = zone | {"_dmarc.example.com": {"TXT": "SERVFAIL"}}
    await checked(resolver, sign(chain(2, zone), d="a.example.com"))
    assert len(server.queries) == len(asked(server))
