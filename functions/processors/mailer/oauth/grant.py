"""The three ways to get an access token: the forms that a token endpoint takes, and its answers."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions.processors.mailer.oauth.request import NoToken, post

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from functions.processors.mailer.oauth.refresh import Store

LIFETIME: Final = 3_600.0
"""Seconds that a token is taken to live if the endpoint does not say."""

_SHORTEST: Final = 30.0
_LONGEST: Final = 86_400.0
_MAX_TOKEN: Final = 16_384
_TOKEN: Final = re.compile(rf"[!-~]{{1,{_MAX_TOKEN}}}")
_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523 section 2.1


class AccessToken(NamedTuple):
    """An access token and its end, in Unix time."""

    text: str
    ends: float


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """A service account's name and key."""

    issuer: str
    key: RSAPrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """What to ask a token endpoint for. `store` has the refresh token, `service` the account's key."""

    url: str
    user: str
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    scope: str | None = None
    store: Store | None = field(default=None, repr=False)
    service: ServiceKey | None = None

    def ask(self, limit: Callable[[], float]) -> AccessToken:
        """A new access token. Raises NoToken; `limit` returns the seconds that the run has left."""
        with nullcontext() if self.store is None else self.store.held(limit) as held:
            form = self._form("" if held is None else held.token)
            given = {name: value for name, value in form.items() if value is not None}
            secret = [
                given[name] for name in ("client_secret", "refresh_token", "assertion") if name in given
            ]
            answer = post(self.url, given, limit, secret)
            new = answer.get("refresh_token")
            if held is not None and isinstance(new, str) and new and new != held.token:
                if not _TOKEN.fullmatch(new):
                    raise NoToken("no access token: the new refresh token holds odd characters")
                held.replace(new)
            return _read(answer, time.time())

    def _form(self, refresh_token: str) -> Mapping[str, str | None]:
        client = {"client_id": self.client_id, "client_secret": self.client_secret, "scope": self.scope}
        if self.service is not None:
            return {"grant_type": _JWT_BEARER, "assertion": self._assertion(self.service)}
        if self.store is not None:
            return {"grant_type": "refresh_token", "refresh_token": refresh_token, **client}
        return {"grant_type": "client_credentials", **client}

    def _assertion(self, service: ServiceKey) -> str:
        """A JWT (RFC 7519) for the service account, which acts for the user: RS256 (RFC 7518 section 3.3)."""
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        now = int(time.time())
        claims = {
            "iss": service.issuer,
            "sub": self.user,
            "scope": self.scope,
            "aud": self.url,
            "iat": now,
            "exp": now + 3_600,
        }
        text = f"{_part({'alg': 'RS256', 'typ': 'JWT'})}.{_part(claims)}"
        signature = service.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_base64url(signature)}"


def _part(value: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _read(answer: Mapping[str, Any], now: float) -> AccessToken:
    """The token of a successful answer (RFC 6749 section 5.1)."""
    text, kind = answer.get("access_token"), answer.get("token_type", "Bearer")
    if not isinstance(text, str) or not _TOKEN.fullmatch(text):
        raise NoToken("no access token: the endpoint's answer holds none that can be used")
    if not isinstance(kind, str) or kind.lower() != "bearer":
        raise NoToken("no access token: the endpoint gives another kind than bearer tokens")
    try:
        life = float(answer["expires_in"])  # some endpoints write it as text
    except (KeyError, TypeError, ValueError, OverflowError):
        life = LIFETIME
    # A lie costs a request or a refused login, each of which is bounded.
    return AccessToken(text, now + (min(_LONGEST, max(_SHORTEST, life)) if math.isfinite(life) else LIFETIME))
