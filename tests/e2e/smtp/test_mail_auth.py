"""mail-auth over real SMTP, with a real name server that serves each mail's zone."""

from __future__ import annotations

import json
import smtplib
import socket
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.support.mails.conformance import Case, Zone, cases, each
from tests.support.mails.signer import record, rsa_key, sign
from tests.support.mails.stored import strip_added_fields
from tests.support.net import HOST
from tests.support.servers.dns_server import DnsServer
from tests.support.servers.relay import Relay, flow

NAME: Final = "mx.receiver.example"

MAIL: Final = (
    b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: h\xe9llo\r\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n\r\nd\xe9j\xe0 vu\r\n.dot\r\n\xff\xfe\r\n"
)
ZONE: Final[Zone] = {
    "sel._domainkey.example.com": {"TXT": [record(rsa_key())]},
    "example.com": {"TXT": ["v=spf1 ip4:127.0.0.0/24 -all"]},
    "_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject"]},
}
ELSEWHERE: Final = "127.0.9.9"


@pytest.fixture(scope="module")
def server() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as running:
        yield running


@pytest.fixture
def checked(server: DnsServer, relay_for: Callable[..., Relay]) -> Relay:
    server.zone = ZONE
    return relay_for({"flows": {"in": flow(filter_of(server))}}, name=NAME)


def filter_of(server: DnsServer, **options: Any) -> dict[str, Any]:
    resolver = {"nameservers": [HOST], "port": server.port, "timeout": 2000}
    return {"type": "mail-auth", "mailauth": {"resolver": resolver}, **options}


def send(
    relay: Relay,
    mail: bytes,
    *,
    sender: str = "ann@example.com",
    ip: str = HOST,
    helo: str = "mx.example.com",
) -> str:
    """The reply to the mail, code and text."""
    with smtplib.SMTP(HOST, relay.port, helo, timeout=30, source_address=(ip, 0)) as client:
        client.ehlo()
        client.mail(sender, ["BODY=8BITMIME"] if any(octet > 127 for octet in mail) else ())
        client.rcpt("rcpt@receiver.example")
        code, text = client.data(mail)
    return f"{code} {text.decode()}"


def fields_and_mail(stored: bytes) -> tuple[str, bytes]:
    """The relay's Authentication-Results and Received-SPF, unfolded, and the mail below all the relay's
    fields."""
    assert stored.startswith(b"Authentication-Results: ")
    end = stored.index(b"\r\n", stored.index(b"\r\nReceived-SPF: ") + 2)
    while stored[end + 2 : end + 3] == b"\t":
        end = stored.index(b"\r\n", end + 2)
    ours = stored[: end + 2].decode("ascii").replace("\r\n\t", " ")
    return ours, strip_added_fields(stored[end + 2 :])


def test_all_recorded_cases_are_there() -> None:
    assert len(cases()) == 34


@each(("case",), ((case.name, (case,)) for case in cases()))
def test_recorded_case(case: Case, server: DnsServer, checked: Relay) -> None:
    server.zone = case.zone
    facts = case.facts
    reply = send(checked, case.message, sender=facts["mail_from"], ip=facts["ip"], helo=facts["helo"])
    assert case.right("decision", "accept" if reply.startswith("250 ") else "refuse"), reply
    if not reply.startswith("250 "):
        assert reply.startswith("550 5.7.1 "), reply
        assert "DMARC policy" in reply
        return
    (stored,) = checked.mails()
    ours, mail = fields_and_mail(stored)
    sent = case.message if case.message.endswith(b"\r\n") else case.message + b"\r\n"
    assert mail == sent
    found = {method: [] for method in ("spf", "dkim", "arc", "dmarc")}
    for part in ours.split("; "):
        method, _, verdict = part.split()[0].partition("=")
        if method in found:
            found[method].append(verdict)
    assert case.right("spf", found["spf"][0])
    assert any(case.right("dkim", verdict) for verdict in found["dkim"])
    assert case.right("arc", found["arc"][0])
    assert case.right("dmarc", found["dmarc"][0])


def test_our_fields_stand_on_top_and_the_mail_below_is_untouched(checked: Relay) -> None:
    signed = sign(MAIL)
    assert send(checked, signed).startswith("250 ")
    ours, mail = fields_and_mail(checked.mails()[0])
    assert mail == signed
    assert ours.startswith(f"Authentication-Results: {NAME}; spf=pass ")
    assert " smtp.mailfrom=ann@example.com; dkim=pass (2048-bit key) header.d=example.com" in ours
    assert "dmarc=pass (p=reject) header.from=example.com policy.dmarc=reject" in ours
    assert f"receiver={NAME}; identity=mailfrom" in ours


