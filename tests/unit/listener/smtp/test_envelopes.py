"""The envelope's facts about the connection: a listener in this process, a spool that keeps envelopes,
and clients on real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from functions.message.envelope import Envelope, from_json
from functions.message.headers import HeaderEdits
from functions.message.mail import Content
from functions.options.secrets import SecretResolver
from listener.api.decision import ACCEPT, Reply
from listener.config.listeners import Listener
from listener.config.smtp import SmtpOptions
from listener.flows.flow import ConnectionState, Flow, Flows
from listener.intake.accept import Acceptor
from listener.intake.capture import Capture
from listener.intake.refusals import Refusals
from listener.intake.stamp import Intake
from listener.logs import mail_log
from listener.logs.format import TextFormat
from listener.logs.handlers import RotatingHandler
from listener.monitoring.events import Events
from listener.smtp.commands import verbs_of
from listener.smtp.connection.machine import Connection
from listener.smtp.connection_limits import ConnectionLimits, LocalCounters
from listener.smtp.endpoint import Endpoint
from listener.smtp.tls.context import ServerTls
from tests.support.clients.tls import Authority, encrypt, starttls
from tests.support.clients.wire import Wire
from tests.support.net import HOST
from tests.support.scripted import Scripted

CA = Authority.shared()


class Kept:
    """A spool that keeps envelopes."""

    hashes = True

    def __init__(self, folder: Path) -> None:
        self.capture_folder = folder
        self.envelopes: list[Envelope] = []

    def store(self, envelope: Envelope, content: Content, answered: Callable[[Reply], None]) -> None:
        self.envelopes.append(envelope)
        answered(Reply(250, "2.0.0", "kept"))

    def tick(self) -> None: ...

    def full(self) -> bool:
        return False

    async def probe(self) -> None: ...

    async def stop(self, timeout: float) -> None: ...


class Stages(Events):
    """Remembers the reported stages."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float]] = []
        self.open = 0

    def stage(self, stage: Any, seconds: float) -> None:
        self.stages.append((stage, seconds))

    def connection_opened(self, listener: str) -> None:
        self.open += 1

    def connection_closed(self, listener: str, seconds: float) -> None:
        self.open -= 1


class Running:
    """An endpoint that is listened on."""

    def __init__(self, spool: Kept, port: int, observer: Stages) -> None:
        self._spool = spool
        self.port = port
        self.observer = observer

    async def talk(self, client: Callable[[Wire], None]) -> Envelope:
        """Let a client deliver one mail; its envelope."""

        def run() -> None:
            with Wire(self.port) as wire:
                client(wire)

        await asyncio.to_thread(run)
        async with asyncio.timeout(5):
            while self.observer.open:
                await asyncio.sleep(0.01)
        return self._spool.envelopes.pop()


@asynccontextmanager
async def listening(folder: Path, **options: Any) -> AsyncIterator[Running]:
    loop = asyncio.get_running_loop()
    listener = Listener("edge", HOST, 0, SmtpOptions.model_validate({"authOptional": True, **options}))
    filters = (Scripted(connect=ACCEPT, auth=ACCEPT, checks=False),)
    flows = Flows([Flow("in", filters, "OR")], auth_optional=True)
    intake = Intake(
        folder,
        HeaderEdits({}),
        hostname="mx.server.example",
        received=True,
        max_size=1_000_000,
        max_header=100_000,
        config_digest="abc",
    )
    spool, observer = Kept(folder), Stages()
    tls = ServerTls(listener.options, "mx.server.example", SecretResolver(folder, {}), "options")
    refusals = Refusals("edge", observer, log_addresses=False)
    endpoint = Endpoint(
        listener,
        flows,
        Acceptor(intake, spool, refusals, observer, loop),
        ConnectionLimits(LocalCounters(), 0, 0),
        verbs=verbs_of(listener.options),
        hostname="mx.server.example",
        tls=tls,
    )
    server = await loop.create_server(lambda: Connection(endpoint), HOST, 0)
    async with server:
        yield Running(spool, server.sockets[0].getsockname()[1], observer)


