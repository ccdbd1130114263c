"""Mails whose DNS zones never answer, and what they cost the mails of others."""

from __future__ import annotations

import contextlib
import itertools
import smtplib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest

from tests.support.mails.hungry import hungry
from tests.support.mails.signer import record, rsa_key, sign
from tests.support.net import HOST, wait_until
from tests.support.servers.dns_server import DnsServer
from tests.support.servers.relay import Relay, flow

SILENT: Final = "silent.example"
MAIL: Final = (
    b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: innocent\r\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n\r\nHi Bob\r\n"
)
SPOOFED: Final = b"Subject: spoofed"
ZONE: Final[dict[str, Any]] = {
    "sel._domainkey.example.com": {"TXT": [record(rsa_key())]},
    "example.com": {"TXT": [f"v=spf1 ip4:{HOST} -all"]},
    "_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject"]},
}
MEGABYTE: Final = 1_000_000
EACH: Final = 800_000
"""Bytes of memory for each mail that waits: 170 parsed fields, and its questions."""
MAILS: Final = 100


class Attackers:
    """Connections that send one mail after the other, each with questions of its own."""

    def __init__(self, relay: Relay, addresses: Sequence[str], author: str = "") -> None:
        self._relay = relay
        self._author = author
        self._stopped = threading.Event()
        self._tags = itertools.count()
        self.replies: list[int] = []
        self._threads = [
            threading.Thread(target=self._send, args=(address,), daemon=True) for address in addresses
        ]

    @contextmanager
    def running(self, server: DnsServer) -> Iterator[None]:
        """Attack during the block, which starts when every connection waits for the DNS."""
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(server.queries) > 10 * len(self._threads), seconds=20, what="questions")
        try:
            yield
        finally:
            self._stopped.set()
            for thread in self._threads:
                thread.join(40)

    def _send(self, address: str) -> None:
        with contextlib.suppress(OSError, smtplib.SMTPException):
            while not self._stopped.is_set():
                with smtplib.SMTP(
                    HOST, self._relay.port, "x.example", timeout=40, source_address=(address, 0)
                ) as client:
                    client.ehlo()
                    client.mail(f"x@{SILENT}")
                    client.rcpt("rcpt@receiver.example")
                    mail = hungry(SILENT, f"t{next(self._tags)}", self._author)
                    self.replies.append(client.data(mail.replace(b"Subject: hungry", SPOOFED))[0])


def send(relay: Relay, mail: bytes) -> tuple[int, float]:
    """The code of the reply to an innocent client's mail, and the seconds that all of it took."""
    started = time.monotonic()
    with smtplib.SMTP(HOST, relay.port, "mx.example.com", timeout=60) as client:
        client.ehlo()
        client.mail("ann@example.com")
        client.rcpt("rcpt@receiver.example")
        code, _ = client.data(mail)
    return code, time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize(
    ("connections", "addresses"),
    [(8, 1), (8, 8), (60, 30)],
    ids=["8 of one address", "8 of 8 addresses", "60 of 30 addresses"],
)
def test_zones_that_never_answer_cost_the_mails_of_others_nothing(
    relay_for: Callable[..., Relay], connections: int, addresses: int
) -> None:
    with DnsServer(ZONE) as server:
        server.silent = SILENT
        options = {"resolver": {"nameservers": [HOST], "port": server.port}}
        relay = relay_for({"flows": {"in": flow({"type": "mail-auth", "mailauth": options})}})
        innocent = sign(MAIL)
        for _ in range(3):
            assert send(relay, innocent)[0] == 250
        relay.forget()
        relay.reset_peak()
        before = relay.peak()
        at = [f"127.0.7.{1 + n % addresses}" for n in range(connections)]
        attackers = Attackers(relay, at, author="ann@example.com")
        with attackers.running(server):
            results = [send(relay, innocent) for _ in range(MAILS)]
            grown = relay.peak() - before
        taken = sorted(seconds for _, seconds in results)
        p99 = taken[int(len(taken) * 0.99) - 1]
        print(
            f"{connections} of {addresses}: p50 {taken[50] * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, "
            f"grown {grown / MEGABYTE:.1f} MB"
        )
        assert [code for code, _ in results] == [250] * MAILS
        assert p99 < 2.0
        assert grown < 16 * MEGABYTE + connections * EACH
        assert attackers.replies
        assert set(attackers.replies) <= {451, 550}
        assert not [mail for mail in relay.mails() if SPOOFED in mail]
