"""mail-auth's speed, against plain dkimpy with pyspf and in the listener. `python -m bench.mailauth
-h`.

Checks: one mail, DKIM by rsa-sha256 with 2,048 bits relaxed/relaxed, SPF with an include, DMARC
with p=reject; answers are in memory. The filter checks all of it and writes both header fields;
plain verifies the signature with dkimpy and evaluates SPF with pyspf, without DMARC. One process,
CPU time, rounds interleaved, the same mails. Listener: the relay with and without the filter, and a
name server on loopback whose answers are in the relay's cache after the first mail.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

import dkim
import spf as pyspf
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from bench import report
from bench.measure import one_round
from bench.servers import Server
from bench.workloads import ALL
from listener.mailauth.authres import authentication_results, received_spf
from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.spf import Sender
from tests.support.net import HOST
from tests.support.servers.dns_server import DnsServer

DOMAIN: Final = "client.example"
SENDER: Final = Sender(HOST, DOMAIN, f"bench@{DOMAIN}", "mx.receiver.example")
SIZES: Final = {"5 KB": 5_000, "50 KB": 50_000, "5 MB": 5_000_000, "5 MB base64": 5_000_000}
MOST: Final = 2.0
"""The most that the filter may multiply the CPU time of a mail of 5 KB by."""

WORDS: Final = (
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "nobody",
    "looks",
)

_PAGE: Final = """\
## mail-auth

`{command}` on {date}, revision {revision}.
{machine}

{intro}

{checks}

Listener, load ii ({load}), one process, without fsync, the mail DKIM-signed, DNS answers in the cache:

