"""The TLS handshake of one connection, from its first byte to what follows it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final, Protocol

from listener import proxy
from listener.api.session import Session
from listener.smtp.connection.stream import Stream
from listener.smtp.endpoint import Endpoint
from listener.smtp.tls.context import facts
from listener.smtp.tls.layer import Above, TlsLayer

HANDSHAKE: Final = 30.0
"""Seconds for a TLS handshake, or the socket timeout where that is shorter."""


class TlsHost(Above, Protocol):
    """What a handshake asks of its connection."""

    endpoint: Endpoint
    loop: asyncio.AbstractEventLoop
    session: Session
    stream: Stream

    @property
    def closed(self) -> bool: ...
    def touch(self) -> None: ...
    def close(self) -> None: ...


class Handshake:
    """One handshake; `done` is called when it has succeeded."""

    __slots__ = ("_began", "_done", "_host", "_layer")

    def __init__(self, host: TlsHost, done: Callable[[], None]) -> None:
        self._host = host
        self._done = done
        self._began = host.loop.time()
        self._layer: TlsLayer | None = None

    def start(self) -> None:
        """Put TLS between the transport and the connection; what waits in the stream is its beginning."""
        host = self._host
        assert host.endpoint.tls is not None
        layer = self._layer = TlsLayer(host, host.stream.transport, host.endpoint.tls.context, self)
        if early := host.stream.encrypt(layer):
            layer.data_received(early)

    def ready(self, tls: ssl.SSLObject) -> None:
        """The handshake is done."""
        host, endpoint = self._host, self._host.endpoint
        if host.closed:
            return
        assert endpoint.tls is not None
        if not endpoint.tls.accepts(tls):
            self.failed("a version that is not permitted for that name")
            host.stream.transport.close()
            return
        host.session.encrypted(facts(tls, with_client=endpoint.options.request_cert))
        endpoint.observer.stage("tls", host.loop.time() - self._began)
        host.touch()
        self._done()

    def failed(self, reason: str) -> None:
        """The client and we do not agree on TLS, or it does not speak it."""
        session, refusals = self._host.session, self._host.endpoint.refusals
        if self._layer is not None and proxy.begins(self._layer.first):
            refusals.untrusted_proxy(session)
        refusals.handshake(session, reason)
        self._host.close()
