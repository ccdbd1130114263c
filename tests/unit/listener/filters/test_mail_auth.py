"""The `mail-auth` filter: options, decisions, header fields, results, log and metric."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import ValidationError

from functions.errors import ConfigError
from functions.ids import uuid7
from functions.message.envelope import Client, Envelope, FlowNotes, Recipient, from_json
from functions.message.event import cloudevent
from functions.message.event.cloudevent import AUTH_RESULTS
from functions.message.headers import HeaderEdits
from functions.message.mail import BytesContent, Mail
from functions.message.mime import read_parts
from listener.api.decision import Decision, Phase
from listener.api.filter import BuildContext
from listener.api.session import Session, Transaction
from listener.filters.mail_auth import MailAuthFilter
from listener.filters.registry import FILTERS, build_filter
from listener.intake.capture import Capture
from listener.mailauth.check import Checks
from listener.mailauth.dns.zone import MemoryResolver
from tests.support.mails.signer import record, rsa_key, sign
from tests.support.net import HOST
from tests.support.servers.dns_server import DnsServer

MAIL: Final = (
    b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: h\xe9llo\r\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n\r\nHi Bob\xff\r\n"
)
ZONE: Final[dict[str, Any]] = {
    "sel._domainkey.example.com": {"TXT": [record(rsa_key())]},
    "example.com": {"TXT": ["v=spf1 ip4:192.0.2.0/24 -all"]},
    "_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject"]},
}
ELSEWHERE: Final = "198.51.100.1"


def session(ip: str = "192.0.2.1") -> Session:
    return Session("c0ffee", "smtp", ip, 4000, f"[{ip}]", "127.0.0.1:25", helo="mx.example.com")


def make(zone: dict[str, Any] | None = None, **options: Any) -> MailAuthFilter:
    parsed: Any = FILTERS.parse({"type": "mail-auth", **options})
    resolver = MemoryResolver(ZONE if zone is None else zone)
    made = MailAuthFilter("auth_0", parsed.checks(), frozenset(parsed.refuse), resolver)
    made.removals("mx.receiver.example")
    return made


@pytest.fixture
def take(tmp_path: Path) -> Callable[[bytes], Capture]:
    """The mail as the listener holds it: in memory, or in a file if it is large."""

    def capture(content: bytes) -> Capture:
        made = Capture(
            tmp_path, uuid7(), lambda head, rest: (b"", head), max_size=50_000_000, max_header=1_048_576
        )
        for at in range(0, len(content), 100_000):
            made.feed(content[at : at + 100_000])
        made.finish()
        return made

    return capture


async def ask(
    one: MailAuthFilter, mail: Capture, ip: str = "192.0.2.1", sender: str = "ann@example.com"
) -> Decision:
    answer = one.on_data(session(ip), Transaction(uuid7(), sender), mail, ("bob@example.net",))
    return answer if isinstance(answer, Decision) else await answer


# -- options --------------------------------------------------------------------------------------


def test_defaults() -> None:
    made: Any = FILTERS.parse({"type": "mail-auth"})
    assert made.checks() == Checks(arc=True, dmarc=True, bimi=True)
    assert made.refuse == ("dmarc-reject",)
    assert make().phases == {Phase.DATA}


def test_all_options() -> None:
    made: Any = FILTERS.parse(
        {
            "type": "mail-auth",
            "mailauth": {
                "minBitLength": 2048,
                "rejectRsaSha1": False,
                "disableArc": True,
                "disableDmarc": True,
                "disableBimi": False,
                "maxResolveCount": 5,
                "maxVoidCount": 0,
                "resolver": {"nameservers": ["192.0.2.53", "2001:DB8::0053"], "port": 5353, "timeout": 250},
            },
            "enforceDmarc": "v=DMARC1; p=reject; rua=mailto:a@b.example",
            "refuse": ["dmarc-quarantine", "spf-fail"],
        }
    )
    checks = made.checks(5.0)
    assert (checks.arc, checks.dmarc, checks.bimi) == (False, False, False)
    assert (checks.keys.min_bits, checks.keys.reject_rsa_sha1) == (2048, False)
    assert (checks.spf.lookups, checks.spf.voids) == (5, 0)
    assert checks.enforced is not None
    assert checks.enforced.policy == "reject"
    assert (checks.explain, checks.time_limit) == (True, 5.0)
    assert made.mailauth.resolver.nameservers == ("192.0.2.53", "2001:db8::53")


@pytest.mark.parametrize(
    "options",
    [
        {"enforceDmarc": "reject"},
        {"enforceDmarc": "v=DMARC1"},
        {"enforceDmarc": "v=DMARC1; p=refuse"},
        {"refuse": ["spf-softfail"]},
        {"mailauth": {"minBitLength": -1}},
        {"mailauth": {"maxResolveCount": 101}},
        {"mailauth": {"resolver": {"nameservers": ["ns.example.com"]}}},
        {"mailauth": {"resolver": {"timeout": 1}}},
        {"mailauth": {"minBits": 2048}},
    ],
    ids=str,
)
def test_mistakes(options: dict[str, Any]) -> None:
    with pytest.raises((ValidationError, ConfigError)):
        FILTERS.parse({"type": "mail-auth", **options})


# -- answers --------------------------------------------------------------------------------------


def test_a_small_mail_is_answered_at_once_when_the_dns_is_known(take: Any) -> None:
    one = make()
    mail = take(sign(MAIL))
    answer = one.on_data(session(), Transaction(uuid7(), "ann@example.com"), mail, ("bob@example.net",))
    assert isinstance(answer, Decision)
    assert answer.verdict == "accept"


# -- decisions ------------------------------------------------------------------------------------


async def test_a_good_mail(take: Any) -> None:
    decision = await ask(make(), take(sign(MAIL)))
    assert (decision.verdict, decision.reply, decision.recipients) == ("accept", None, None)
    results = decision.results
    assert results["spf"]["result"] == "pass"
    assert results["dkim"]["result"] == "pass"
    assert results["dmarc"] == {
        "result": "pass",
        "domain": "example.com",
        "policy": "reject",
        "policyDomain": "example.com",
        "organizationalDomain": "example.com",
        "alignment": {"spf": "strict", "dkim": "strict"},
    }
    assert results["arc"] == {"result": "none"}
    json.dumps(results)
    assert set(AUTH_RESULTS) <= set(results)


async def test_header_fields(take: Any) -> None:
    decision = await ask(make(), take(sign(MAIL)))
    (name, results), (spf_name, spf) = decision.headers
    assert (name, spf_name) == ("Authentication-Results", "Received-SPF")
    assert results.startswith("mx.receiver.example;\r\n\tspf=pass ")
    assert "dkim=pass (2048-bit key) header.d=example.com" in results
    assert "dmarc=pass (p=reject) header.from=example.com" in results
    assert spf.startswith("pass\r\n\t(mx.receiver.example: example.com designates")


async def test_fields_and_mail_keep_their_bytes(take: Any) -> None:
    """A flow delivers the relay's fields, then the mail byte for byte."""
    signed = sign(MAIL)
    decision = await ask(make(), take(signed))
    notes = FlowNotes(headers=decision.headers)
    fields = b"".join(f"{name}: {value}\r\n".encode() for name, value in notes.headers)
    assert fields.isascii()
    stored = fields + signed
    again = await ask(make(), take(stored))
    assert again.results["dkim"]["result"] == "pass"