{listener}
"""


def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2_048)


def zone(private: rsa.RSAPrivateKey) -> dict[str, dict[str, list[str]]]:
    data = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        f"sel._domainkey.{DOMAIN}": {"TXT": [f"v=DKIM1; k=rsa; p={base64.b64encode(data).decode()}"]},
        DOMAIN: {"TXT": [f"v=spf1 include:_spf.{DOMAIN} -all"]},
        f"_spf.{DOMAIN}": {"TXT": ["v=spf1 ip4:192.0.2.0/24 ip4:127.0.0.0/8 ~all"]},
        f"_dmarc.{DOMAIN}": {"TXT": [f"v=DMARC1; p=reject; rua=mailto:dmarc@{DOMAIN}"]},
    }


def mail(size: int, private: rsa.RSAPrivateKey, *, encoded: bool = False) -> bytes:
    """A mail with an everyday header and a body of about `size` bytes: lines of words, or base64."""
    chosen = random.Random(1)
    lines: list[str] = []
    left = size
    while left > 0:
        if encoded:
            line = base64.b64encode(chosen.randbytes(57)).decode()
        else:
            line = " ".join(chosen.choices(WORDS, k=13))
        lines.append(line)
        left -= len(line) + 2
    head = (
        f"Received: from mta7.{DOMAIN} (mta7.{DOMAIN} [192.0.2.7]) by mx.{DOMAIN} (Postfix) with ESMTPS id"
        f" 4XyZ1234\r\n\tfor <bob@receiver.example>; Mon,  5 Jan 2026 10:00:00 +0000 (UTC)\r\n"
        f"From: Bench <bench@{DOMAIN}>\r\nTo: Bob <bob@receiver.example>\r\nSubject: a mail of a size\r\n"
        f"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\nMessage-ID: <{size}@{DOMAIN}>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n"
    )
    unsigned = (head + "\r\n" + "\r\n".join(lines) + "\r\n").encode()
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    return dkim.sign(unsigned, b"sel", DOMAIN.encode(), pem, canonicalize=(b"relaxed", b"relaxed")) + unsigned


# -- checks ---------------------------------------------------------------------------------------


def plain(content: bytes, answers: dict[str, dict[str, list[str]]]) -> Callable[[int], None]:
    """dkimpy and pyspf unchanged, on answers in memory."""

    def key_of(name: bytes, timeout: int = 5) -> bytes | None:
        found = answers.get(name.decode().removesuffix("."))
        return found["TXT"][0].encode() if found else None

    def lookup(name: str, qtype: str, strict: bool = True, timeout: int = 30) -> list[Any]:
        found = answers.get(name.lower().removesuffix("."), {}).get(qtype, [])
        return [((name, qtype), (text.encode(),)) for text in found]

    pyspf.DNSLookup = lookup

    def run(times: int) -> None:
        for _ in range(times):
            if not dkim.DKIM(content).verify(dnsfunc=key_of):
                raise AssertionError("dkimpy does not verify")
            if pyspf.check2(SENDER.ip, SENDER.reverse_path, SENDER.helo)[0] != "pass":
                raise AssertionError("pyspf does not pass")

    return run


def ours(content: bytes, answers: dict[str, dict[str, list[str]]]) -> Callable[[int], None]:
    """All checks of the filter, and its header fields."""
    resolver = MemoryResolver(answers)
    checks = Checks()

    async def checked(times: int) -> None:
        for _ in range(times):
            found = await check(BytesSource(content), SENDER, resolver, checks)
            authentication_results(found, SENDER.receiver)
            received_spf(found.spf, SENDER.receiver)
            if (found.dkim_verdict, found.spf.verdict, found.dmarc[0].verdict) != ("pass", "pass", "pass"):
                raise AssertionError(found)

    return lambda times: asyncio.run(checked(times))


def rate(run: Callable[[int], None], seconds: float) -> float:
    """Checks per second of CPU time."""
    times, used = 1, 0.0
    while True:
        began = time.process_time()
        run(times)
        used = time.process_time() - began
        if used >= seconds:
            return times / used
        times = max(times + 1, round(times * min(10.0, 1.2 * seconds / max(used, 1e-4))))


def longest_hold(content: bytes, answers: dict[str, dict[str, list[str]]]) -> float:
    """The longest CPU time, in seconds, of the event loop's thread between two of its turns while one
    mail is checked."""

    async def run() -> float:
        worst, running = 0.0, True

        async def watch() -> None:
            nonlocal worst
            while running:
                before = time.thread_time()
                await asyncio.sleep(0)
                worst = max(worst, time.thread_time() - before)

        watcher = asyncio.create_task(watch())
        await asyncio.sleep(0)
        await check(BytesSource(content), SENDER, MemoryResolver(answers), Checks())
        running = False
        await watcher
        return worst

    return min(asyncio.run(run()) for _ in range(3))


def ratio(values: Sequence[float]) -> str:
    """The median, with the lowest and highest."""
    return f"**{median(values):.1f}** ({min(values):.1f}–{max(values):.1f})"


def compare(rounds: int, seconds: float) -> str:
    """The table of both, for each size."""
    private = key()
    answers = zone(private)
    rows = [
        "| body | plain, checks/s | mail-auth, checks/s | ratio | loop held, ms |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, size in SIZES.items():
        content = mail(size, private, encoded="base64" in name)
        pair = plain(content, answers), ours(content, answers)
        for run in pair:
            run(1)
        found = [[rate(run, seconds) for run in pair] for _ in range(rounds)]
        ratios = [b / a for a, b in found]
        held = longest_hold(content, answers) * 1000
        rows.append(
            f"| {name} | {median(a for a, _ in found):,.1f} | {median(b for _, b in found):,.1f} "
            f"| {ratio(ratios)} | {held:.1f} |"
        )
        print(rows[-1], flush=True)
    return "\n".join(rows)


# -- listener -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filtered(Server):
    """The relay with further filters."""

    filters: list[dict[str, Any]] = field(default_factory=list)

    def _command(self, work: Path, received: Path, port: int, *, fsync: bool) -> Sequence[str]:
        command = super()._command(work, received, port, fsync=fsync)
        path = work / "relay.json"
        config = json.loads(path.read_text())
        config["flows"]["bench"]["filters"] += self.filters
        path.write_text(json.dumps(config))
        return command


def listener(rounds: int, mails: int, work: Path) -> str:
    """The table of mails a second with and without the filter."""
    private = key()
    load = ALL["ii"].scaled(mails / ALL["ii"].mails)
    signed = work / "signed.eml"
    signed.write_bytes(mail(5_000, private).replace(b"\r\n", b"\n"))
    rows = ["| filters | mails/s | CPU s/1,000 |", "|---|---:|---:|"]
    with DnsServer(zone(private), ttl=3_600) as dns:
        options = {"resolver": {"nameservers": [HOST], "port": dns.port}}
        without = Filtered("whitelist")
        checked = Filtered("whitelist, mail-auth", filters=[{"type": "mail-auth", "mailauth": options}])
        samples = [
            one_round(server, load, work / f"round-{number}-{index}", fsync=False, pin=False, mail=signed)
            for number in range(rounds)
            for index, server in enumerate((without, checked))
        ]
        for server in (without, checked):
            own = [sample for sample in samples if sample.server == server.name]
            rates = [sample.rate for sample in own]
            rows.append(
                f"| {server.name} | {median(rates):,.0f} ({min(rates):,.0f}–{max(rates):,.0f}) "
                f"| {median(sample.cpu_per_1000 for sample in own):.2f} |"
            )
            print(rows[-1], flush=True)
        pairs = zip(samples[1::2], samples[::2], strict=True)
        ratios = [filtered.cpu_per_1000 / plain.cpu_per_1000 for filtered, plain in pairs]
        rows += ["", f"CPU with the filter / without: {ratio(ratios)}, the goal is at most {MOST:g}."]
        print(rows[-1], flush=True)
        print(f"{len(dns.queries)} DNS queries for {len(samples) // 2 * load.mails} mails", flush=True)
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.mailauth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time of one measurement")
    parser.add_argument("--mails", type=int, default=4_000, help="for each listener round")
    parser.add_argument("--only", choices=("checks", "listener"))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument(
        "--out", type=Path, help="write its part of the page of results there (bench/RESULTS.md)"
    )
    options = parser.parse_args(arguments)
    checks = compare(options.rounds, options.seconds) if options.only != "listener" else ""
    through = ""
    if options.only != "checks":
        with tempfile.TemporaryDirectory(dir=options.work) as folder:
            through = listener(options.rounds, options.mails, Path(folder))
    if options.out:
        intro = (__doc__ or "").partition("\n\n")[2].strip()
        page = _PAGE.format(
            command=shlex.join(["python", "-m", "bench.mailauth", *sys.argv[1:]]),
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            revision=report.revision(),
            machine=report.machine(options.work),
            intro=intro,
            checks=checks,
            load=ALL["ii"].what,
            listener=through,
        )
        report.write(options.out, "mail-auth", page)


if __name__ == "__main__":
    main()
