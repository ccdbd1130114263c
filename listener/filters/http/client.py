"""The shared part of `http-auth` and `http-filter`: a pooled client, and the meaning of statuses.

httpx is imported when a filter starts, because reading a configuration must not pay for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from collections.abc import Mapping
from contextlib import suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions import __version__
from functions.http.signing import Hmac, HmacSigner, host_of
from listener.api.decision import DEFER, Decision, Verdict
from listener.api.filter import BuildContext, Filter

if TYPE_CHECKING:
    import httpx

log = logging.getLogger("smtp_relay.filters")

MAX_ANSWER: Final = 1_048_576
"""Most bytes of an answer that are read; a longer one counts as unreadable."""

MAX_DRAIN: Final = 65_536
DRAIN_SECONDS: Final = 1.0
"""Most bytes of an unneeded answer that are read, so its connection can be used again."""

MAX_CONNECTIONS: Final = 100
"""Most concurrent requests of one filter; others wait."""

KEEPALIVE_SECONDS: Final = 4.0  # less than the 5 s after which Node's servers hang up

# RFC 9110 section 15: request time-out, and RFC 8470, RFC 6585: too early, too many requests
_COME_BACK: Final = frozenset({408, 425, 429})


class Unanswered(Exception):
    """No usable answer came; `str()` gives the reason, without secrets."""


class HttpAnswer(NamedTuple):
    """An endpoint's answer. `body` is b"" if it was not requested."""

    status: int
    content_type: str
    encoding: str
    body: bytes

    @property
    def verdict(self) -> Verdict:
        """The meaning of the status: below 300 accept; 3xx and 4xx refuse, except statuses that ask for
        a retry; these and the endpoint's own failures defer."""
        if 200 <= self.status < 300:
            return "accept"
        if self.status < 200 or self.status >= 500 or self.status in _COME_BACK:
            return "defer"
        return "refuse"

    def json(self) -> Any:
        """The body as JSON. Raises Unanswered if it is not JSON."""
        if self.encoding not in ("", "identity"):
            raise Unanswered(f"the answer is encoded ({self.encoding!r}) although none was requested")
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise Unanswered("the answer is not readable JSON") from None


class HttpClient:
    """Calls one endpoint over a pool of kept connections; one for each filter and process.

    It follows no redirects and keeps no cookies, because one mail's answer must not affect the
    next. It has no time-outs: `filterTimeout` ends the whole exchange.
    """

    def __init__(self, url: str, method: str, signer: HmacSigner | None) -> None:
        self.url = url
        self.method = method
        self._signer = signer
        self._client: httpx.AsyncClient | None = None
        self._turns = asyncio.Semaphore(MAX_CONNECTIONS)
        self.host = host_of(url)
        """The endpoint for logs: a URL may hold a token in its path or query."""

    @classmethod
    def of(cls, url: str, method: str, signing: Hmac | None, context: BuildContext) -> HttpClient:
        """A client for a filter's options. Raises ConfigError if the secret is not available."""
        if signing is None:
            return cls(url, method, None)
        return cls(url, method, HmacSigner(signing, signing.secret.resolve(context.secrets).encode()))

    async def start(self) -> None:
        """Make the pool, in the event loop that will use it."""
        import httpx

        for name in ("httpx", "httpcore"):  # they log URLs and headers, and therefore secrets
            logging.getLogger(name).setLevel(logging.WARNING)
        self._client = httpx.AsyncClient(
            headers={"User-Agent": f"smtp-relay/{__version__}", "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            verify=_trust(self.url),
            timeout=None,  # noqa: S113 - see the class
            # The pool has no limit of its own, because a request that is cancelled while it queues
            # there keeps its connection's place for good (httpcore 1.0.9).
            limits=httpx.Limits(
                max_connections=None,
                max_keepalive_connections=MAX_CONNECTIONS,
                keepalive_expiry=KEEPALIVE_SECONDS,
            ),
        )

    async def stop(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def call(self, headers: Mapping[str, str], body: bytes, *, read: bool) -> HttpAnswer:
        """Send a request; with `read` the answer's body is read. Raises Unanswered if no answer comes
        or it is too long."""
        import httpx

        try:
            async with self._turns:
                try:
                    return await self._call(headers, body, read)
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    # Usually a kept connection that the other side closed just now, so try once
                    # more.
                    return await self._call(headers, body, read)
        except httpx.HTTPError as error:
            raise Unanswered(f"{type(error).__name__}: {error}") from None

    async def _call(self, headers: Mapping[str, str], body: bytes, read: bool) -> HttpAnswer:
        if self._client is None:
            # A server whose `closeTimeout` is over stops while a mail's request is still under way.
            raise Unanswered("the filter does not run")
        signed = self._signer.headers(self.url, self.method, body) if self._signer else {}
        request = self._client.stream(
            self.method, self.url, headers={**headers, **signed}, content=body or None
        )
        async with request as response:
            kept = await _read_all(response) if read else await _drain(response)
            type_ = response.headers.get("content-type", "").partition(";")[0].strip().lower()
            encoding = response.headers.get("content-encoding", "").strip().lower()
            return HttpAnswer(response.status_code, type_, encoding, kept)


class HttpBacked(Filter):
    """A filter that asks one endpoint."""

    def __init__(self, name: str, client: HttpClient) -> None:
        super().__init__(name)
        self._client = client

    async def start(self) -> None:
        await self._client.start()

    async def stop(self) -> None:
        await self._client.stop()

    def unanswered(self, reason: Unanswered, **about: str) -> Decision:
        """The decision without an answer: the client should retry. `about` identifies the client in the
        log."""
        text = "filter %s: no answer from %s: %s"
        log.warning(text, self.name, self._client.host, reason, extra=about)
        return DEFER


def _trust(url: str) -> ssl.SSLContext:
    """The trusted certificate authorities: those that httpx comes with, or those of SSL_CERT_FILE or
    SSL_CERT_DIR. None for http://, because loading them takes a tenth of a second."""
    import httpx

    if url.startswith("https:"):
        return httpx.create_ssl_context()
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def _read_all(response: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > MAX_ANSWER:
            raise Unanswered(f"the answer is longer than {MAX_ANSWER} bytes")
    return bytes(body)


async def _drain(response: httpx.Response) -> bytes:
    import httpx

    size = 0
    with suppress(httpx.HTTPError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for piece in response.aiter_raw():
                size += len(piece)
                if size > MAX_DRAIN:
                    break
    return b""