async def test_results_reach_the_cloud_event(take: Any) -> None:
    signed = sign(MAIL)
    decision = await ask(make(), take(signed))
    envelope = Envelope(
        id=uuid7(),
        session="c0ffee",
        received=1_750_000_000_000,
        reverse_path="ann@example.com",
        recipients=(Recipient(address="bob@example.net", flows=("in",)),),
        client=Client(ip="192.0.2.1"),
        notes={"in": FlowNotes(headers=decision.headers, results=dict(decision.results))},
        size=len(signed),
        sha256="",
    )
    read = from_json(envelope.to_json())
    mail = Mail(read, BytesContent(signed))
    assert mail.raw("in").startswith(b"Authentication-Results: mx.receiver.example;\r\n\tspf=pass ")
    assert mail.raw("in").endswith(signed)
    event = json.loads(cloudevent.build(read, read_parts(mail, "in"), flow="in", max_bytes=1_048_576))
    verdicts = {method: found["result"] for method, found in event["data"]["auth"].items()}
    assert verdicts == {"spf": "pass", "dkim": "pass", "dmarc": "pass", "arc": "none"}


async def test_dmarc_rejects(take: Any) -> None:
    decision = await ask(make(), take(MAIL), ELSEWHERE)
    assert decision.verdict == "refuse"
    assert str(decision.reply) == "550 5.7.1 Email rejected per DMARC policy (p=reject) for example.com"
    assert decision.results["dmarc"]["result"] == "fail"


