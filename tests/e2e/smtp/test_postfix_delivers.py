"""A Postfix with a thousand queued mails delivers them through the relay, over TLS and over LMTP."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import pytest

from tests.support.clients.tls import Authority
from tests.support.mails.stored import strip_added_fields
from tests.support.net import wait_until
from tests.support.servers.postfix_sender import postfix_sender
from tests.support.servers.relay import Relay, flow

COUNT: Final = 1000

CA: Final = Authority.shared()


def numbered(number: int) -> bytes:
    """Small mails mostly, every fiftieth large enough for a file. Postfix has no field to add."""
    head = b"From: ann@client.example\r\nDate: Mon, 5 Jan 2026 10:00:00 +0000\r\n"
    body = (b".line %d\r\n" % number) * (8000 if number % 50 == 0 else 3)
    return head + b"Message-ID: <%d@client.example>\r\nTo: u0@server.example\r\n\r\n" % number + body


def recipients(number: int) -> list[str]:
    """One for most, seven for every tenth, of which every hundredth mail has a refused one."""
    many = [f"u{one}@server.example" for one in range(7 if number % 10 == 0 else 1)]
    return [*many, "refused@server.example"] if number % 100 == 0 else many


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "level"), [("smtp", "secure"), ("lmtp", "none"), ("lmtp", "secure"), ("smtp", "none")]
)
def test_a_thousand_mails(
    new_relay: Callable[..., Relay],
    tmp_path: Path,
    protocol: Literal["smtp", "lmtp"],
    level: Literal["none", "secure"],
) -> None:
    CA.issue("mx.server.example").write(tmp_path)
    to = {"type": "whitelist", "to": [r"regexp:u\d@server\.example"]}
    relay = new_relay(
        {"flows": {"in": flow(to)}},
        lmtp=protocol == "lmtp",
        key=f"file://{tmp_path}/server.key",
        cert=f"file://{tmp_path}/server.pem",
    )
    with postfix_sender(relay.port, protocol=protocol, level=level, authority=CA.identity.pem) as postfix:
        # The next hop is not there yet.
        postfix.queue(map(numbered, range(COUNT)), map(recipients, range(COUNT)))
        # A mail that moves to another queue meanwhile may be listed twice, or not at all.
        wait_until(lambda: postfix.waiting() >= COUNT, seconds=60, what="all mails in the queue", every=0.5)
        relay.start()
        postfix.flush()
        wait_until(
            lambda: not postfix.waiting(), seconds=180, what=f"the queue: {postfix.log()[-3000:]}", every=0.5
        )
        log = postfix.log()
    assert "status=bounced (host 127.0.0.1[127.0.0.1] said: 550 5.7.1" in log
    word = ("ESMTP" if protocol == "smtp" else "LMTP") + ("S" if level == "secure" else "")
    kind = f" with {word} id ".encode()
    found: Counter[int] = Counter()
    for stored in relay.mails():
        assert kind in stored
        number = int(re.search(rb"Message-ID: <(\d+)@", stored)[1])  # type: ignore[index]
        found[number] += 1
        assert below_postfix(strip_added_fields(stored)) == numbered(number)
    # A mail of several recipients may come in parts, never one recipient twice.
    assert set(found) == set(range(COUNT))
    assert set(found.values()) == {1}
    assert relay.stop() == 0
    assert "Traceback" not in relay.log()


def below_postfix(mail: bytes) -> bytes:
    """The mail below Postfix's own Received field."""
    match = re.match(rb"Received: from client\.example (?:[^\r\n]|\r\n[ \t])*\r\n", mail)
    assert match is not None, mail[:300]
    return mail[match.end() :]
