"""`auth-check`: mail-auth's results for one mail, for people who debug their DNS."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import re
import socket
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from functions.errors import ConfigError
from functions.message.text import escaped
from listener.api.decision import Decision
from listener.cli.arguments import port, seconds
from listener.cli.parser import give_examples
from listener.mailauth import authres, policy
from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dkim.verify import KeyRules
from listener.mailauth.dns.client import DnsResolver
from listener.mailauth.dns.resolver import DnsAnswer, Question, Record, Resolver
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.results import Report
from listener.mailauth.spf import Sender
from listener.mailauth.verdict import decide

MAX_MAIL: Final = 268_435_456

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_SHOWN: Final = 300  # characters of a record


class Recorder:
    """A resolver that remembers its questions and answers, in order."""

    def __init__(self, inner: Resolver) -> None:
        self._inner = inner
        self.answers: dict[Question, DnsAnswer] = {}

    def known(self, question: Question) -> DnsAnswer | None:
        answer = self._inner.known(question)
        if answer is not None:
            self.answers.setdefault(question, answer)
        return answer

    async def resolve(self, question: Question) -> DnsAnswer:
        answer = await self._inner.resolve(question)
        self.answers.setdefault(question, answer)
        return answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE.eml", help="the mail, - for stdin")
    parser.add_argument("--ip", required=True, metavar="ADDRESS", help="the client that sent it")
    parser.add_argument("--helo", default="", metavar="NAME", help="the client's name in HELO or EHLO")
    parser.add_argument(
        "--mail-from", default="", metavar="ADDRESS", help="the reverse-path; default: the null sender"
    )
    parser.add_argument("--receiver", metavar="NAME", help="the relay's name in the header fields")
    parser.add_argument(
        "--refuse",
        action="append",
        choices=("dmarc-reject", "dmarc-quarantine", "spf-fail", "dkim-fail"),
        help="as in the filter's options (dmarc-reject); may be repeated",
    )
    parser.add_argument("--enforce-dmarc", metavar="RECORD", help="as in the filter's options")
    parser.add_argument("--min-bits", type=int, default=1_024, metavar="N", help="least RSA key size (1024)")
    parser.add_argument("--allow-sha1", action="store_true", help="accept rsa-sha1, which RFC 8301 forbids")
    parser.add_argument(
        "--nameserver", action="append", default=[], metavar="ADDRESS", help="else those of the system"
    )
    parser.add_argument("--dns-port", type=port, default=53, metavar="PORT")
    parser.add_argument(
        "--timeout", type=seconds, default=5.0, metavar="SECONDS", help="for one question (5)"
    )
    parser.add_argument("--zone", type=Path, metavar="FILE", help="ask this JSON file, not the DNS")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    give_examples(
        parser,
        "smtp-relay auth-check mail.eml --ip 192.0.2.1 --mail-from ann@example.com --helo mx.example.com",
        "smtp-relay auth-check mail.eml --ip 192.0.2.1 --zone dns.json --json",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the mail and print the results. Returns 0 if mail-auth would accept it, else 1. Raises
    ConfigError for arguments that cannot be used."""
    mail = BytesSource(_read(arguments.file))
    sender = Sender(
        ip=_ip("--ip", arguments.ip),
        helo=arguments.helo,
        reverse_path=arguments.mail_from.strip().removeprefix("<").removesuffix(">"),
        receiver=arguments.receiver or socket.gethostname(),
    )
    checks = Checks(
        keys=KeyRules(arguments.min_bits, not arguments.allow_sha1),
        enforced=_enforced(arguments.enforce_dmarc),
        explain=True,
        time_limit=arguments.timeout * 4,
    )
    report, dns = asyncio.run(_check(mail, sender, checks, arguments))
    decision = decide(report, frozenset(arguments.refuse or ("dmarc-reject",)))
    if arguments.json:
        print(json.dumps(_json(report, decision, dns, sender), indent=2))
    else:
        print("\n".join(_lines(report, decision, dns, sender)))
    return 0 if decision.verdict == "accept" else 1


async def _check(
    mail: BytesSource, sender: Sender, checks: Checks, arguments: argparse.Namespace
) -> tuple[Report, dict[Question, DnsAnswer]]:
    if arguments.zone is not None:
        recorder = Recorder(MemoryResolver(_zone(arguments.zone)))
        return await check(mail, sender, recorder, checks), recorder.answers
    servers = [_ip("--nameserver", server) for server in arguments.nameserver]
    try:
        resolver = DnsResolver(servers, arguments.dns_port, arguments.timeout)
    except ValueError as error:
        raise ConfigError("--nameserver", str(error)) from error
    try:
        recorder = Recorder(resolver)
        return await check(mail, sender, recorder, checks), recorder.answers
    finally:
        await resolver.close()


# -- arguments ----------------------------------------------------------------------------------


def _read(name: str) -> bytes:
    """The mail with CRLF line ends, because files on disk often have lost theirs."""
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as stream:
            data = stream.read(MAX_MAIL + 1)
    except OSError as error:
        raise ConfigError(name, f"cannot be read: {error.strerror}") from error
    if len(data) > MAX_MAIL:
        raise ConfigError(name, f"is more than {MAX_MAIL} bytes")
    return _LINE_END.sub(b"\r\n", data)


