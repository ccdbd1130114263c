"""Ten thousand malformed headers: all readers of a mail find the same end of its header and the same
author. The readers are mail-auth, the choice of the DKIM key, events, SES's notifications, SES's
requests, the mailer, and the listener while it receives a mail."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from functions.aws.output import ses
from functions.ids import uuid7
from functions.message.addresses import authors_of
from functions.message.envelope import Client, Envelope, FlowNotes, Recipient
from functions.message.event import cloudevent, ses_notification
from functions.message.headers import BOM, HeadCollector, is_mailbox_line, split_head
from functions.message.mail import BytesContent, Mail
from functions.message.mime import read_parts
from functions.processors.mailer.message import OutgoingMessage
from functions.processors.mailer.output import author_domain
from listener.intake.capture import Capture
from listener.mailauth.authors import MAX_DOMAINS, authors, of_head
from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dkim.fields import HeaderBlock
from listener.mailauth.dns.domains import normal
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.spf import Sender

MAILS: Final = 10_000
SEED: Final = 20_260_105

HOSTS: Final = [
    *(b"a.example", b"B.Example", b"c.example.", b"bank.example", b"d_e.example", b"-x.example", b""),
    *(b"[192.0.2.1]", b"[IPv6:2001:db8::1]", b"x" * 70 + b".example", b"x y.example"),
    *(b"a . example", b"a(c).example", b"a.example(@bank.example)", b"a.example@bank.example"),
    "faß.example".encode(),
    "mu\u0308nchen.example".encode(),
    "münchen.example".encode("iso-8859-1"),
    "xn--mnchen-3ya\u3002example".encode(),
    "💩.example".encode(),
]
LOCALS: Final = [
    *(b"ann", b"Bob", b'"q u"', b'"a@b"', b"a.b", b"=?q?x?=", b"a(c)", b"", b" ann ", b"a\x00b"),
    "jörg".encode(),
]
NAMES: Final = [
    *(b"Ann", b"Ann Smith", b'"Smith, Ann"', b"(c)", b"", b"Ann (x) S.", b'"a\\"b"', b"\x00", b"[", b"<"),
    *(b'"a@bank.example"', b"a@bank.example", b'"never ends', b"(never ends"),
    *(b"=?utf-8?Q?Support@bank.example,_John?=", b"=?utf-8?q?x, y@bank.example?="),
    *(b"=?utf-8?q?a;b:c<d>?=", b"=?utf-8?B?YUBiYW5rLmV4YW1wbGU=?=", b"=?utf-8?q?never ends"),
    *(b'=?utf-8?q?"?=', b"=?utf-8?q?(?=", b"=?x", "Jörg".encode(), "Jörg".encode("iso-8859-1")),
]
JOINTS: Final = [
    *(b", ", b",", b";", b" ", b",\r\n ", b"\r\n\t", b":", b", , ", b"(c), ", b"\r", b"\n", b"\r\n \r\n "),
]
LINES: Final = [
    *(b"Subject: x", b"To: b@to.example", b"Received: from x", b"Sender: s@sender.example", b"X :y"),
    *(b"no colon here", b"From", b": no name", b"\xe9: 8-bit", b"x" * 1_200, b"", b" ", b"\t", b" folded"),
    *(b"From a@bank.example Mon Jan  5 10:00:00 2026", b">From a@bank.example", b"From: \r\n\r\n"),
    *(b"bare\nlf: x", b"bare\rcr: x", b"nul\x00: x", b"Fr\x00om: n@nul.example"),
    *(b"\xc2\xa0From: n@nbsp.example", b"From\r\n : f@fold.example"),
    *(BOM, BOM + b"From: m@mark.example", BOM + BOM + b"From: m2@mark.example"),
    *(BOM + b"From a@bank.example x", BOM + b"From \t: t@mark.example"),
    *(b"\rFrom: r@cr.example", b"From a@bank.example x\rFrom: s@cr.example"),
]
ENDS: Final = [
    *(b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n \r\n", b"\r\n\t\r\n", b"\r\r\n", b"\n\n"),
    b"",
]
BODY: Final = b"From: body@body.example\r\n\r\nbody\r\n"


def mailbox(rng: random.Random) -> bytes:
    address = rng.choice(LOCALS) + rng.choice([b"@", b"@", b"@", b" @ ", b"@@", b""]) + rng.choice(HOSTS)
    name = rng.choice(NAMES)
    return rng.choice(
        [
            name + b" <" + address + b">",
            name + b" <" + address + b">",
            address,
            address + b" (" + name + b")",
            name + b"<" + address,
            name + b" <" + address + b"> <" + rng.choice(LOCALS) + b"@" + rng.choice(HOSTS) + b">",
            name + b" <@relay.example,@two.example:" + address + b">",
            b"Team: " + address + b", " + name + b" <" + address + b">;",
            name,
        ]
    )


def from_field(rng: random.Random) -> bytes:
    name = rng.choice([b"From", b"From", b"from", b"FROM", b"From ", b"From \t"])
    value = b"".join(mailbox(rng) + rng.choice(JOINTS) for _ in range(rng.choice([0, 1, 1, 1, 2, 3])))
    if rng.random() < 0.01:
        value = rng.choice([b" ", b"x, ", b'"', b"a@b.example, ", b"("]) * rng.randrange(20_000) + value
    if rng.random() < 0.2:  # any bytes at all
        noise = bytes(rng.choice(b'@<>",;:()\\=? .\x00\xe9ab') for _ in range(rng.randrange(30)))
        at = rng.randrange(len(value) + 1)
        value = value[:at] + noise + value[at:]
    return name + b":" + value


def mails() -> Iterator[bytes]:
    rng = random.Random(SEED)
    for _ in range(MAILS):
        lines = [rng.choice(LINES) for _ in range(rng.randrange(4))]
        lines += [from_field(rng) for _ in range(rng.choice([0, 1, 1, 1, 1, 2]))]
        rng.shuffle(lines)
        if rng.random() < 0.5:
            lines.insert(0, b"Message-ID: <x@y>")
        head = b"".join(line + rng.choice(ENDS) for line in lines)
        yield head + rng.choice([b"\r\n", b"\r\n", b"", b" \r\n", b"\n"]) + BODY


def mail_of(data: bytes) -> Mail:
    envelope = Envelope(
        id=uuid7(),
        session="s",
        received=1_767_323_045_678,
        reverse_path="",
        recipients=(Recipient(address="b@to.example", flows=("f",)),),
        client=Client(ip="192.0.2.1"),
        notes={"f": FlowNotes()},
        size=len(data),
        sha256="",
    )
    return Mail(envelope, BytesContent(data))


def test_one_end_of_the_header(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    for data in mails():
        size = len(split_head(data)[0])
        mail = mail_of(data)
        cut = rng.randrange(len(data) + 1)
        found = {
            "mail-auth": len(BytesSource(data).head),
            "SES, templates": len(mail.head),
            "a stream": len(collected(data[:cut], data[cut:])),
            "the mailer": len(edited(mail)),
            "the listener": len(captured(tmp_path, data[:cut], data[cut:])),
        }
        assert set(found.values()) == {size}, (data, found)
        assert len(read_parts(mail, "f").head) <= size, "an event shows its fields and no other lines"
        without_bcc = ses.raw(mail_of(b"Bcc: x\r\n" * (size > 0) + data), "f")
        assert without_bcc == data, data


def collected(*pieces: bytes) -> bytes:
    collector = HeadCollector(1_000_000)
    for piece in pieces:
        if collector.feed(piece) is not None:
            return collector.head
    collector.finish()
    return collector.head


def edited(mail: Mail) -> bytes:
    """The mailer's header; it converts other line ends to CRLF, because no others go out."""
    if re.search(rb"(?<!\r)\n|\r(?!\n)", mail.content.read()):
        return mail.head
    seen: list[bytes] = []

    def edit(head: bytes) -> bytes:
        seen.append(head)
        return head

    OutgoingMessage(mail, "f", edit, lambda head: None)
    return seen[0]