def deliver(wire: Wire, mail: str = "", rcpt: str = "") -> None:
    assert wire.command(f"MAIL FROM:<a@client.example>{mail}").code == 250
    assert wire.command(f"RCPT TO:<b@server.example>{rcpt}").code == 250
    assert wire.command("DATA").code == 354
    wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
    assert wire.reply().code == 250


async def test_plain(tmp_path: Path) -> None:
    def client(wire: Wire) -> None:
        wire.greet("me.client.example")
        deliver(wire)

    async with listening(tmp_path) as running:
        envelope = await running.talk(client)
    assert (envelope.helo, envelope.transmission, envelope.listener) == ("me.client.example", "ESMTP", "edge")
    assert (envelope.client.ip, envelope.client.name) == (HOST, f"[{HOST}]")
    assert envelope.server == f"{HOST}:{running.port}"
    assert envelope.tls is None
    assert envelope.forwarded is None
    assert list(envelope.model_dump()) == list(Envelope.model_fields)
    assert from_json(envelope.to_json()).model_dump() == envelope.model_dump(), "every field has its value"


async def test_a_line_that_another_part_holds_does_not_delay_that_of_a_mail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged, ours = tmp_path / "smtp.log", logging.getLogger("smtp_relay")

    def client(wire: Wire) -> None:
        wire.greet()
        mail_log.info(logging.getLogger("smtp_relay.mailauth"), "mail authenticated", {"spf": "pass"})
        deliver(wire)
        lines = logged.read_text().splitlines()[-2:]
        assert [" ".join(line.split()[4:6]) for line in lines] == ["mail authenticated", "mail accepted"]

    handler = RotatingHandler(logged, 0)
    handler.setFormatter(TextFormat())
    monkeypatch.setattr(ours, "handlers", [handler])
    monkeypatch.setattr(ours, "propagate", False)
    level = ours.level
    ours.setLevel(logging.INFO)
    try:
        async with listening(tmp_path) as running:
            await running.talk(client)
    finally:
        handler.close()
        ours.setLevel(level)


@pytest.mark.parametrize("implicit", [True, False])
async def test_tls_and_the_clients_certificate(tmp_path: Path, implicit: bool) -> None:
    own, certificate = CA.issue(), CA.issue("relay.client.example").write(tmp_path, "client")

    def client(wire: Wire) -> None:
        context = CA.context(certificate)
        if implicit:
            encrypt(wire, context)
            wire.greet()
        else:
            wire.greet("liar.example")
            starttls(wire, context)
            wire.command("EHLO client.example")
        deliver(wire)

    options = {"key": own.key_pem(), "cert": own.pem, "ca": CA.identity.pem, "requestCert": True}
    async with listening(tmp_path, secure=implicit, **options) as running:
        envelope = await running.talk(client)
    assert envelope.transmission == "ESMTPS"
    assert envelope.helo == "client.example"
    assert envelope.tls is not None
    assert envelope.tls.version == "TLSv1.3"
    assert envelope.tls.cipher.startswith("TLS_")
    assert envelope.tls.client_subject == "CN=relay.client.example"
    ((stage, seconds),) = [one for one in running.observer.stages if one[0] == "tls"]
    assert stage == "tls"
    assert 0 < seconds < 5


async def test_a_proxy_and_its_addresses(tmp_path: Path) -> None:
    packed = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + socket.inet_pton(
        socket.AF_INET6, "2001:db8::1"
    )
    header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24" + packed + b"\x10\x00\x00\x19"

    def client(wire: Wire) -> None:
        wire.send(header)
        wire.greet()
        deliver(wire)

    async with listening(tmp_path, useProxy=True) as running:
        envelope = await running.talk(client)
    assert (envelope.client.ip, envelope.client.port) == ("2001:db8::7", 4096)
    assert envelope.client.name == "[2001:db8::7]"
    assert envelope.server == "[2001:db8::1]:25"


