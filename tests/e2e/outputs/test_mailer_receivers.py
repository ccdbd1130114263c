"""Through the listener and its mailer to real servers: the mail arrives as sent, byte for byte, below
the fields that servers put on top."""

from __future__ import annotations

import os
import random
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients.tls import Authority, Identity
from tests.support.clients.wire import Wire, stuffed
from tests.support.mails.dead_letters import wait_for_records
from tests.support.mails.stored import strip_added_fields
from tests.support.net import HOST, wait_until
from tests.support.servers.postfix import DOMAIN, Postfix, postfix, without_trace
from tests.support.servers.receivers import Receiver, receiver
from tests.support.servers.relay import Relay

NAME: Final = "mx.server.example"
BOB: Final = f"bob@{DOMAIN}"
HEAD: Final = (
    b"Message-ID: <one@client.example>\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n"
    b"From: Ann <ann@client.example>\r\nTo: Bob <bob@server.example>\r\nBcc: eve@server.example\r\n"
    b"Subject: dots \r\n\tand folds\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)
SMALL: Final = HEAD + b".\r\n..\r\n...three\r\n trailing \t \r\n\r\n" + "déjà vu\r\n".encode() + b"\r\n\r\n"


def large(longest: int) -> bytes:
    """5 MB of random bytes in lines of up to so many, each starting with a dot."""
    noise = os.urandom(5_000_000).translate(bytes.maketrans(b"\0\r\n", b"0.."))
    lengths = random.Random(1)
    lines = []
    at = 0
    while at < len(noise):
        end = at + lengths.randrange(longest)
        lines.append(b"." + noise[at:end])
        at = end
    return HEAD + b"\r\n".join(lines) + b"\r\n"


MAILS: Final = {"small": SMALL, "large": large(998), "long lines": large(20_000)}
TAKEN: Final = {name: MAILS[name] for name in ("small", "large")}
"""aiosmtpd accepts no line above 1,000 bytes."""


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Authority.shared().issue(NAME)


@pytest.fixture(scope="module")
def context(identity: Identity, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(*identity.write(tmp_path_factory.mktemp("tls")))
    return made


@pytest.fixture(scope="module")
def smarthost(identity: Identity) -> Iterator[Postfix]:
    with postfix(identity, "bob", "carl", "dora", "emil", "änne") as running:
        yield running


def trusting() -> dict[str, Any]:
    return {"servername": NAME, "ca": Authority.shared().identity.pem}


def mailer(port: int, **transport: Any) -> dict[str, Any]:
    return {"type": "mailer", "nodemailer": {"host": HOST, "port": port, **transport}}


@pytest.fixture
def through(new_relay: Callable[..., Relay]) -> Callable[..., Relay]:
    """A relay whose only output is a mailer with these options."""

    def start(*outputs: dict[str, Any], **options: Any) -> Relay:
        flows = {
            f"to{number}": {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [output]}
            for number, output in enumerate(outputs)
        }
        relay: Relay = new_relay({"flows": flows, "mailHeaders": {"x-smtp-relay": "1"}}, **options)
        return relay.start()

    return start


def submit(relay: Relay, mail: bytes, sender: str, parameters: str, *recipients: str) -> None:
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command(f"MAIL FROM:<{sender}> {parameters}").code == 250
        for recipient in recipients:
            reply = wire.command(f"RCPT TO:{recipient if '<' in recipient else f'<{recipient}>'}")
            assert reply.code == 250, reply
        assert wire.command("DATA").code == 354
        wire.send(stuffed(mail))
        assert wire.reply().code == 250


def test_postfix(smarthost: Postfix, through: Callable[..., Relay]) -> None:
    """Clear text, STARTTLS, implicit TLS, and logged in: every mail over each."""
    login = {"auth": {"user": "user", "pass": "secret"}}
    relay = through(
        mailer(smarthost.port, ignoreTLS=True),
        mailer(smarthost.port, requireTLS=True, tls=trusting(), pool=True),
        mailer(smarthost.tls_port, secure=True, tls=trusting()),
        mailer(smarthost.auth_port, tls=trusting(), **login),
    )
    for mail in MAILS.values():
        submit(relay, mail, "ann@client.example", "BODY=8BITMIME", BOB)
    arrived = smarthost.arrived("bob", 4 * len(MAILS))
    assert all(b"\r\nDelivered-To: bob@server.example\r\n" in each[:1_000] for each in arrived)
    found = Counter(strip_added_fields(without_trace(each)) for each in arrived)
    assert {name: found[mail] for name, mail in MAILS.items()} == dict.fromkeys(MAILS, 4)
    assert "sasl_method=PLAIN, sasl_username=user" in smarthost.log()
    assert relay.stop() == 0


def test_postfix_takes_parameters_and_international_mail(
    smarthost: Postfix, through: Callable[..., Relay]
) -> None:
    relay = through(mailer(smarthost.port, ignoreTLS=True), dsn=True)
    mail = "From: Änne <änne@server.example>\r\nSubject: schön\r\n\r\nx\r\n".encode()
    submit(
        relay,
        mail,
        f"änne@{DOMAIN}",
        "BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=e1",
        f"<änne@{DOMAIN}> NOTIFY=SUCCESS",
        f"<carl@{DOMAIN}> NOTIFY=NEVER",
    )
    (to_carl,) = smarthost.arrived("carl")
    assert strip_added_fields(without_trace(to_carl)) == mail
    # Postfix was asked for a notice of success for one of them, and delivers it to the sender.
    notice = next(each for each in (smarthost.arrived("änne", 2)) if b"multipart/report" in each)
    assert b"Original-Envelope-Id: e1\r\n" in notice
    assert b"Action: delivered\r\n" in notice
    assert b"carl" not in notice
    assert relay.stop() == 0


def test_postfix_refuses_one(smarthost: Postfix, through: Callable[..., Relay]) -> None:
    """A user that it does not know: the other gets the mail once, and the words are Postfix's."""
    relay = through(mailer(smarthost.port, ignoreTLS=True))
    submit(relay, SMALL, "ann@client.example", "", f"dora@{DOMAIN}", f"nobody@{DOMAIN}")
    (arrived,) = smarthost.arrived("dora")
    assert strip_added_fields(without_trace(arrived)) == SMALL
    (letter,) = wait_for_records(relay, 1)
    assert letter["recipients"] == [f"nobody@{DOMAIN}"]
    assert letter["code"] == "5.1.1"
    assert "User unknown in virtual mailbox table" in letter["reason"]
    assert relay.stop() == 0


@pytest.mark.parametrize("how", ["clear", "starttls", "implicit"])
@pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")
@pytest.mark.parametrize("login", [False, True], ids=["anybody", "login"])
def test_aiosmtpd(through: Callable[..., Relay], context: ssl.SSLContext, how: str, login: bool) -> None:
    starttls = context if how == "starttls" else None
    implicit = context if how == "implicit" else None
    with receiver(starttls=starttls, implicit=implicit, login=login) as server:
        transport = {"secure": how == "implicit", "tls": trusting()}
        if login:
            transport["auth"] = {"user": "user", "pass": "secret"}
        relay = through(mailer(server.port, **transport))
        for number, mail in enumerate(TAKEN.values()):
            submit(relay, mail, "ann@client.example", "BODY=8BITMIME", BOB, f"carl@{DOMAIN}")
            wait_until(lambda: len(server.received) > number, seconds=20, what="the mail")  # noqa: B023
            got = server.received[number]
            assert strip_added_fields(got.content) == mail
            assert (got.reverse_path, got.recipients) == ("ann@client.example", [BOB, f"carl@{DOMAIN}"])
            assert "BODY=8BITMIME" in got.mail_options
            assert got.encrypted == (how != "clear")
            assert got.user == ("user" if login else None)
        assert relay.stop() == 0


def test_override(through: Callable[..., Relay]) -> None:
    with receiver() as server:
        override = {
            "to": "Staging <all@staging.example>",
            "from": "relay@client.example",
            "subject": "geprüft",
        }
        relay = through({**mailer(server.port), "override": override})
        submit(relay, SMALL, "ann@client.example", "", BOB)
        got = only(server)
        assert (got.reverse_path, got.recipients) == ("relay@client.example", ["all@staging.example"])
        edits = (
            b"Subject: =?utf-8?q?gepr=C3=BCft?=\r\nFrom: relay@client.example\r\n"
            b"To: Staging <all@staging.example>\r\n"
        )
        assert got.content.startswith(edits)
        kept = SMALL
        for field in (
            b"From: Ann <ann@client.example>\r\n",
            b"To: Bob <bob@server.example>\r\n",
            b"Subject: dots \r\n\tand folds\r\n",
        ):
            assert field in kept
            kept = kept.replace(field, b"", 1)
        assert strip_added_fields(got.content[len(edits) :]) == kept
        assert relay.stop() == 0


def test_memory_stays_flat(through: Callable[..., Relay], tmp_path: Path) -> None:
    """A 35 MB mail is never held whole."""
    with receiver() as server:
        relay = through(mailer(server.port))
        submit(relay, SMALL, "ann@client.example", "", BOB)
        wait_until(lambda: len(server.received) == 1, seconds=20, what="the first mail")
        relay.reset_peak()
        before = relay.resident()
        mail = HEAD + b"0123456789abcdef\r\n" * 1_950_000
        submit(relay, mail, "ann@client.example", "", BOB)
        wait_until(lambda: len(server.received) == 2, seconds=60, what="the large mail")
        assert strip_added_fields(server.received[1].content) == mail
        assert relay.peak() - before < 12_000_000
        assert relay.stop() == 0


def only(server: Receiver) -> Any:
    wait_until(lambda: bool(server.received), seconds=20, what="the mail")
    (got,) = server.received
    return got
