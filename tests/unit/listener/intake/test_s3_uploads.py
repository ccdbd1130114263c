"""PUTs over the event loop's own connections: the answers, whole and broken, and the connections' ends."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from listener.intake.s3_credentials import AwsKeys, CredentialSource
from listener.intake.s3_signature import S3Signature
from listener.intake.s3_uploads import BucketAddress, S3Uploads
from tests.support.clients.tls import Authority
from tests.support.net import HOST

KEYS = AwsKeys("K", "s")
OK = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n'
HOME = "localhost"
Outcome = tuple[int, str]


class Store:
    """A server that answers each request with the next of `answers`, then with OK. An answer is bytes, whose
    last None closes the connection."""

    def __init__(self) -> None:
        self.port = 0
        self.answers: list[tuple[bytes | None, ...]] = []
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = 0
        self.writers: list[asyncio.StreamWriter] = []
        self.server: asyncio.Server

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        self.server = await asyncio.start_server(self._serve, HOST, 0, ssl=context)
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
        await until(lambda: self.ended == self.connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(size))
                for piece in self.answers.pop(0) if self.answers else (OK,):
                    if piece is None:
                        return
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0.001)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self.ended += 1


Make = Callable[..., S3Uploads]


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    made = Store()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def uploads(store: Store) -> AsyncIterator[Make]:
    made: list[S3Uploads] = []

    def make(port: int = 0, host: str = HOST, secure: bool = False, timeout: float = 5.0) -> S3Uploads:
        address = BucketAddress(host, port or store.port, secure, "/mail/", 5.0, timeout)
        signature = S3Signature(f"{HOST}:{store.port}", "eu-west-1", {"content-type": "message/rfc822"})
        made.append(S3Uploads(address, signature, CredentialSource(lambda: KEYS, KEYS)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def begun(uploads: S3Uploads, body: bytes = b"mail") -> asyncio.Future[Outcome]:
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    assert uploads.put("a.eml", body, lambda *outcome: done.set_result(outcome))
    return done


async def put(uploads: S3Uploads, body: bytes = b"mail") -> Outcome:
    return await asyncio.wait_for(begun(uploads, body), 10)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_one_connection_carries_many(store: Store, uploads: Make) -> None:
    made = uploads()
    for number in range(20):
        assert await put(made, b"%d" % number) == (200, "")
    assert store.connections == 1
    assert [request.rpartition(b"\r\n\r\n")[2] for request in store.requests] == [
        b"%d" % number for number in range(20)
    ]


async def test_many_at_a_time_have_connections_of_their_own(store: Store, uploads: Make) -> None:
    made = uploads()
    assert set(await asyncio.gather(*[put(made, b"x" * 50_000) for _ in range(10)])) == {(200, "")}
    assert store.connections == 10
    assert set(await asyncio.gather(*[put(made) for _ in range(10)])) == {(200, "")}
    assert store.connections == 10


SLOW = b"HTTP/1.1 503 Slow\r\ncontent-length:%d\r\n\r\n"
ERROR = b"<Error><Code>SlowDown</Code><Message>secret</Message></Error>"


@pytest.mark.parametrize(
    ("pieces", "outcome", "stays"),
    [
        ([OK[at : at + 1] for at in range(len(OK))], (200, ""), True),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], (200, ""), True),
        ([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Wait\r\nA: b\r\n\r\n" + OK], (200, ""), True),
        (
            [b"HTTP/1.1 503 Slow\r\ncontent-length:%d\r\n\r\n" % len(ERROR), ERROR],
            (503, "status 503 SlowDown"),
            True,
        ),
        ([b"HTTP/1.1 412 No\r\nContent-Length: 0\r\n\r\n"], (412, "status 412"), True),
        (
            [b"HTTP/1.1 307 There\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n"],
            (307, "status 307"),
            True,
        ),
        ([OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")], (200, ""), False),
        ([OK.replace(b"HTTP/1.1", b"HTTP/1.0")], (200, ""), False),
        ([OK.replace(b"Content-Length: 0", b"Transfer-Encoding: chunked"), b"0\r\n\r\n"], (200, ""), False),
        ([OK.replace(b"Content-Length: 0", b"A: b")], (200, ""), False),
        ([OK.replace(b"Content-Length: 0", b"Content-Length: 0\r\nContent-Length: 5")], (200, ""), False),
        ([OK.replace(b"Length: 0", b"Length: 999999999")], (200, ""), False),
        ([OK + b"HTTP/1.1 200 OK\r\n"], (200, ""), False),
        ([OK.replace(b"ETag", b"X")], (0, "status 200 without an ETag"), False),
        ([b"SSH-2.0\r\n\r\n"], (0, "the answer is not HTTP"), False),
        ([b"HTTP/1.1 OK\r\n\r\n"], (0, "the answer is not HTTP"), False),
        ([b"HTTP/1.1 200 OK\r\nA: " + b"a" * 200_000], (0, "the answer has no end"), False),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" * 9_000], (0, "the answer has no end"), False),
        ([None], (0, "the connection ended: closed"), False),
        ([OK[:20], None], (0, "the connection ended: closed"), False),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, list) else "",
)
async def test_an_answer(
    store: Store, uploads: Make, pieces: list[bytes | None], outcome: Outcome, stays: bool
) -> None:
    store.answers = [tuple(pieces)]
    made = uploads()
    assert await put(made) == outcome
    assert await put(made) == (200, "")
    assert store.connections == (1 if stays else 2)


async def test_an_answer_that_was_not_asked_for_ends_the_connection(store: Store, uploads: Make) -> None:
    made = uploads()
    assert await put(made) == (200, "")
    store.writers[0].write(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    await until(lambda: store.ended == 1)
    store.answers = [(b"HTTP/1.1 412 No\r\nContent-Length: 0\r\n\r\n",)]
    assert (await put(made))[0] == 412, "the new answer counts"
    assert store.connections == 2


async def test_a_connection_that_the_server_ended_is_not_used_again(store: Store, uploads: Make) -> None:
    made = uploads()
    store.answers = [(OK, None)]
    assert await put(made) == (200, "")
    await until(lambda: not made._idle)
    assert await put(made) == (200, "")
    assert store.connections == 2


async def test_a_connection_that_ends_at_its_next_use_is_replaced(store: Store, uploads: Make) -> None:
    made = uploads()
    assert await put(made) == (200, "")
    store.answers = [(None,)]
    assert await put(made) == (200, "")
    assert (store.connections, len(store.requests)) == (2, 3)
    store.answers = [(b"HTTP/1.1 200", None)]
    assert await put(made) == (0, "the connection ended: closed"), "an answer began"
    store.answers = [(None,)]
    assert await put(made) == (0, "the connection ended: closed"), "the connection is new"


async def test_an_answer_that_takes_too_long(store: Store, uploads: Make) -> None:
    made = uploads(timeout=0.2)
    store.answers = [(b"HTTP/1.1 200 OK\r\n",)]
    assert await put(made) == (0, "no answer within 0.2 s")
    await until(lambda: store.ended == 1)
    assert await put(made) == (200, "")


async def test_an_answer_before_the_request_is_sent_ends_the_connection(store: Store, uploads: Make) -> None:
    """What is still to be sent would begin the next request."""

    class Early(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            transport.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            transports.append(transport)

    transports: list[asyncio.Transport] = []
    server = await asyncio.get_running_loop().create_server(Early, HOST, 0)
    made = uploads(server.sockets[0].getsockname()[1])
    assert await put(made, b"x" * 20_000_000) == (503, "status 503")
    assert not made._idle
    server.close()
    transports[0].abort()


async def test_without_a_connection_it_rests_and_obstore_works(store: Store, uploads: Make) -> None:
    made = uploads()
    store.server.close()
    status, reason = await put(made)
    assert (status, reason.partition(":")[0]) == (0, "no connection")
    assert not made.put("a.eml", b"mail", lambda *outcome: None)
    await store.start()
    made._rests_until = 0.0
    made.address = made.address._replace(port=store.port)
    assert await put(made) == (200, "")


async def test_without_credentials_it_does_not_begin(uploads: Make) -> None:
    made = uploads()

    def fetch() -> AwsKeys:
        raise OSError("down")

    made._source = CredentialSource(fetch)
    assert not made.put("a.eml", b"mail", lambda *outcome: None)


async def test_connections_above_the_need_end(
    store: Store, uploads: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = uploads()
    await asyncio.gather(*[put(made) for _ in range(5)])
    made.tick()
    assert len(made._idle) == 5
    for connection in list(made._idle)[:4]:
        connection.idle_since -= 100
    made.tick()
    await until(lambda: store.ended == 4)
    assert await put(made) == (200, "")
    assert store.connections == 5


async def test_closing_gives_up_what_is_under_way(store: Store, uploads: Make) -> None:
    made = uploads()
    store.answers = [(b"HTTP/1.1",)]
    waiting = begun(made)
    await until(lambda: len(store.requests) == 1)
    opening = begun(made)
    await made.drain(0.05)
    assert not waiting.done()
    made.close()
    assert waiting.result() == (0, "stopped")
    if opening.result() != (200, ""):
        assert opening.result() == (0, "stopped")
    await until(lambda: store.ended == store.connections)


async def test_draining_waits_for_what_is_under_way(store: Store, uploads: Make) -> None:
    made = uploads()
    waiting = [begun(made) for _ in range(3)]
    await made.drain(10)
    assert [each.result() for each in waiting] == [(200, "")] * 3
    await made.drain(10)


@pytest.mark.parametrize(
    ("trusted", "name"), [(True, "localhost"), (True, "other.example"), (False, "localhost")]
)
async def test_the_servers_certificate_is_checked(
    uploads: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool, name: str
) -> None:
    authority = Authority.shared()
    certificate, key = authority.issue(name).write(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if trusted:
        (tmp_path / "ca.pem").write_text(authority.identity.pem)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    store = Store()
    await store.start(context)
    made = uploads(store.port, HOME, secure=True)
    status, reason = await put(made)
    if trusted and name == HOME:
        assert status == 200
        assert await put(made) == (200, "")
        assert store.connections == 1
    else:
        assert status == 0
        assert "certificate" in reason.lower()
        assert not store.requests
    made.close()
    await store.stop()