async def test_arc_does_not_override(take: Any) -> None:
    from tests.support.mails.signer import arc_set

    decision = await ask(make(), take(arc_set(MAIL, 1)), ELSEWHERE)
    assert decision.results["arc"]["result"] == "pass"
    assert decision.verdict == "refuse"


@pytest.mark.parametrize("broken", ["sel._domainkey.example.com", "_dmarc.example.com"])
async def test_dns_that_could_change_the_decision(take: Any, broken: str) -> None:
    zone = ZONE | {broken: {"*": "SERVFAIL"}}
    decision = await ask(make(zone), take(sign(MAIL)), ELSEWHERE)
    if broken.startswith("sel"):
        assert (decision.verdict, decision.reply and decision.reply[:2]) == ("defer", (451, "4.7.0"))
    else:  # the signature is the author domain's own: a pass under any policy
        assert decision.verdict == "accept"
        unsigned = await ask(make(zone), take(MAIL), ELSEWHERE)
        assert (unsigned.verdict, unsigned.reply and unsigned.reply[:2]) == ("defer", (451, "4.7.0"))


async def test_dns_that_could_not(take: Any) -> None:
    zone = ZONE | {"sel._domainkey.example.com": {"*": "SERVFAIL"}}
    assert (await ask(make(zone), take(sign(MAIL)))).verdict == "accept"  # SPF passes aligned
    zone["_dmarc.example.com"] = {"TXT": ["v=DMARC1; p=none"]}
    assert (await ask(make(zone), take(sign(MAIL)), ELSEWHERE)).verdict == "accept"
    zone = ZONE | {"example.com": {"*": "TIMEOUT"}}
    assert (await ask(make(zone), take(sign(MAIL)))).verdict == "accept"
    other = sign(MAIL, d="example.org")
    zone = ZONE | {"sel._domainkey.example.org": {"*": "SERVFAIL"}}
    assert (await ask(make(zone), take(other), ELSEWHERE)).verdict == "refuse"


async def test_enforced_policies(take: Any) -> None:
    zone = ZONE | {"_dmarc.example.com": {"TXT": ["v=DMARC1; p=none"]}}
    assert (await ask(make(zone), take(MAIL), ELSEWHERE)).verdict == "accept"
    enforcing = make(zone, enforceDmarc="v=DMARC1; p=reject;")
    decision = await ask(enforcing, take(MAIL), ELSEWHERE)
    assert decision.verdict == "refuse"
    assert decision.reply is not None
    assert "local DMARC policy" in decision.reply.text
    assert (await ask(enforcing, take(sign(MAIL)), ELSEWHERE)).verdict == "accept"


async def test_switched_off(take: Any) -> None:
    options = {"disableArc": True, "disableDmarc": True, "disableBimi": True}
    decision = await ask(make(mailauth=options), take(MAIL), ELSEWHERE)
    assert decision.verdict == "accept"
    assert set(decision.results) == {"spf", "dkim"}
    assert "dmarc=" not in decision.headers[0][1]


async def test_two_authors_one_of_them_protected(take: Any) -> None:
    zone = ZONE | {"_dmarc.eve.example": {"TXT": ["v=DMARC1; p=none"]}}
    for head in (
        b"From: eve@eve.example, ann@example.com\r\n",
        b"From: eve@eve.example\r\nFrom: ann@example.com\r\n",
    ):
        mail = head + MAIL.partition(b"\r\n")[2]
        decision = await ask(make(zone), take(mail), ELSEWHERE, "eve@eve.example")
        assert decision.verdict == "refuse"
        assert [r["domain"] for r in decision.results["dmarc"]["others"]] == ["eve.example"]
    many = b"From: " + b", ".join(b"a@d%d.example" % n for n in range(9)) + b"\r\n" + MAIL
    assert (await ask(make(zone), take(many), ELSEWHERE)).verdict == "refuse"


