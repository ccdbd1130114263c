"""From options to the access tokens of a login."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from functions.errors import ConfigError
from functions.options.packages import not_installed
from functions.options.secrets import resolved
from functions.processors.mailer.oauth.grant import AccessToken, GrantRequest, ServiceKey
from functions.processors.mailer.oauth.options import GOOGLE_SCOPE, TransportAuth
from functions.processors.mailer.oauth.refresh import KeptToken, Store, TokenFile
from functions.processors.mailer.oauth.source import TokenSource, shared

Resolve = Callable[[str], str]

_WHERE = "nodemailer.auth"


def tokens_of(auth: TransportAuth, resolve: Resolve, folder: Path) -> TokenSource:
    """The tokens of a login that has a grant, shared by all outputs of this process with the same one.
    Raises ConfigError; secrets are never shown."""
    grant = auth.effective_grant
    secrets = {
        "client": resolved(auth.client_secret, resolve),
        "key": resolved(auth.private_key, resolve),
        "refresh": resolved(auth.refresh_token, resolve),
        "first": resolved(auth.access_token, resolve),
    }
    file: Path | None = None
    if auth.refresh_token is not None and auth.replaces_refresh_token:
        file = folder / auth.refresh_token.shown.removeprefix("file://")
        TokenFile(file).check(f"{_WHERE}.refreshToken")
        secrets["refresh"] = str(file)  # because its content changes
    scope = auth.scope or (GOOGLE_SCOPE if grant == "service_account" else None)
    inputs = [grant, auth.token_url, auth.user, auth.client_id, auth.service_client, scope, auth.expires]
    service = _service_key(auth, secrets["key"])

    def make() -> TokenSource:
        store: Store | None = None
        if file is not None:
            store = TokenFile(file)
        elif secrets["refresh"] is not None:
            store = KeptToken(secrets["refresh"])
        request = GrantRequest(
            auth.token_url, auth.user, auth.client_id, secrets["client"], scope, store, service
        )
        first = secrets["first"]
        ends = float("inf") if auth.expires is None else auth.expires / 1000
        return TokenSource(request, auth.user, None if first is None else AccessToken(first, ends))

    return shared([*inputs, secrets], make)


def _service_key(auth: TransportAuth, text: str | None) -> ServiceKey | None:
    if text is None or auth.service_client is None:
        return None
    where = f"{_WHERE}.privateKey"
    try:
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

        from functions.processors.mailer.dkim import load_key
    except ImportError as error:
        raise not_installed(where, "a service account", error, "mailer") from error
    cure = "give the PEM of an RSA key, or the JSON file that Google makes"
    try:
        key = load_key(json.loads(text)["private_key"] if text.lstrip().startswith("{") else text)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise ConfigError(where, "holds no private key that can be read", cure) from None
    if not isinstance(key, RSAPrivateKey):
        raise ConfigError(where, "is not an RSA key", cure)
    return ServiceKey(auth.service_client, key)