def test_forged_results_do_not_get_in(checked: Relay) -> None:
    forged = (
        b"Authentication-Results: mx.receiver.example; dmarc=pass header.from=bank.example\r\n"
        b'authentication-results:\r\n (c) "MX.Receiver.Example";\r\n dmarc=pass\r\n'
        b"Received-SPF: pass receiver=mx.receiver.example\r\n"
    )
    kept = b"Authentication-Results: other.example; dmarc=pass\r\n"
    signed = sign(MAIL)
    assert send(checked, forged + kept + signed).startswith("250 ")
    _, mail = fields_and_mail(checked.mails()[0])
    assert mail == kept + signed


@pytest.mark.parametrize(
    "forged",
    [
        "Authentication-Results: \u00a0mx.receiver.example; dmarc=pass\r\n".encode(),
        "Authentication-Results: mx.receiver\u200b.example; dmarc=pass\r\n".encode(),
        b"Authentication-Results: =?utf-8?q?mx.receiver.example?=; dmarc=pass\r\n",
        b"Authentication-Results: mx.rec\r\n eiver.example; dmarc=pass\r\n",
        b"Authentication-Results: mx.(c)receiver.example 1; dmarc=pass\r\n",
        b"Authentication-Results: \x0bMX.receiver.example; dmarc=pass\r\n",
        b"Authentication-Results: other.example; mx.receiver.example; dmarc=pass\r\n",
        b"Authentication-Results \t: mx.receiver.example/1; dmarc=pass\r\n",
        b"Authentication-Results\r\n : mx.receiver.example; dmarc=pass\r\n",
        "\u00a0Authentication-Results\u00a0: mx.receiver.example; dmarc=pass\r\n".encode(),
        "Received-SPF: pass receiver=\u00a0mx.receiver.example\r\n".encode(),
    ],
    ids=ascii,
)
def test_no_way_to_write_forged_results_gets_in(checked: Relay, forged: bytes) -> None:
    signed = sign(MAIL)
    first = b"X-First: 1\r\n"
    assert send(checked, first + forged + signed).startswith("250 ")
    _, mail = fields_and_mail(checked.mails()[0])
    assert mail == first + signed


def test_a_mailbox_file_s_line_hides_nothing(checked: Relay) -> None:
    line = b"From ann@example.com Mon Jan  5 10:00:00 2026\r\n"
    assert send(checked, line + MAIL, ip=ELSEWHERE).startswith("550 5.7.1 ")
    forged = b"Authentication-Results: mx.receiver.example; dmarc=pass\r\n"
    signed = sign(MAIL)
    assert send(checked, line + forged + signed).startswith("250 ")
    ours, mail = fields_and_mail(checked.mails()[0])
    assert mail == b"X-Mailbox-Line: " + line + signed
    assert "dkim=pass" in ours


def test_results_never_run_into_the_text_of_a_mail_without_a_header(
    server: DnsServer, relay_for: Callable[..., Relay]
) -> None:
    server.zone = ZONE
    config = {"flows": {"in": flow(filter_of(server))}, "mailHeaders": {}}
    relay = relay_for(config, name=NAME, received=False)
    text = b"no header\r\nFrom: ann@example.com\r\n\r\nbody\r\n"
    assert send(relay, text).startswith("250 ")
    head, _, body = relay.mails()[0].partition(b"\r\n\r\n")
    assert head.startswith(b"Authentication-Results: ")
    assert b"From:" not in head
    assert body == text


def test_a_key_counts_as_soon_as_it_is_published_where_its_absence_came_without_soa(
    checked: Relay, server: DnsServer
) -> None:
    """RFC 2308 section 5: the answer does not say for how long the key is absent."""
    name = "later._domainkey.example.com"
    server.soa, server.ttl = None, 3_600
    try:
        server.zone = {key: value for key, value in ZONE.items() if "domainkey" not in key}
        signed = sign(MAIL, s="later")
        assert send(checked, signed).startswith("250 ")
        server.zone = ZONE | {name: {"TXT": [record(rsa_key())]}}
        assert send(checked, signed).startswith("250 ")
    finally:
        server.soa, server.ttl = ".", 0
    found = [fields_and_mail(stored)[0] for stored in checked.mails()]
    assert ["dkim=permerror (no key)" in ours for ours in found] == [True, False]
    assert "dkim=pass" in found[1]


