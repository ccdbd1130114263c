"""The TLS handshake of one connection, from its first byte to the bytes after it."""

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
"""Seconds for a TLS handshake, or the socket timeout if that is shorter."""


_NO_TRUST: Final = (
    "the client does not trust the certificate: give key and cert that it trusts, or set hideSTARTTLS"
)
_NOT_TLS: Final = "the client does not speak TLS here: it should connect without, or use STARTTLS"
_VERSIONS: Final = "client and server share no version or cipher: see minVersion, maxVersion and ciphers"

_CURES: Final = {
    "TLSV1_ALERT_UNKNOWN_CA": _NO_TRUST,
    "SSLV3_ALERT_BAD_CERTIFICATE": _NO_TRUST,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": _NO_TRUST,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": _NO_TRUST,
    "WRONG_VERSION_NUMBER": _NOT_TLS,
    "HTTP_REQUEST": _NOT_TLS,
    "HTTPS_PROXY_REQUEST": _NOT_TLS,
    "UNKNOWN_PROTOCOL": _NOT_TLS,
    "UNSUPPORTED_PROTOCOL": _VERSIONS,
    "NO_SHARED_CIPHER": _VERSIONS,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": _VERSIONS,
    "TLSV1_ALERT_PROTOCOL_VERSION": _VERSIONS,
}
"""The cure, by OpenSSL's name of the reason (`ssl.SSLError.reason`). An alert is the client's."""


class TlsHost(Above, Protocol):
    """The interface that a handshake needs from its connection."""

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
        """Put TLS between the transport and the connection; the waiting bytes of the stream are its
        beginning."""
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
        """Client and server do not agree on TLS, or the client does not speak it."""
        session, refusals = self._host.session, self._host.endpoint.refusals
        if self._layer is not None and proxy.begins(self._layer.first):
            refusals.untrusted_proxy(session)
        cure = f" ({_CURES[reason]})" if reason in _CURES else ""
        refusals.handshake(session, reason + cure)
        self._host.close()