def captured(folder: Path, *pieces: bytes) -> bytes:
    capture = Capture(folder, "x", lambda head, rest: (b"", head), max_size=1_000_000, max_header=1_000_000)
    for piece in pieces:
        capture.feed(piece)
    content, _ = capture.finish()
    if content.path is not None:
        content.path.unlink()
    return capture.head


def test_one_author() -> None:
    several = 0
    for data in mails():
        head = split_head(data)[0]
        shown = [domain for address in shown_addresses(data) if (domain := domain_of(address)) is not None]
        unique = list(dict.fromkeys(shown))
        block = HeaderBlock(head)
        checked = authors(block)
        assert checked == of_head(block.head, block.count), data
        if head and not is_mailbox_line(head):
            stored = authors_of(b"Received: from x\r\n" + head)
            assert stored.addresses == authors_of(head).addresses, data
        assert author_domain(head) == next(iter(unique), ""), data
        assert list(checked.domains[: len(unique)]) == unique[:MAX_DOMAINS], data
        assert checked.complete or len(data) > 1_000 or len(checked.domains) == MAX_DOMAINS, data
        several += len(unique) > 1
    assert several > MAILS // 20, "there are mails with several authors among them"


def shown_addresses(data: bytes) -> list[str]:
    """The authors as an event shows them, and as SES's notification does."""
    mail = mail_of(data)
    parts = read_parts(mail, "f")
    event: Any = json.loads(cloudevent.build(mail.envelope, parts, flow="f", max_bytes=1_000_000))
    addresses = [one["address"] for one in event["data"]["email"].get("from", {"value": []})["value"]]
    everybody = [box.address for box in parts.from_]
    assert addresses == everybody[:2_000]
    notice: Any = json.loads(
        ses_notification.build(mail.envelope, parts, flow="f", storage_url=None, max_bytes=1_000_000)
    )
    written = notice["mail"]["commonHeaders"]["from"]
    assert len(written) == min(len(everybody), 1_000)
    for text, address in zip(written, everybody, strict=False):
        assert address[:400] in text or len(text) == 1_000
    return everybody


def domain_of(address: str) -> str | None:
    """The domain of an address on its own, found in the plainest way: behind the last @ outside of
    quotes, up to the first character that cannot be part of a domain."""
    plain = re.sub(r'"(?:[^"\\]|\\.)*(?:"|\Z)', "", address, flags=re.DOTALL)
    _, at, behind = plain.rpartition("@")
    return normal(re.split(r"[\s\x00-\x1f,;:<>()\"\\]", behind.lstrip())[0]) if at else None


async def test_the_checks_ask_about_these_authors() -> None:
    """The whole of mail-auth on a part of them: the first result without a policy is the author's."""
    for number, data in enumerate(mails()):
        if number % 20:
            continue
        resolver = MemoryResolver({})
        sender = Sender("192.0.2.1", "h.test", "", "mx.test")
        report = await check(BytesSource(data), sender, resolver, Checks())
        domains = [result.domain for result in report.dmarc if result.domain]
        assert domains == list(authors(HeaderBlock(split_head(data)[0])).domains), data
