"""Random bytes and mangled commands against a live server: no traceback, no hang, no growth."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from typing import Final

import pytest

from tests.fuzz.budget import SECONDS
from tests.support.clients.wire import submit
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay, flow

_REPLY: Final = re.compile(rb"(?:[2-5][0-9][0-9][ -][\x20-\x7e\x80-\xff]*\r\n)*\Z")

_WORDS: Final = [
    b"EHLO x",
    b"HELO x",
    b"MAIL FROM:<a@b.example>",
    b"MAIL FROM:<>",
    b"MAIL FROM:<a@b.example> SIZE=9 BODY=8BITMIME SMTPUTF8",
    b"RCPT TO:<b@c.example>",
    b"RCPT TO:<" + b"x" * 300 + b"@c.example>",
    b"DATA",
    b"Subject: x\r\n\r\nbody\r\n.",
    b".",
    b"..",
    b"\n.\n",
    b"RSET",
    b"NOOP",
    b"VRFY x",
    b"HELP",
    b"EXPN x",
    b"QUIT",
    b"STARTTLS",
    b"AUTH PLAIN",
    b"AUTH PLAIN " + b64encode(b"\0user\0pass"),
    b"AUTH PLAIN " + b64encode(b"\0user\0wrong"),
    b"AUTH LOGIN",
    b64encode(b"user"),
    b64encode(b"pass"),
    b"*",
    b"BDAT 5",
    b"XCLIENT ADDR=1.2.3.4",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1",
    b"",
]


def _session(noise: random.Random) -> list[bytes]:
    """The pieces that one client sends."""
    if noise.random() < 0.15:
        return [noise.randbytes(noise.randrange(1, 3000)) for _ in range(noise.randrange(1, 6))]
    lines = []
    if noise.random() < 0.8:
        lines += [b"EHLO fuzz", b"MAIL FROM:<a@b.example>", b"RCPT TO:<b@c.example>"][: noise.randrange(4)]
        if len(lines) == 3 and noise.random() < 0.6:
            lines.append(b"DATA")
    lines += noise.choices(_WORDS, k=noise.randrange(1, 25))
    octets = bytearray()
    for line in lines:
        octets += line + noise.choice([b"\r\n"] * 12 + [b"\n", b"\r", b"", b"\r\r\n", b"\0\r\n"])
    for _ in range(noise.choice([0, 0, 0, 1, 3, 20])):
        at = noise.randrange(len(octets) + 1)
        kind = noise.randrange(4)
        if kind == 0:
            octets[at:at] = noise.randbytes(noise.randrange(1, 20))
        elif kind == 1:
            del octets[at : at + noise.randrange(1, 20)]
        elif kind == 2 and octets:
            octets[min(at, len(octets) - 1)] = noise.randrange(256)
        else:
            octets[at:at] = bytes([noise.randrange(256)]) * noise.choice([10, 1000, 20_000])
    cuts = sorted(noise.randrange(len(octets) + 1) for _ in range(noise.randrange(6)))
    edges = [0, *cuts, len(octets)]
    return [bytes(octets[start:end]) for start, end in itertools.pairwise(edges) if end > start]


def _attack(port: int, noise: random.Random) -> None:
    """One session; every byte that comes back must be part of a well-formed reply."""
    answers = bytearray()
    with socket.create_connection((HOST, port), timeout=10) as client:
        with contextlib.suppress(ConnectionError):
            for piece in _session(noise):
                client.sendall(piece)
                if noise.random() < 0.3:
                    client.settimeout(0.01)
                    with contextlib.suppress(TimeoutError):
                        answers += client.recv(65536)
                    client.settimeout(10)
        ending = noise.random()
        if ending < 0.2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
            return
        client.settimeout(0.05)
        with contextlib.suppress(ConnectionError, TimeoutError):
            while octets := client.recv(65536):
                answers += octets
    complete = answers[: answers.rfind(b"\n") + 1]
    assert _REPLY.match(complete), f"not replies: {bytes(complete)!r}"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["normalize", "refuse"])
def test_random_sessions(new_relay: Callable[..., Relay], mode: str) -> None:
    static = {"type": "static-auth", "username": "user", "password": "plain:pass"}
    here = {"type": "whitelist", "ips": [HOST]}
    relay = new_relay(
        {
            "spool": {"url": "file://{folder}/spool", "durability": "none"},
            "flows": {"all": flow(here), "auth": flow(here, static)},
        },
        allowInsecureAuth=True,
        bareNewline=mode,
        socketTimeout=5000,
        size=2_000_000,
    ).start()
    seed = int(os.environ.get("FUZZ_SEED", random.SystemRandom().randrange(2**32)))
    print(f"FUZZ_SEED={seed} ({mode})")
    deadline = time.monotonic() + SECONDS / 2
    faults: list[BaseException] = []
    sessions = [0]

    def fuzz(number: int) -> None:
        noise = random.Random(f"{seed}-{mode}-{number}")
        try:
            while time.monotonic() < deadline and not faults:
                _attack(relay.port, noise)
                sessions[0] += 1
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=fuzz, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    settled = 0
    checked = time.monotonic()
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        assert submit(relay.port, b"Subject: probe\r\n\r\nx\r\n").code == 250
        assert time.monotonic() - began < 5, "the server hangs"
        if not settled and time.monotonic() - checked > SECONDS / 6:
            settled = relay.resident()  # after the warm-up: caches are filled
        if len(relay.files()) > 2000:
            relay.forget()
        time.sleep(0.1)
    assert not faults, f"FUZZ_SEED={seed}: {faults[0]!r}"
    assert relay.alive
    log = relay.log()
    at = log.find("Traceback")
    assert at < 0, f"FUZZ_SEED={seed}:\n{log[max(0, at - 500) : at + 4000]}"
    grown = relay.resident() - settled
    print(f"{sessions[0]} sessions, resident {settled / 1e6:.1f} MB, then {grown / 1e6:+.1f} MB")
    assert grown < 6_000_000, f"FUZZ_SEED={seed}: grew by {grown / 1e6:.1f} MB"
    wait_until(lambda: relay.open_files() < 60, seconds=15, what="descriptors closed")
    assert not [path for path in relay.spool.rglob("*.eml") if path.is_file()], "captures left behind"