async def test_xclient(tmp_path: Path) -> None:
    def client(wire: Wire) -> None:
        wire.greet("proxy.example")
        attributes = "ADDR=192.0.2.7 PORT=4000 NAME=Mail.example HELO=real.example PROTO=ESMTP"
        assert wire.command(f"XCLIENT {attributes} DESTADDR=198.51.100.1 DESTPORT=587 LOGIN=bob").code == 220
        deliver(wire)

    async with listening(tmp_path, useXClient=True) as running:
        envelope = await running.talk(client)
    assert (envelope.client.ip, envelope.client.port, envelope.client.name) == (
        "192.0.2.7",
        4000,
        "mail.example",
    )
    assert (envelope.helo, envelope.user, envelope.transmission) == ("real.example", "bob", "ESMTPA")
    assert envelope.server == "198.51.100.1:587"


async def test_xforward(tmp_path: Path) -> None:
    forwarded: list[dict[str, str] | None] = []

    def client(wire: Wire) -> None:
        wire.greet()
        wire.command("XFORWARD NAME=spike.example ADDR=192.0.2.9 PORT=[UNAVAILABLE]")
        wire.command("XFORWARD IDENT=4F5+2B SOURCE=REMOTE")
        deliver(wire)

    def again(wire: Wire) -> None:
        client(wire)
        deliver(wire)

    def given_up(wire: Wire) -> None:
        wire.greet()
        wire.command("XFORWARD NAME=spike.example")
        wire.command("EHLO client.example")
        deliver(wire)

    async with listening(tmp_path, useXForward=True) as running:
        for one in (client, again, given_up):
            forwarded.append((await running.talk(one)).forwarded)
    told = {"name": "spike.example", "addr": "192.0.2.9", "ident": "4F5+", "source": "REMOTE"}
    assert forwarded == [told, None, None], "they are for the next mail only"


async def test_delivery_status_parameters(tmp_path: Path) -> None:
    def client(wire: Wire) -> None:
        wire.greet()
        deliver(
            wire,
            " ret=full ENVID=QQ+2Bx BODY=8bitmime",
            " notify=failure,delay ORCPT=rfc822;b+2Bx@server.example",
        )

    async with listening(tmp_path, dsn=True) as running:
        envelope = await running.talk(client)
    assert envelope.parameters == ("RET=FULL", "ENVID=QQ+2Bx", "BODY=8BITMIME")
    assert envelope.recipients[0].parameters == ("NOTIFY=FAILURE,DELAY", "ORCPT=rfc822;b+2Bx@server.example")


async def test_lmtp(tmp_path: Path) -> None:
    def client(wire: Wire) -> None:
        wire.greet(verb="LHLO")
        deliver(wire)

    async with listening(tmp_path, lmtp=True) as running:
        assert (await running.talk(client)).transmission == "LMTP"


FAULTS = {
    "while bytes come in": lambda patch: patch.setattr(Capture, "feed", _raise),
    "when the last byte came": lambda patch: patch.setattr(Capture, "finish", _raise),
    "when the flows are asked": lambda patch: patch.setattr(ConnectionState, "data", _raise),
    "while the flows are waited for": lambda patch: patch.setattr(ConnectionState, "data", _raise_later),
    "while the envelope is written": lambda patch: patch.setattr(Intake, "envelope", _raise),
    "while it is stored": lambda patch: patch.setattr(Kept, "store", _raise),
}


def _raise(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a fault of ours")


async def _raise_later(*_: Any) -> Any:
    raise RuntimeError("a fault of ours")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("lmtp", [True, False])
async def test_a_fault_during_data_is_answered_for_each_recipient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str, lmtp: bool
) -> None:
    """RFC 2033 section 4.2: LMTP has one reply for each recipient, SMTP one for the mail."""
    async with listening(tmp_path, lmtp=lmtp) as running:

        def client() -> list[int]:
            with Wire(running.port) as wire:
                wire.greet(verb="LHLO" if lmtp else "EHLO")
                wire.envelope("a@client.example", "b@server.example", "c@server.example", "d@server.example")
                FAULTS[fault](monkeypatch)
                wire.send(b"a: b\r\n\r\nx\r\n.\r\n")
                codes = [wire.reply().code for _ in range(3 if lmtp else 1)]
                assert wire.silent() or wire.rest() == b""
                return codes

        assert await asyncio.to_thread(client) == [451] * (3 if lmtp else 1)
