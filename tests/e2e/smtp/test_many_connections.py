"""Two thousand clients at once: none is refused below maxClients, and memory stays small."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients.tls import trusting
from tests.support.clients.wire import Wire, submit
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay

Make = Callable[..., Relay]

CLIENTS: Final = 2000
BUSY: Final = 50
"""Of them, how many send mails while the others stay idle."""

MEGABYTE: Final = 1_000_000

PLAIN_LIMIT: Final = 80 * MEGABYTE
"""Of the whole process."""

TLS_EACH: Final = 30_000
"""Bytes for each idle connection, its TLS included; about 22,000 were measured."""


class Crowd:
    """Clients that stay connected."""

    def __init__(self, port: int, context: ssl.SSLContext | None) -> None:
        self._port = port
        self._context = context
        self.members: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.refused = 0

    async def gather(self, count: int) -> None:
        """Connect, say hello and stay; fifty at a time."""
        gate = asyncio.Semaphore(50)

        async def join() -> None:
            async with gate:
                reader, writer = await asyncio.open_connection(HOST, self._port, ssl=self._context)
                if (await reader.readline())[:3] != b"220":
                    self.refused += 1
                    return
                writer.write(b"EHLO client.example\r\n")
                while (await reader.readline())[3:4] == b"-":
                    pass
                self.members.append((reader, writer))

        await asyncio.gather(*(join() for _ in range(count)))

    async def send(self, rounds: int, senders: int) -> int:
        """Some of them send that many mails each, all at once; returns how many were answered 250."""

        async def mail(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
            taken = 0
            for _ in range(rounds):
                writer.write(b"MAIL FROM:<a@client.example>\r\nRCPT TO:<b@server.example>\r\nDATA\r\n")
                for _ in range(3):
                    await reader.readline()
                writer.write(b"Subject: x\r\n\r\n" + (b"x" * 76 + b"\r\n") * 10 + b".\r\n")
                taken += (await reader.readline())[:3] == b"250"
            return taken

        return sum(await asyncio.gather(*(mail(*member) for member in self.members[:senders])))

    async def leave(self) -> None:
        for _, writer in self.members:
            writer.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def descriptors() -> Any:
    """Of this process: two thousand sockets need more than is usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CLIENTS + 500:
        pytest.skip(f"the system lets a process hold {hard} files only")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CLIENTS + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
async def test_idle_and_under_load(new_relay: Make, secure: bool, record_property: Any) -> None:
    relay = new_relay(secure=secure, maxClients=CLIENTS).start()
    if not secure:
        submit(relay.port, b"Subject: warm\r\n\r\nx\r\n")
    before = relay.resident()
    crowd = Crowd(relay.port, trusting() if secure else None)
    try:
        await crowd.gather(CLIENTS - 1)
        assert crowd.refused == 0, "below maxClients"
        idle = relay.resident()
        assert await crowd.send(40, BUSY) == 40 * BUSY
        busy = relay.resident()
        # One more fits, and then none.
        with Wire(relay.port) as last:
            if not secure:
                assert last.greet().code == 250
                with Wire(relay.port) as late:
                    assert late.reply().code == 421
    finally:
        await crowd.leave()
    each = (idle - before) / CLIENTS
    record_property("octets_per_idle_connection", each)
    record_property("resident", {"before": before, "idle": idle, "busy": busy})
    print(f"before {before}, idle {idle} ({each:.0f} each), after load {busy}")
    if secure:
        assert each < TLS_EACH
    else:
        assert busy < PLAIN_LIMIT, f"{busy / MEGABYTE:.0f} MB"
    wait_until(lambda: len(relay.files()) >= 40 * BUSY, seconds=30, what="all mails")


class Confined(Relay):
    """A relay that the system lets open 150 files."""

    def command(self) -> Sequence[str]:
        return ["sh", "-c", 'ulimit -n 150 && exec "$@"', "sh", *super().command()]


def test_more_clients_than_descriptors(tmp_path: Path) -> None:
    """The system's limit is below maxClients: a warning tells the operator, and the server lives."""
    relay = Confined(tmp_path, maxClients=500).start()
    try:
        assert "enough for about 22 of the 500 clients" in relay.log()
        with contextlib.ExitStack() as stack:
            wires = [stack.enter_context(Wire(relay.port, patience=5)) for _ in range(250)]
            assert sum(map(greeted, wires)) > 22
            used = relay.cpu()
            time.sleep(1)
            assert relay.cpu() - used < 0.5, "it does not run hot meanwhile"
        wait_until(lambda: serves(relay), seconds=10, what="serving again")
        assert "Traceback" not in relay.log()
    finally:
        relay.kill()


def greeted(wire: Wire) -> bool:
    """True if the client gets a greeting."""
    try:
        return wire.reply().code == 220
    except (TimeoutError, ConnectionError):
        return False


def serves(relay: Relay) -> bool:
    """True if a mail gets through."""
    try:
        return submit(relay.port, b"a: b\r\n\r\nx\r\n").code == 250
    except ConnectionError:
        return False