def test_unsigned_text_bears_no_indicator(checked: Relay, server: DnsServer) -> None:
    logo = "v=BIMI1; l=https://example.com/logo.svg"
    server.zone = ZONE | {"default._bimi.example.com": {"TXT": [logo]}}
    appended = sign(MAIL, l=10)
    for mail in (sign(MAIL), appended):
        assert send(checked, mail).startswith("250 ")
    whole, part = [fields_and_mail(stored)[0] for stored in checked.mails()]
    assert "bimi=pass header.d=example.com" in whole
    assert "bimi=skipped (part of the body is not signed)" in part
    assert "dkim=pass" in part


def test_refusal_names_the_policy(checked: Relay) -> None:
    reply = send(checked, MAIL, ip=ELSEWHERE)
    assert reply == "550 5.7.1 Email rejected per DMARC policy (p=reject) for example.com"
    assert checked.mails() == []


@pytest.mark.parametrize("behaviour", ["SERVFAIL", "REFUSED", "TIMEOUT", "LIE", "GARBAGE"])
def test_dns_that_does_not_answer_defers(checked: Relay, server: DnsServer, behaviour: str) -> None:
    domain = f"{behaviour.lower()}.example"
    server.zone = {f"_dmarc.{domain}": {"*": behaviour}}
    mail = MAIL.replace(b"ann@example.com", b"ann@" + domain.encode())
    reply = send(checked, mail, sender="")
    assert reply == f"451 4.7.0 DMARC of {domain} cannot be evaluated now, try again later"
    server.zone = {f"_dmarc.{domain}": {"TXT": ["v=DMARC1; p=none"]}}


def test_results_reach_the_log(server: DnsServer, relay_for: Callable[..., Relay]) -> None:
    server.zone = ZONE
    logged = [{"type": "CONSOLE", "format": "json"}]
    relay = relay_for({"flows": {"in": flow(filter_of(server))}, "loggers": logged})
    assert send(relay, sign(MAIL)).startswith("250 ")
    lines = [json.loads(line) for line in relay.log().splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if "dmarc" in line]
    assert (line["spf"], line["dkim"], line["dmarc"], line["arc"]) == ("pass", "pass", "pass", "none")
    assert line["from_domain"] == "example.com"
    assert line["id"]


def test_metrics(server: DnsServer, relay_for: Callable[..., Relay]) -> None:
    server.zone = ZONE
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    config = {"flows": {"in": flow(filter_of(server, name="auth"))}, "prometheus": {"portNumber": port}}
    relay = relay_for(config)
    assert send(relay, sign(MAIL)).startswith("250 ")
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    for method, result in (("spf", "pass"), ("dkim", "pass"), ("dmarc", "pass"), ("arc", "none")):
        assert (
            f'smtp_relay_mail_auth_results_total{{filter="auth",method="{method}",result="{result}"}} 1'
            in text
        )


def test_refusing_more(server: DnsServer, relay_for: Callable[..., Relay]) -> None:
    server.zone = ZONE | {"_dmarc.example.com": {"TXT": ["v=DMARC1; p=quarantine"]}}
    strict = flow(filter_of(server, refuse=["dmarc-quarantine", "spf-fail", "dkim-fail"]))
    relay = relay_for({"flows": {"in": strict}})
    assert send(relay, MAIL, ip=ELSEWHERE).startswith("550 5.7.1 ")
    assert (
        send(relay, sign(MAIL), ip=ELSEWHERE) == "550 5.7.23 SPF validation failed for example.com. "
        "The domain explains: SPF fail - not authorized"
    )
    assert send(relay, sign(MAIL, d="example.org")) == "550 5.7.20 No passing DKIM signature from example.org"
    assert send(relay, sign(MAIL)).startswith("250 ")


def test_an_enforced_policy(server: DnsServer, relay_for: Callable[..., Relay]) -> None:
    server.zone = {}
    relay = relay_for({"flows": {"in": flow(filter_of(server, enforceDmarc="v=DMARC1; p=reject;"))}})
    assert send(relay, MAIL) == "550 5.7.1 Email rejected per local DMARC policy (p=reject) for example.com"


def test_the_event_loop_stays_free_while_a_large_mail_is_checked(checked: Relay) -> None:
    large = sign(MAIL + b"a line of some length that is repeated often \t \r\n" * 200_000)
    assert send(checked, large).startswith("250 ")
    ours, _ = fields_and_mail(checked.mails()[0])
    assert "dkim=pass" in ours