def _ip(option: str, text: str) -> str:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as error:
        raise ConfigError(option, f"{text!r} is not an IP address") from error
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _enforced(text: str | None) -> policy.Record | None:
    if text is None:
        return None
    record = policy.parse(text.strip().encode())
    if record is None or not record.applies:
        raise ConfigError("--enforce-dmarc", f"{text!r} is not a DMARC record", "v=DMARC1; p=reject")
    return record


def _zone(path: Path) -> dict[str, Any]:
    try:
        zone = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--zone {path}", "cannot be read as JSON") from error
    if not isinstance(zone, dict) or not all(isinstance(types, dict) for types in zone.values()):
        raise ConfigError(f"--zone {path}", 'is not {"name": {"TYPE": [values]}}')
    return zone


# -- the output -----------------------------------------------------------------------------------


def _lines(
    report: Report, decision: Decision, dns: dict[Question, DnsAnswer], sender: Sender
) -> Iterator[str]:
    spf = report.spf
    about = [f"{spf.identity} {spf.domain}".strip(), f"from {spf.ip}"]
    about += [f"by {spf.mechanism}"] if spf.mechanism else []
    about += [f"{spf.lookups} of 10 lookups"] if spf.lookups else []
    yield _line("spf", spf.verdict, spf.reason, *about)
    if spf.explanation:
        yield _line("", "", f"the domain explains: {spf.explanation}")
    for signature in report.dkim:
        yield _line(
            "dkim",
            signature.verdict,
            signature.reason,
            f"d={signature.domain} s={signature.selector}" if signature.domain else "",
            f"i={signature.identity}" if signature.identity else "",
            f"{signature.algorithm} {signature.canonicalization}".strip(),
            f"{signature.key_bits}-bit key" if signature.key_bits else "",
            "key in test (t=y)" if signature.testing else "",
            f"{signature.unsigned_octets} bytes unsigned (l=)" if signature.unsigned_octets else "",
        )
    if not report.dkim:
        yield _line("dkim", "none", "no signature")
    if report.arc is not None:
        arc = report.arc
        sealed = f"{arc.instances} sets, sealed last by {arc.domain}" if arc.instances else ""
        yield _line("arc", arc.verdict, arc.reason, sealed)
    for result in report.dmarc:
        yield _line(
            "dmarc",
            result.verdict,
            result.reason,
            f"From {result.domain}" if result.domain else "",
            f"p={result.policy}" + (" (enforced)" if result.enforced else "") if result.policy else "",
            f"record at _dmarc.{result.policy_domain}" if result.policy_domain else "",
            f"organizational domain {result.organizational_domain}" if result.organizational_domain else "",
            f"alignment spf={result.spf} dkim={result.dkim}",
        )
    if report.bimi is not None:
        yield _line("bimi", report.bimi.verdict, report.bimi.reason, report.bimi.location)
    for hop in reversed(report.received):
        named = [f"{name} {hop[name]}" for name in ("from", "by", "with") if name in hop]
        yield _line("hop", "", *named, hop.get("date", ""))
    reply = f": {decision.reply}" if decision.reply is not None else ""
    yield _line("decision", decision.verdict + reply)
    yield ""
    yield f"Authentication-Results: {authres.authentication_results(report, sender.receiver)}".replace(
        "\r", ""
    )
    yield f"Received-SPF: {authres.received_spf(spf, sender.receiver)}".replace("\r", "")
    yield ""
    yield f"DNS, {len(dns)} questions:"
    for question, answer in dns.items():
        why = f" ({answer.reason})" if answer.reason else ""
        yield f"  {question.type:4} {escaped(question.name)}: {answer.outcome.value}{why}"
        for record in answer.records:
            yield textwrap.indent(_shown(record), "         ")


def _line(method: str, verdict: str, *parts: str) -> str:
    return f"{method:9}{verdict:10} {escaped('; '.join(filter(None, parts)))}".rstrip()


def _shown(record: Record) -> str:
    if isinstance(record, tuple):
        return f"{record[0]} {escaped(record[1])}"
    text = record.decode("utf-8", "backslashreplace") if isinstance(record, bytes) else record
    return escaped(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)")


def _json(
    report: Report, decision: Decision, dns: dict[Question, DnsAnswer], sender: Sender
) -> dict[str, Any]:
    reply = decision.reply
    return {
        "decision": {"verdict": decision.verdict} | ({"reply": str(reply)} if reply is not None else {}),
        "results": report.to_json(),
        "headers": {
            "Authentication-Results": authres.authentication_results(report, sender.receiver),
            "Received-SPF": authres.received_spf(report.spf, sender.receiver),
        },
        "dns": [
            {
                "name": question.name,
                "type": question.type,
                "outcome": answer.outcome.value,
                "reason": answer.reason,
                "records": [
                    r.decode("utf-8", "backslashreplace") if isinstance(r, bytes) else r
                    for r in answer.records
                ],
            }
            for question, answer in dns.items()
        ],
    }