AUTHORLESS: Final = (
    b"",
    b"\r\n",
    b"\r\nbody",
    b"no header at all\r\n",
    b"Subject: x\r\n\r\nbody\r\n",
    b"From: nobody\r\n\r\n",
)


@pytest.mark.parametrize("mail", AUTHORLESS)
async def test_mails_without_an_author(take: Any, mail: bytes) -> None:
    decision = await ask(make(), take(mail))
    assert decision.verdict == "accept"
    assert decision.results["dmarc"]["result"] == "none"


async def test_large_mails(take: Any) -> None:
    mail = sign(MAIL + b"a line of some length  \t that is repeated \r\n" * 60_000)
    decision = await ask(make(), take(mail))
    assert decision.results["dkim"]["result"] == "pass"
    changed = mail[:-1000] + b"X" + mail[-999:]
    assert (await ask(make(), take(changed))).results["dkim"]["result"] == "fail"


# -- around it ----------------------------------------------------------------------------------------


def test_forged_fields_are_removed_at_intake() -> None:
    one = make()
    edits = HeaderEdits({}, one.removals("smtp.receiver.example"))
    head = (
        b"Authentication-Results: mx.receiver.example; dmarc=pass\r\n"
        b'AUTHENTICATION-RESULTS: (x)\r\n\t"MX.receiver.example" ; dmarc=pass\r\n'
        b"Authentication-Results: smtp.receiver.example; dmarc=pass\r\n"
        b"Authentication-Results: other.example; dmarc=pass\r\n"
        b"Received-SPF: pass (mx.receiver.example: x) receiver=mx.receiver.example\r\n"
        b"Received-SPF: pass receiver=other.example\r\n"
        b"From: ann@example.com\r\n"
    )
    kept = edits.kept(head)
    assert b"mx.receiver" not in kept.lower()
    assert b"smtp.receiver" not in kept.lower()
    assert kept.count(b"other.example") == 2


async def test_log_and_metric(take: Any, caplog: pytest.LogCaptureFixture) -> None:
    counted: list[tuple[str, str, str]] = []

    class Counter:
        def mail_auth(self, name: str, method: str, result: str) -> None:
            counted.append((name, method, result))

    one = make()
    one.observe(Counter())
    caplog.set_level(logging.INFO, "smtp_relay.mailauth")
    await ask(one, take(sign(MAIL)))
    assert counted == [
        ("auth_0", "spf", "pass"),
        ("auth_0", "dkim", "pass"),
        ("auth_0", "arc", "none"),
        ("auth_0", "dmarc", "pass"),
        ("auth_0", "bimi", "none"),
    ]
    (line,) = caplog.records
    found = vars(line)
    assert (found["session"], found["filter"], found["dmarc"]) == ("c0ffee", "auth_0", "pass")
    assert (found["spf_domain"], found["dkim_domains"], found["from_domain"]) == ("example.com",) * 3
    assert len(found["id"]) == 36


async def test_over_dns_as_built_from_the_configuration(take: Any, tmp_path: Path) -> None:
    with DnsServer(ZONE) as server:
        resolver = {"nameservers": [HOST], "port": server.port, "timeout": 1000}
        options = FILTERS.parse({"type": "mail-auth", "mailauth": {"resolver": resolver}})
        one = build_filter(options, "auth_0", BuildContext.of(tmp_path, {}, filter_timeout=10.0))
        assert isinstance(one, MailAuthFilter)
        await one.start()
        good = await ask(one, take(sign(MAIL)))
        assert (good.verdict, good.results["dmarc"]["result"]) == ("accept", "pass")
        assert (await ask(one, take(MAIL), ELSEWHERE)).verdict == "refuse"
        await one.stop()
        assert (await ask(one, take(sign(MAIL)))).verdict == "defer", "the server ends with mail in hand"


async def test_without_any_name_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.asyncresolver
    import dns.resolver

    def unconfigured(*_: Any, **__: Any) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.asyncresolver, "Resolver", unconfigured)
    one = build_filter(FILTERS.parse({"type": "mail-auth"}), "auth_0", BuildContext.of(tmp_path, {}))
    with pytest.raises(ConfigError, match="nameservers"):
        await one.start()
