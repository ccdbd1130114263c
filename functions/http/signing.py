"""Signatures of requests: Standard Webhooks, and the older HMAC header."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator

from functions.options.hash_names import EXTENDABLE, hash_name
from functions.options.secrets import Secret
from functions.options.types import FieldName, OptionsModel

TIME_HEADER: Final = "X-SMTP-RELAY-TIME"

PREFIX: Final = "whsec_"

_KEY_BYTES: Final = range(24, 65)
"""Standard Webhooks, "Signature scheme": the length of a symmetric key."""


def check_url(url: str) -> str:
    """An endpoint's URL, unchanged. Raises ValueError if it is not a URL, or holds credentials."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"is not a URL: {error} (write https://HOST:PORT/PATH)") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("is not an http:// or https:// URL (write https://HOST/PATH)")
    if re.search(r"[\s\x00-\x1f\x7f]", url):
        raise ValueError("holds a blank or a control character (write %20 for a blank)")
    if parts.username is not None or parts.password is not None:
        raise ValueError("holds credentials; sign the requests with hmac instead")
    return url


def host_of(url: str) -> str:
    """The part of an endpoint's URL that logs may show, because its path or query may hold a token."""
    return urlsplit(url).netloc


def check_algorithm(name: str) -> str:
    """An HMAC algorithm as hashlib names it, from any of its names. Raises ValueError."""
    found = hash_name(name)
    if found in EXTENDABLE:
        raise ValueError(f"{name!r} has no fixed length")
    return found


Url = Annotated[str, AfterValidator(check_url)]
Algorithm = Annotated[str, AfterValidator(check_algorithm)]


class Hmac(OptionsModel):
    """How requests are signed."""

    secret: Secret
    """The shared key."""

    algo: Algorithm = "sha256"
    """The hash."""

    header: FieldName = "X-SMTP-RELAY"
    """The request header that carries the signature in hex."""


class HmacSigner:
    """Signs requests: HMAC over URL, method, time in epoch milliseconds and, if there is one, the body,
    with line feeds between them (docs/filters/http-auth.md)."""

    def __init__(
        self, options: Hmac, key: bytes, clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._key = key
        self._algorithm = options.algo
        self._header = options.header
        self._clock = clock

    def headers(self, url: str, method: str, body: bytes | Iterable[bytes]) -> dict[str, str]:
        """The two headers to send; the body may come in pieces."""
        now = str(self._clock())
        code = hmac.new(self._key, f"{url}\n{method}\n{now}".encode(), self._algorithm)
        between = b"\n"
        for piece in (body,) if isinstance(body, bytes) else body:
            if piece:
                code.update(between + piece)
                between = b""
        return {TIME_HEADER: now, self._header: code.hexdigest()}


def webhook_key(secret: str) -> bytes:
    """The key of a secret as Standard Webhooks writes it: base64 of 24 to 64 bytes, mostly behind `whsec_`.
    Raises ValueError, without the secret."""
    cure = "write whsec_ and the base64 of 24 to 64 random bytes: openssl rand -base64 32"
    try:
        key = base64.b64decode(secret.strip().removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"is not base64 ({cure})") from None
    if len(key) not in _KEY_BYTES:
        raise ValueError(f"has {len(key)} bytes ({cure})")
    return key


class WebhookSigner:
    """Signs requests by Standard Webhooks: HMAC-SHA256 over id, time in epoch seconds and body, with dots
    between them. Each of the `keys` makes a signature, so that receivers change theirs in their own time."""

    def __init__(self, keys: Sequence[bytes], clock: Callable[[], float] = time.time) -> None:
        self._keys = tuple(keys)
        self._clock = clock

    def headers(self, webhook_id: str, body: bytes | Iterable[bytes]) -> Mapping[str, str]:
        """The headers to send; the body may come in pieces. Without keys there is no signature."""
        now = str(int(self._clock()))
        found = {"webhook-id": webhook_id, "webhook-timestamp": now}
        codes = [hmac.new(key, f"{webhook_id}.{now}.".encode(), hashlib.sha256) for key in self._keys]
        if not codes:
            return found
        for piece in (body,) if isinstance(body, bytes) else body:
            for code in codes:
                code.update(piece)
        signatures = (base64.b64encode(code.digest()).decode() for code in codes)
        return found | {"webhook-signature": " ".join(f"v1,{each}" for each in signatures)}
