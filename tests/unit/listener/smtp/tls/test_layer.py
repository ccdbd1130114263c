"""TLS over a transport: every cut of the bytes, both directions, every way to end."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from listener.smtp.tls.layer import CHUNK, MAX_UNSENT, TlsLayer
from tests.support.clients.tls import Authority, trusting


class Below:
    """A transport that keeps the written bytes, as asyncio's would while the client does not read."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.protocol: Any = None
        self.ended = self.closed = self.aborted = False
        self.paused = False
        self.unsent = 0

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        assert not self.ended
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.ended = self.closed = True

    def abort(self) -> None:
        self.ended = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("192.0.2.1", 5)}.get(name, default)

    def take(self) -> bytes:
        taken = bytes(self.written)
        self.written.clear()
        return taken


class Above:
    """A connection that keeps its events."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.events: list[str] = []
        self.keep_open = False
        self.layer: TlsLayer
        self.answer = b""
        self.close_at_ready = False

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> bool | None:
        self.events.append("eof")
        return self.keep_open

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append("lost")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def ready(self, tls: ssl.SSLObject) -> None:
        self.events.append("ready")
        self.layer.write(self.answer)
        if self.close_at_ready:
            self.layer.close()

    def failed(self, reason: str) -> None:
        self.events.append(f"failed {reason}")


def server_context() -> ssl.SSLContext:
    global _CONTEXT
    if _CONTEXT is None:
        _CONTEXT = _made_context()
    return _CONTEXT


_CONTEXT: ssl.SSLContext | None = None


def _made_context() -> ssl.SSLContext:
    import tempfile
    from pathlib import Path

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        context.load_cert_chain(*Authority.shared().issue().write(Path(folder)))
    return context


class Pair:
    """A server's layer and a client, with the bytes between them in the test's hands."""

    def __init__(self, client: ssl.SSLContext | None = None) -> None:
        self.below, self.above = Below(), Above()
        self.layer = self.above.layer = TlsLayer(self.above, self.below, server_context(), self.above)
        assert self.below.protocol is self.layer
        self.to_client, self.from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = (client or trusting()).wrap_bio(
            self.to_client, self.from_client, server_hostname="mx.server.example"
        )

    def feed(self, octets: bytes, cut: int | Iterable[int] | None = None) -> None:
        """To the server, in pieces."""
        if cut is None:
            self.layer.data_received(octets)
            return
        cuts = range(cut, len(octets), cut) if isinstance(cut, int) else sorted(cut)
        start = 0
        for end in (*cuts, len(octets)):
            if start < end <= len(octets):
                self.layer.data_received(octets[start:end])
                start = end

    def shake(self, cut: int | None = None) -> None:
        for _ in range(6):
            try:
                self.client.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            self.feed(self.from_client.read(), cut)
            self.to_client.write(self.below.take())
            if done and "ready" in self.above.events:
                return
        raise AssertionError("no handshake")

    def say(self, data: bytes, cut: int | Iterable[int] | None = None) -> None:
        sent = 0
        while sent < len(data):
            sent += self.client.write(data[sent:])
        self.feed(self.from_client.read(), cut)

    def hear(self) -> bytes:
        self.to_client.write(self.below.take())
        heard = b""
        try:
            while piece := self.client.read(65536):
                heard += piece
        except ssl.SSLWantReadError:
            pass
        return heard


@pytest.mark.parametrize("cut", [None, 1, 2, 7, 100])
def test_bytes_both_ways_in_pieces_of_any_size(cut: int | None) -> None:
    pair = Pair()
    pair.above.answer = b"220 hello\r\n"
    pair.shake(cut)
    assert pair.hear() == b"220 hello\r\n"
    pair.say(b"EHLO client.example\r\n", cut)
    pair.say(b"NOOP\r\n" * 1000, cut)
    assert pair.above.received == b"EHLO client.example\r\n" + b"NOOP\r\n" * 1000
    pair.layer.write(b"x" * 100_000)
    assert pair.hear() == b"x" * 100_000


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=40_000), min_size=1, max_size=4),
    st.lists(st.integers(0, 200_000), max_size=8),
)
def test_any_cut_of_any_bytes(said: list[bytes], cuts: list[int]) -> None:
    pair = Pair()
    pair.shake()
    pair.say(b"".join(said), cuts)
    assert pair.above.received == b"".join(said)


def test_a_large_read_is_passed_on_whole() -> None:
    pair = Pair()
    pair.shake()
    data = bytes(range(256)) * 4096
    pair.say(data)
    assert pair.above.received == data
    assert len(data) > CHUNK


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(version: ssl.TLSVersion) -> None:
    context = trusting()
    context.maximum_version = context.minimum_version = version
    pair = Pair(context)
    pair.shake()
    pair.say(b"x")
    assert pair.above.received == b"x"
    assert pair.layer.get_extra_info("ssl_object").version() == version.name.replace("_", ".")
    assert pair.layer.get_extra_info("peername") == ("192.0.2.1", 5)


@pytest.mark.parametrize(
    "octets",
    [
        b"EHLO client.example\r\n" * 10,
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + bytes(70000),
        b"\0" * 9,
    ],
)
@pytest.mark.parametrize("cut", [None, 1])
def test_what_is_no_handshake_ends_it(octets: bytes, cut: int | None) -> None:
    pair = Pair()
    pair.feed(octets, cut)
    assert pair.below.closed
    assert len(pair.above.events) == 1
    assert pair.above.events[0].startswith("failed ")
    pair.layer.connection_lost(None)
    assert pair.above.events[1:] == ["lost"]


def test_forged_records_end_it() -> None:
    pair = Pair()
    pair.shake()
    pair.say(b"one")
    pair.client.write(b"two")
    forged = bytearray(pair.from_client.read())
    forged[-1] ^= 1
    pair.feed(bytes(forged))
    assert pair.above.received == b"one"
    assert pair.below.closed
    pair.feed(b"more")
    pair.layer.write(b"never sent")


def test_the_clients_goodbye() -> None:
    pair = Pair()
    pair.shake()
    pair.client.write(b"QUIT\r\n")
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.feed(pair.from_client.read())
    assert pair.above.received == b"QUIT\r\n"
    assert pair.above.events == ["ready", "eof"]
    assert pair.below.closed


def test_a_client_that_only_stops_talking_still_hears() -> None:
    pair = Pair()
    pair.above.keep_open = True
    pair.shake()
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.feed(pair.from_client.read())
    assert not pair.below.closed
    pair.layer.write(b"250 still here\r\n")
    assert pair.below.take()
    pair.layer.close()
    assert pair.below.closed


@pytest.mark.parametrize("ready", [False, True])
def test_the_end_of_the_connection(ready: bool) -> None:
    pair = Pair()
    if ready:
        pair.shake()
    assert not pair.layer.eof_received()
    assert ("eof" in pair.above.events) is ready
    pair.layer.connection_lost(None)
    assert pair.above.events[-1] == "lost"


def test_close_says_goodbye_and_nothing_after_it() -> None:
    pair = Pair()
    pair.shake()
    pair.layer.write(b"221 bye\r\n")
    pair.layer.close()
    assert pair.layer.is_closing()
    assert pair.below.closed
    assert pair.hear() == b"221 bye\r\n"
    assert pair.client.read(10) == b"", "close_notify came"


def test_half_closed_it_reports_that_bytes_come() -> None:
    """Counts the bytes that a lingering connection drops."""
    pair = Pair()
    pair.shake()
    pair.layer.write(b"554 no\r\n")
    pair.layer.write_eof()
    assert pair.below.ended
    assert not pair.below.closed
    pair.say(b"x" * 1000)
    assert len(pair.above.received) >= 1000


def test_closed_by_the_connection_in_the_middle_of_it() -> None:
    pair = Pair()
    pair.above.close_at_ready = True
    pair.client.context.maximum_version = ssl.TLSVersion.TLSv1_3
    pair.shake()
    pair.say(b"x" * 100_000)
    assert pair.below.closed


def test_nothing_is_sent_in_clear_before_the_handshake() -> None:
    pair = Pair()
    pair.layer.write(b"421 4.4.2 Timed out\r\n")
    pair.layer.close()
    assert pair.below.written == b""
    assert pair.below.closed


def test_a_client_that_makes_tls_talk_and_never_listens() -> None:
    pair = Pair()
    pair.shake()
    pair.below.unsent = MAX_UNSENT + 1
    # OpenSSL does not answer a close_notify or an application record. Python cannot send a key
    # update, so bytes queued by hand replace one.
    pair.layer._outgoing.write(b"key update")
    pair.say(b"x")
    assert pair.below.aborted


def test_flow_control_goes_through() -> None:
    pair = Pair()
    pair.shake()
    pair.layer.pause_writing()
    pair.layer.resume_writing()
    assert pair.above.events[-2:] == ["pause", "resume"]
    pair.layer.pause_reading()
    assert pair.below.paused
    pair.layer.resume_reading()
    assert not pair.below.paused
    assert pair.layer.can_write_eof()
    pair.layer.abort()
    assert pair.below.aborted
