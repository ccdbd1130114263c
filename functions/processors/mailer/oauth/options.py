"""The login at the next server: a password, an access token, or how to get one."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterable
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from functions.options.secrets import Secret
from functions.options.types import OptionsModel

Grant = Literal["client_credentials", "refresh_token", "service_account"]

GOOGLE: Final = "https://oauth2.googleapis.com/token"
GOOGLE_SCOPE: Final = "https://mail.google.com/"

_KEEPS: Final = frozenset({"oauth2.googleapis.com", "accounts.google.com", "www.googleapis.com"})
"""Hosts whose refresh tokens stay the same."""

_OWN: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "client_credentials": (("client_id", "client_secret", "access_url"), ("scope",)),
    "refresh_token": (("client_id", "refresh_token"), ("client_secret", "access_url", "scope", "rotates")),
    "service_account": (("service_client", "private_key"), ("access_url", "scope")),
}
"""The fields that a grant needs, and those that it may have."""

_FIELDS: Final = tuple(dict.fromkeys(name for both in _OWN.values() for names in both for name in names))


def is_loopback(host: str) -> bool:
    """True for a name or address of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_token_url(url: str) -> str:
    """The URL of a token endpoint, unchanged. Raises ValueError for one that would carry secrets in clear
    text to another machine, or that holds them."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("is not a URL (write https://HOST/PATH)") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("is not a URL (write https://HOST/PATH)")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("holds credentials or a fragment (write https://HOST/PATH)")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError("would send secrets in clear text (write https://)")
    return url


class TransportAuth(OptionsModel):
    """The login at the next server: a user with a password, an access token, or a grant that gets access
    tokens (OAuth 2)."""

    type: Literal["login", "LOGIN", "OAuth2", "OAUTH2", "oauth2"] | None = None
    """The kind of login. Default: by the other keys."""

    user: str
    """The user's name."""

    password: Secret | None = Field(default=None, alias="pass")
    """The password."""

    grant: Grant | None = None
    """How access tokens are got. Default: by the other keys."""

    access_token: Secret | None = None
    """An access token: the first one, or without a grant the only one."""

    expires: int | None = Field(default=None, ge=0)
    """The end of `accessToken`, in milliseconds since 1970."""

    access_url: Annotated[str, AfterValidator(check_token_url)] | None = None
    """The token endpoint. Default: Google's."""

    client_id: str | None = Field(default=None, min_length=1)
    """The client's id there."""

    client_secret: Secret | None = None
    """The client's secret."""

    refresh_token: Secret | None = None
    """The refresh token."""

    rotates: bool | None = None
    """The endpoint replaces refresh tokens: the new one is written to the file of `refreshToken`. Default:
    true, except for Google."""

    service_client: str | None = Field(default=None, min_length=1)
    """The service account (its address)."""

    private_key: Secret | None = None
    """The service account's key (PEM, or Google's JSON)."""

    scope: str | None = None
    """The scopes. Default for a service account: `https://mail.google.com/`."""

    @model_validator(mode="after")
    def _one_kind(self) -> TransportAuth:
        given = [name for name in _FIELDS if getattr(self, name) is not None]
        grant = self.effective_grant
        if self.password is not None and (given or self.access_token or self.grant):
            raise ValueError("pass and OAuth 2 exclude each other (give one of them)")
        if grant is None:
            if given:
                raise ValueError(f"{_key(given[0])} needs a grant: {', '.join(_OWN)}")
            if self.password is None and self.access_token is None:
                raise ValueError("give pass, or for OAuth 2 accessToken or a grant")
        else:
            needed, optional = _OWN[grant]
            missing = [name for name in needed if getattr(self, name) is None]
            if missing:
                raise ValueError(f"grant {grant} needs {', '.join(map(_key, missing))}")
            foreign = [name for name in given if name not in (*needed, *optional)]
            if foreign:
                raise ValueError(f"{_key(foreign[0])} is no key of grant {grant} (remove it)")
        if self.expires is not None and self.access_token is None:
            raise ValueError("expires is the end of accessToken (give both)")
        if self.type is not None and self.oauth == (self.type.lower() == "login"):
            raise ValueError(f"type {self.type} does not fit the other keys (remove it)")
        kept = self.refresh_token
        if kept is not None and self.replaces_refresh_token and kept.scheme != "file":
            raise ValueError(
                f"refreshToken: a replaced one cannot be written back to {kept.shown} (use file://PATH, or "
                '"rotates": false if the endpoint keeps it, or another grant)'
            )
        return self

    @property
    def effective_grant(self) -> Grant | None:
        """The grant, or the one that the other keys mean."""
        if self.grant is not None:
            return self.grant
        if self.service_client is not None or self.private_key is not None:
            return "service_account"
        if self.refresh_token is not None:
            return "refresh_token"
        return "client_credentials" if self.client_id is not None else None

    @property
    def oauth(self) -> bool:
        """True if the login is by access tokens."""
        return self.access_token is not None or self.effective_grant is not None

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return self.access_url or GOOGLE

    @property
    def replaces_refresh_token(self) -> bool:
        """True if the token endpoint may replace the refresh token."""
        if self.rotates is None:
            return urlsplit(self.token_url).hostname not in _KEEPS
        return self.rotates

    def advice(self) -> Iterable[tuple[str, str]]:
        """Keys that are probably a mistake, and texts with the cure."""
        if self.access_token is not None and self.effective_grant is None:
            ended = self.expires is not None and self.expires < time.time() * 1000
            text = "has ended" if ended else "is not renewed, and most end after an hour"
            yield "accessToken", f"{text} (give a grant)"
        microsoft = urlsplit(self.token_url).hostname == "login.microsoftonline.com"
        if self.effective_grant == "client_credentials" and microsoft and self.scope is None:
            yield "scope", "Microsoft asks for one (https://outlook.office365.com/.default)"


def _key(name: str) -> str:
    return TransportAuth.model_fields[name].alias or name
