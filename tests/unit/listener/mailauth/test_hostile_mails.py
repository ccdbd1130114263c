"""Mails and name servers made to be slow, to break the relay, or to block the event loop."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import Mapping
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from listener.mailauth import check as check_module
from listener.mailauth.authres import authentication_results
from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dns.resolver import DnsAnswer, Question, Resolver
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.results import Report
from listener.mailauth.spf import Sender
from listener.mailauth.verdict import decide
from tests.support.mails.signer import arc_set, record, rsa_key, sign

BLOCKED: Final = 0.05
"""Most seconds that the event loop may be blocked."""

SENDER: Final = Sender("192.0.2.1", "client.example", "ann@example.com", "mx.example")
HEAD: Final = b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: hello\r\nDate: x\r\n"
MAIL: Final = HEAD + b"\r\nHi Bob\r\n"
ZONE: Final[dict[str, Any]] = {
    "sel._domainkey.example.com": {"TXT": [record(rsa_key())]},
    "example.com": {"TXT": ["v=spf1 ip4:192.0.2.0/24 -all"]},
    "_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject"]},
}


async def watched(mail: bytes, resolver: Resolver, time_limit: float = 20.0) -> tuple[Report, float, float]:
    """The report, the longest time that the event loop was blocked, and the whole time.

    It is measured as CPU time of this thread between two turns of the loop, so other processes on
    the machine do not count.
    """
    worst = 0.0
    running = True

    async def watch() -> None:
        nonlocal worst
        while running:
            before = time.thread_time()
            await asyncio.sleep(0)
            worst = max(worst, time.thread_time() - before)

    watcher = asyncio.create_task(watch())
    await asyncio.sleep(0)
    started = time.monotonic()
    report = await check(BytesSource(mail), SENDER, resolver, Checks(time_limit=time_limit))
    taken = time.monotonic() - started
    running = False
    await watcher
    authentication_results(report, "mx.example")
    decide(report, ("dmarc-reject", "spf-fail", "dkim-fail"))
    return report, worst, taken


async def hold(mail: bytes, zone: Mapping[str, Any] = ZONE) -> Report:
    # The first run reads and compiles, the second one is measured.
    await check(BytesSource(MAIL), SENDER, MemoryResolver(zone), Checks())
    report, held, taken = await watched(mail, MemoryResolver(zone))
    assert held < BLOCKED, f"the loop was held for {held * 1000:.0f} ms"
    assert taken < 10
    return report


def fields(name: bytes, value: bytes, count: int) -> bytes:
    return (name + b": " + value + b"\r\n") * count


BIG_KEY: Final = (
    rsa.RSAPublicNumbers(65537, 2**16383 + 1)
    .public_key()
    .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
)
SIGNATURE: Final = sign(MAIL).removesuffix(MAIL)
SEALED: Final = arc_set(MAIL, 1).removesuffix(MAIL)


@pytest.mark.parametrize(
    "mail",
    [
        SIGNATURE + HEAD + b"\r\n" + b" " * 200_000 + b"\r\n",
        SIGNATURE + HEAD + b"\r\n" + b" " * 200_000 + b"x\r\n",
        SIGNATURE + HEAD + b"\r\n" + (b" " * 199 + b"x\r\n") * 1000,
        SIGNATURE + HEAD + b"\r\n" + b"\r\n" * 100_000 + b"x\r\n",
        SIGNATURE + b"Subject: " + b" " * 200_000 + b"x\r\n" + MAIL,
        SIGNATURE + b"Subject:" + b"\r\n\t" * 60_000 + b"x\r\n" + MAIL,
        sign(MAIL, headers=("from", *["x"] * 3000)),
        SIGNATURE * 1000 + MAIL,
        fields(b"DKIM-Signature", b"v=1; a=rsa-sha256; d=example.com; s=sel; h=from; bh=" + b"A" * 15_000, 60)
        + MAIL,
        fields(b"DKIM-Signature", b"v=1;" + b"".join(b"t%d=;" % n for n in range(2000)), 4) + MAIL,
        fields(b"DKIM-Signature", b"v=1; b=" + b" " * 60_000, 1) + MAIL,
        fields(b"DKIM-Signature", b";" * 60_000, 1) + MAIL,
        SEALED * 60 + MAIL,
        fields(b"ARC-Seal", b"i=1", 1500) + MAIL,
        fields(b"X", b"y", 100_000) + MAIL,
        fields(b"From", b"a@example.com", 1900) + b"\r\n",
        b"From: " + b"<a@b.example>," * 20_000 + b"\r\n" + MAIL,
        fields(b"Received", b"from (" * 500 + b"; x", 400) + MAIL,
        b"x" * 1_000_000,
        b"\r\n" * 500_000,
        b"\x00" * 300_000 + MAIL,
        b":" * 300_000,
        (b"a:\r\n " * 50_000) + b"\r\n\r\n",
        fields(b"BIMI-Selector", b"v=BIMI1; s=" + b"a." * 20_000, 1) + MAIL,
    ],
    ids=lambda mail: repr(mail[:30]),
)
async def test_mails(mail: bytes) -> None:
    await hold(mail)


async def test_a_thousand_signatures() -> None:
    report = await hold(SIGNATURE * 1000 + MAIL)
    assert (len(report.dkim), report.signatures) == (10, 1000)


async def test_sixty_arc_sets() -> None:
    mail = MAIL
    for instance in range(1, 61):
        mail = arc_set(mail, instance)
    report = await hold(mail)
    assert report.arc is not None
    assert (report.arc.verdict, report.arc.reason) == ("fail", "too many instances")


async def test_fifty_arc_sets_of_the_largest_keys() -> None:
    key = rsa_key(4096)
    mail = MAIL
    for instance in range(1, 51):
        mail = arc_set(mail, instance, key)
    report = await hold(mail, ZONE | {"sel._domainkey.example.com": {"TXT": [record(key)]}})
    assert report.arc is not None
    assert report.arc.verdict == "pass"


async def test_a_key_of_16_kbit() -> None:
    key = f"v=DKIM1; p={base64.b64encode(BIG_KEY).decode()}"
    report = await hold(sign(MAIL), ZONE | {"sel._domainkey.example.com": {"TXT": [key]}})
    assert report.dkim[0].verdict == "permerror"


async def test_policies_of_64_kb() -> None:
    long = {"TXT": ["v=DMARC1; " + "x=y;" * 16_000]}
    zone = ZONE | {f"_dmarc.{'.'.join(['a'] * n)}.example.com": long for n in range(1, 8)}
    mail = (
        b"From: " + b",".join(b"a@%s.example.com" % b".".join([b"a"] * n) for n in range(1, 8)) + b"\r\n\r\n"
    )
    await hold(mail, zone)


async def test_large_mails_leave_the_loop_free() -> None:
    body = b"some words and  a few spaces \t more, a line like many others\r\n" * 80_000
    report = await hold(sign(HEAD + b"\r\n" + body))
    assert report.dkim[0].verdict == "pass"


class Moody:
    """Answers late, never, with nonsense, or by breaking."""

    def __init__(self, mood: str) -> None:
        self.mood = mood

    def known(self, question: Question) -> DnsAnswer | None:
        if self.mood == "breaks at once":
            raise RuntimeError
        return None

    async def resolve(self, question: Question) -> DnsAnswer:
        if self.mood == "never":
            await asyncio.sleep(3600)
        if self.mood == "late":
            await asyncio.sleep(0.2)
        if self.mood == "breaks":
            raise RuntimeError
        answer = MemoryResolver(ZONE).known(question)
        assert answer is not None
        return answer


@pytest.mark.parametrize(
    ("mood", "spf", "dkim", "dmarc"),
    [
        ("never", "temperror", "temperror", "temperror"),
        ("late", "pass", "pass", "pass"),
        ("breaks", "temperror", "temperror", "temperror"),
        ("breaks at once", "temperror", "temperror", "temperror"),
    ],
)
async def test_resolvers(mood: str, spf: str, dkim: str, dmarc: str) -> None:
    report, held, taken = await watched(sign(MAIL), Moody(mood), time_limit=0.6)
    assert (report.spf.verdict, report.dkim_verdict, report.dmarc[0].verdict) == (spf, dkim, dmarc)
    assert taken < 3
    assert held < BLOCKED
    decision = decide(report, ("dmarc-reject",))
    assert decision.verdict == ("accept" if mood == "late" else "defer")


async def test_a_fault_of_the_check_defers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise IndexError("in the middle of it")

    monkeypatch.setattr(check_module, "_judge", broken)
    report = await check(BytesSource(sign(MAIL)), SENDER, MemoryResolver(ZONE), Checks())
    assert decide(report, ("dmarc-reject",)).verdict == "defer"
    assert "mail authentication failed" in caplog.text
    report.to_json()
    authentication_results(report, "mx.example")


async def test_cancelled_while_a_thread_reads() -> None:
    mail = BytesSource(sign(HEAD + b"\r\n" + b"a line of a long mail\r\n" * 100_000))
    task = asyncio.create_task(check(mail, SENDER, Moody("never"), Checks()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


PIECES: Final = st.sampled_from(
    [
        *(b"DKIM-Signature: ", b"ARC-Seal: ", b"ARC-Message-Signature: ", b"From: ", b"Received: "),
        *(b"ARC-Authentication-Results: i=1; ", b"BIMI-Selector: ", b"v=1; ", b"a=rsa-sha256; ", b"s=sel; "),
        *(b"d=example.com; ", b"h=from; ", b"bh=AAAA; ", b"b=AAAA; ", b"i=1; ", b"cv=none; ", b"l=5; "),
        *(b"t=9; ", b"\r\n", b"\r\n\r\n", b" ", b"\t", b"\n", b"\r", b";", b"=", b":", b"@", b"<", b">"),
        *(b'"', b"(", b")", b"\\", b"\x00", b"\xff", b"ann@example.com", SIGNATURE, SEALED),
    ]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=40).map(b"".join))
def test_any_mail_gets_a_report(mail: bytes) -> None:
    async def run() -> None:
        report = await check(BytesSource(mail), SENDER, MemoryResolver(ZONE), Checks(), now=1_750_000_000.0)
        assert report.spf.reason != "check failed", "an exception was logged"
        authentication_results(report, "mx.example")
        report.to_json()
        decide(report, ("dmarc-reject", "spf-fail", "dkim-fail"))

    asyncio.run(run())


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_a_changed_mail_never_passes_by_chance(seed: int, changes: int) -> None:
    """Bytes of a signed mail are changed at random: it passes only if it is unchanged."""
    chosen = random.Random(seed)
    signed = bytearray(sign(MAIL, c="simple/simple"))
    before = bytes(signed)
    for _ in range(changes):
        signed[chosen.randrange(len(signed))] = chosen.randrange(256)

    async def run() -> Report:
        return await check(BytesSource(bytes(signed)), SENDER, MemoryResolver(ZONE), Checks())

    report = asyncio.run(run())
    if bytes(signed) != before and report.dkim_verdict == "pass":
        # Only unsigned fields and parts that canonicalization drops may differ.
        assert signed.endswith(MAIL.partition(b"\r\n\r\n")[2])
        assert HEAD.rstrip() in bytes(signed)
