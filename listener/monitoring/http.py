"""A very small HTTP server for probes and scrapes: GET and HEAD, one answer per connection.

Everything that a stranger controls has a bound: bytes of the request, seconds for the whole exchange,
concurrent connections. The server skips a PROXY header (versions 1 and 2) before the request, because
load balancers that send one before SMTP also send it before their probes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from listener import proxy

log = logging.getLogger("smtp_relay.health")

MAX_REQUEST: Final = 8192
TIMEOUT: Final = 5.0
MAX_CLIENTS: Final = 64


class HttpResponse(NamedTuple):
    """The answer of a route."""

    status: HTTPStatus
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Route = Callable[[], HttpResponse]


class BadRequest(ValueError):
    """The bytes are not a request that this server answers."""


class ProbeServer:
    """Serves `routes` (path to function) at one address. `port` may be 0; after the start `address` has
    the actual one."""

    def __init__(self, bind: str, port: int, routes: Mapping[str, Route]) -> None:
        self._bind = bind
        self._port = port
        self._routes = dict(routes)
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises OSError when the address is not available."""
        self._server = await asyncio.start_server(self._client, self._bind, self._port, limit=MAX_REQUEST)

    @property
    def address(self) -> tuple[str, int]:
        """The host and port that the server listens on."""
        assert self._server is not None
        host, port = self._server.sockets[0].getsockname()[:2]
        return host, port

    async def stop(self) -> None:
        """Stop listening and close all connections."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._clients) >= MAX_CLIENTS:
            writer.transport.abort()
            return
        self._clients.add(task)
        try:
            async with asyncio.timeout(TIMEOUT):
                if (answer := await self._answer(reader)) is not None:
                    writer.write(answer)
                    await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # the client left, or is too slow
        finally:
            self._clients.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes | None:
        try:
            head = await _read_head(reader)
            if head is None:
                return None
            method, path = parse_head(head)
        except BadRequest:
            return _response(HttpResponse(HTTPStatus.BAD_REQUEST, b"bad request\n"))
        route = self._routes.get(path)
        if route is None:
            return _response(HttpResponse(HTTPStatus.NOT_FOUND, b"not found\n"))
        if method not in ("GET", "HEAD"):
            return _response(HttpResponse(HTTPStatus.METHOD_NOT_ALLOWED, b"GET or HEAD\n"))
        try:
            answer = route()
        except Exception:
            log.exception("%s failed", path)
            answer = HttpResponse(HTTPStatus.INTERNAL_SERVER_ERROR, b"failed\n")
        return _response(answer, body=method == "GET")


async def _read_head(reader: asyncio.StreamReader) -> bytes | None:
    """The request up to its empty line; None if the client leaves first, as TCP probes do."""
    buffer = b""
    while len(buffer) <= MAX_REQUEST:
        piece = await reader.read(MAX_REQUEST)
        if not piece:
            return None
        buffer += piece
        start = skip_proxy(buffer)
        if start is None:
            continue
        end = buffer.find(b"\r\n\r\n", start)
        if end >= 0:
            return buffer[start:end]
    raise BadRequest


def skip_proxy(buffer: bytes) -> int | None:
    """The start of the request after a PROXY header; 0 without a header, None if more bytes are needed.
    Raises BadRequest for an invalid header."""
    if not proxy.may_begin(buffer):
        return 0
    try:
        header = proxy.parse(buffer)
    except proxy.BadHeader as error:
        raise BadRequest from error
    return None if header is None else header.length


def parse_head(head: bytes) -> tuple[str, str]:
    """Method and path of a request head (RFC 9112 section 3). Raises BadRequest."""
    try:
        method, target, version = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        path = urlsplit(target).path
    except ValueError as error:
        raise BadRequest from error
    if not version.startswith("HTTP/1."):
        raise BadRequest
    return method, path


def _response(answer: HttpResponse, *, body: bool = True) -> bytes:
    status = answer.status
    allow = "Allow: GET, HEAD\r\n" if status is HTTPStatus.METHOD_NOT_ALLOWED else ""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\n"
        f"Cache-Control: no-store\r\n{allow}"
        "Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (answer.body if body else b"")
