"""Guessers of passwords, and a client that knows its own."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import argon2
import pytest

from tests.support.net import wait_until
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

HASH: Final = argon2.PasswordHasher().hash("secret")
"""A hash as `smtp-relay hash-password` makes it: 64 MiB, some 50 ms of a free core."""

GUESSERS: Final = 100


def plain(username: str, password: str) -> str:
    return "AUTH PLAIN " + base64.b64encode(f"\0{username}\0{password}".encode()).decode()


@pytest.fixture
def relay(new_relay: Make) -> Relay:
    one = new_relay({"flows": {"in": flow({"type": "static-auth", "users": {"bob": HASH, "ann": HASH}})}})
    one.config["options"] |= {"allowInsecureAuth": True, "authOptional": False}
    return one.start()


@contextlib.contextmanager
def guessing(relay: Relay, source: Callable[[int], str], word: Callable[[int, int], str]) -> Iterator[None]:
    """Guessers that go on from connection to connection, each from `source(its number)`; `word(its
    number, how many it tried)` is what it tries."""
    ended = threading.Event()
    tried = [0] * GUESSERS

    def guess(number: int) -> None:
        while not ended.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(
                    ("127.0.0.1", relay.port), timeout=60, source_address=(source(number), 0)
                ) as client,
                client.makefile("rb") as replies,
            ):
                replies.readline()
                client.sendall(b"HELO guess.example\r\n")
                replies.readline()
                while not ended.is_set():
                    client.sendall(plain("bob", word(number, tried[number])).encode() + b"\r\n")
                    tried[number] += 1
                    if not replies.readline().startswith(b"535"):
                        break

    threads = [threading.Thread(target=guess, args=(number,), daemon=True) for number in range(GUESSERS)]
    for thread in threads:
        thread.start()
    wait_until(lambda: all(tried), seconds=30, what="all guessers to have begun")
    try:
        yield
    finally:
        ended.set()
        relay.kill()
        for thread in threads:
            thread.join(30)


def login(
    relay: Relay, password: str = "secret", source: str = "127.0.0.1", username: str = "bob"
) -> tuple[int, float]:
    """The code and the seconds that AUTH took."""
    with (
        socket.create_connection(("127.0.0.1", relay.port), timeout=60, source_address=(source, 0)) as client,
        client.makefile("rb") as replies,
    ):
        replies.readline()
        client.sendall(b"HELO app.example\r\n")
        replies.readline()
        began = time.monotonic()
        client.sendall(plain(username, password).encode() + b"\r\n")
        return int(replies.readline()[:3]), time.monotonic() - began


SOURCES: Final[dict[str, Callable[[int], str]]] = {
    "one address": lambda number: "127.0.0.66",
    "an address each": lambda number: f"127.0.1.{number + 1}",
    "the client's own address": lambda number: "127.0.0.1",
}
WORDS: Final[dict[str, Callable[[int, int], str]]] = {
    "the same word": lambda number, time: "wrong",
    "always another": lambda number, time: f"wrong {number} {time}",
}


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ("one address", "always another"),
        ("an address each", "always another"),
        ("an address each", "the same word"),
        ("the client's own address", "the same word"),
    ],
)
def test_a_right_login_takes_less_than_two_seconds_among_a_hundred_guessers(
    relay: Relay, sources: str, words: str
) -> None:
    """On a machine that does other work too, a login takes longer without guessers as well. A client that
    has logged in before is remembered; the first two logins are of others."""
    bound = max(2.0, 5 * min(login(relay, "wrong", "127.0.2.1")[1] - 0.5 for _ in range(2)))
    with guessing(relay, SOURCES[sources], WORDS[words]):
        for username in ("bob", "ann"):
            code, seconds = login(relay, username=username)
            assert code == 235
            assert seconds < bound, f"{seconds:.2f} s"
        for _ in range(10):
            code, seconds = login(relay)
            assert code == 235
            assert seconds < 2, f"{seconds:.2f} s"


def test_a_wrong_password_of_a_remembered_user_is_refused(relay: Relay) -> None:
    for _ in range(2):
        assert login(relay)[0] == 235
    assert login(relay, "Secret")[0] == 535
    assert login(relay)[0] == 235


def _by_file(folder: Path) -> None:
    (folder / "users").write_text(f"ann:{HASH}\n")


@pytest.mark.parametrize("reload", [False, True])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_revoked_user_fails_at_the_next_login_in_every_worker(
    new_relay: Make, workers: int, reload: bool
) -> None:
    users = {"type": "static-auth", "htpasswd": "{folder}/users"}
    relay = new_relay({"flows": {"in": flow(users)}, "workers": workers})
    relay.config["options"] |= {"allowInsecureAuth": True, "authOptional": False}
    (relay.folder / "users").write_text(f"ann:{HASH}\nbob:{HASH}\n")
    relay.start()
    for _ in range(3 * workers):
        assert login(relay)[0] == 235
    _by_file(relay.folder)
    if reload:
        os.kill(relay.pid, signal.SIGHUP)
        wait_until(
            lambda: relay.log().count("configuration read again") == workers, seconds=20, what="reload"
        )
    for _ in range(2 * workers):
        assert login(relay)[0] == 535


def test_a_user_revoked_in_the_configuration_fails_after_the_reload(new_relay: Make) -> None:
    relay = new_relay(
        {"flows": {"in": flow({"type": "static-auth", "users": {"bob": "file://bob"}})}, "workers": 2}
    )
    relay.config["options"] |= {"allowInsecureAuth": True, "authOptional": False}
    (relay.folder / "bob").write_text(HASH)
    relay.start()
    for _ in range(4):
        assert login(relay)[0] == 235
    (relay.folder / "bob").write_text(argon2.PasswordHasher().hash("another"))
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: relay.log().count("configuration read again") == 2, seconds=20, what="reload")
    for _ in range(4):
        assert login(relay)[0] == 535
    assert login(relay, "another")[0] == 235
