"""Clients that hold connections, send slowly or read nothing: the inbox still answers others."""

from __future__ import annotations

import concurrent.futures
import contextlib
import smtplib
import socket
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support import process
from tests.support.inbox.client import (
    PATIENCE,
    InboxClient,
    address_of,
    inbox_processes,
    send,
    with_inbox,
)
from tests.support.inbox.mails import mail
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay

SOON = 1.0
"""Seconds that a list may take meanwhile."""


@pytest.fixture
def relay(new_relay: Callable[..., Relay]) -> Relay:
    relay = new_relay(with_inbox()).start()
    with InboxClient(relay) as inbox:
        send(relay, "One")
        inbox.wait_for("One")
    return relay


def connection(relay: Relay, content: bytes = b"", room: int = 0) -> socket.socket:
    """A connection that sends this; `room` is how many bytes it takes before it is read."""
    made = socket.socket()
    if room:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    made.settimeout(PATIENCE)
    made.connect((HOST, urlsplit(address_of(relay)).port))
    made.sendall(content)
    return made


def list_is_quick(relay: Relay) -> None:
    with InboxClient(relay) as inbox:
        for _ in range(3):
            began = time.monotonic()
            assert inbox.page()["total"] >= 1
            assert time.monotonic() - began < SOON


@contextlib.contextmanager
def held(relay: Relay, count: int, content: bytes = b"") -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connection(relay, content)) for _ in range(count)]


@pytest.mark.parametrize("content", [b"", b"GET /api/v1/messages HTTP/1.1\r\nHost: loc"])
def test_1100_silent_connections_keep_no_other_client_out(relay: Relay, content: bytes) -> None:
    with held(relay, 1_100, content) as silent:
        list_is_quick(relay)
        assert silent[0].recv(1) == b""  # the oldest gave way
        (child,) = inbox_processes(relay)
        assert process.open_files(child) < 1_100
    list_is_quick(relay)


@pytest.mark.parametrize(
    "start",
    [
        b"GET /api/v1/messages HTTP/1.1\r\nX-A: ",
        # The second request of a connection is no other.
        b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /livez HTTP/1.1\r\nX-A: ",
    ],
)
def test_a_header_that_comes_byte_by_byte_ends_the_connection(relay: Relay, start: bytes) -> None:
    began = time.monotonic()
    with connection(relay, start) as slow:
        slow.settimeout(0.2)
        while time.monotonic() - began < PATIENCE:
            try:
                slow.sendall(b"x")
                if slow.recv(4_096) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("the connection goes on")
    assert time.monotonic() - began > 5  # a client on a slow line has some seconds
    list_is_quick(relay)


def test_clients_that_read_nothing_of_a_stream_cost_no_other_client(relay: Relay) -> None:
    (child,) = inbox_processes(relay)
    request = b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connection(relay, request, room=1_024))
        before = process.resident(child)
        with smtplib.SMTP(HOST, relay.port) as client:
            for number in range(400):
                client.send_message(mail(f"{number} " + "x" * 500), "env@h.example", ["bob@h.example"])
        list_is_quick(relay)
        with InboxClient(relay) as inbox:
            wait_until(lambda: inbox.page()["total"] == 401, seconds=PATIENCE, what="all mails")
        assert process.resident(child) - before < 60_000_000


def test_a_download_that_is_not_read_holds_no_memory_and_no_thread(relay: Relay) -> None:
    big = mail("big", "text\n")
    big.add_attachment(b"\0" * 12_000_000, maintype="application", subtype="octet-stream")
    send(relay, big)
    with InboxClient(relay) as inbox:
        inbox.wait_for("One", "big")
    (child,) = inbox_processes(relay)
    before = process.resident(child)
    request = b"GET /api/v1/message/latest/raw HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(connection(relay, request, room=1_024))
        list_is_quick(relay)
        assert process.resident(child) - before < 80_000_000  # 60 pieces, and not 60 mails
        with InboxClient(relay) as inbox:  # the threads that read files are free
            assert len(inbox.get("/api/v1/message/latest/raw").content) > 16_000_000


def test_200_that_wait_all_get_their_mail_of_1000(relay: Relay) -> None:
    address = address_of(relay)

    def wait(number: int) -> str:
        query = {"query": f'subject:"mail {number:04d}"', "timeout": "60"}
        reply = httpx.get(f"{address}/api/v1/wait", params=query, timeout=90)
        return str(reply.raise_for_status().json()["Subject"])

    with concurrent.futures.ThreadPoolExecutor(200) as threads:
        waits = [threads.submit(wait, number * 5) for number in range(200)]
        with smtplib.SMTP(HOST, relay.port) as client:
            for number in range(1_000):
                if number % 250 == 0:
                    list_is_quick(relay)
                client.send_message(mail(f"mail {number:04d}"), "env@h.example", ["bob@h.example"])
        list_is_quick(relay)
        assert [each.result(90) for each in waits] == [f"mail {number * 5:04d}" for number in range(200)]
