"""Secrets in Secret Manager: `gcp-secret:projects/PROJECT/secrets/NAME`, of which the newest version
is read, or with `/versions/NUMBER`."""

from __future__ import annotations

import base64
import os
import re
from typing import Any, Final
from urllib.parse import quote

from functions.errors import ConfigError

ENDPOINT: Final = "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"
"""Environment variable with another place than Google's own; gcloud reads it too."""

_NAME: Final = re.compile(r"(projects/[^/]+(?:/locations/[^/]+)?/secrets/[^/]+)(/versions/[^/]+)?")
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT: Final = 10.0
_TRIES: Final = 3


def fetch(scheme: str, name: str) -> str:
    """The secret's text; a binary one as base64. Raises ConfigError, which never holds the secret."""
    shown = f"{scheme}:{name}"
    found = _NAME.fullmatch(name)
    if found is None:
        raise ConfigError(shown, "is not projects/PROJECT/secrets/NAME[/versions/VERSION]")
    path = found[1] + (found[2] or "/versions/latest")
    try:
        data = _access(path)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(shown, f"cannot be read: {type(error).__name__}: {error}") from error
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()


def _access(path: str) -> bytes:
    host = (os.environ.get(ENDPOINT) or _host(path)).rstrip("/")
    session = _session(host)
    with session:
        for attempt in range(_TRIES):
            answer = session.get(f"{host}/v1/{quote(path)}:access", timeout=_TIMEOUT)
            if answer.status_code < 500 or attempt == _TRIES - 1:
                break
    if answer.status_code != 200:
        raise ConfigError(f"gcp-secret:{path}", f"cannot be read: {_words(answer)}")
    return base64.b64decode(answer.json()["payload"]["data"])


def _host(path: str) -> str:
    """Regional secrets have hosts of their own."""
    parts = path.split("/")
    region = f".{parts[3]}.rep" if parts[2] == "locations" else ""
    return f"https://secretmanager{region}.googleapis.com"


def _session(host: str) -> Any:
    if host.startswith("http://"):
        # A stand-in: over plain HTTP a token would be anyone's.
        import requests

        return requests.Session()
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(scopes=[_SCOPE])
    return AuthorizedSession(credentials)  # type: ignore[no-untyped-call]


def _words(answer: Any) -> str:
    try:
        text = str(answer.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = ""
    return f"{answer.status_code} {text}".strip()[:500]
