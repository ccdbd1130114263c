"""Secrets in Secret Manager: `gcp-secret:projects/PROJECT/secrets/NAME`, of which the newest version
is read, or with `/versions/NUMBER`."""

from __future__ import annotations

import base64
import json
import os
from typing import Final
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from functions.errors import ConfigError
from functions.options.secrets import GCP_SECRET

ENDPOINT: Final = "CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER"
"""Environment variable with an endpoint that replaces Google's own; gcloud reads it too."""

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT: Final = 10.0
_TRIES: Final = 3


def fetch(scheme: str, name: str) -> str:
    """The secret's text; a binary one as base64. Raises ConfigError, which never holds the secret."""
    shown = f"{scheme}:{name}"
    found = GCP_SECRET.fullmatch(name)
    if found is None:
        raise ConfigError(shown, "is not projects/PROJECT/secrets/NAME[/versions/VERSION]")
    path = found[1] + (found[2] or "/versions/latest")
    try:
        data = _access(path)
    except HTTPError as error:
        with error:
            raise ConfigError(shown, f"cannot be read: {_words(error)}") from error
    except Exception as error:
        words = " ".join(str(error).split())
        raise ConfigError(shown, f"cannot be read: {type(error).__name__}: {words}") from error
    try:
        return data.decode()
    except UnicodeDecodeError:
        return base64.b64encode(data).decode()


def _access(path: str) -> bytes:
    host = (os.environ.get(ENDPOINT) or _host(path)).rstrip("/")
    request = Request(f"{host}/v1/{quote(path)}:access")  # noqa: S310 - the scheme is ours or the operator's
    if not host.startswith("http://"):
        # A plain HTTP endpoint is a stand-in, and anyone could read the token.
        request.add_header("Authorization", f"Bearer {_token()}")
    for attempt in range(_TRIES):
        try:
            with urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 - as above
                return base64.b64decode(json.load(answer)["payload"]["data"])
        except HTTPError as error:
            if error.code < 500 or attempt == _TRIES - 1:
                raise
            error.close()
    raise AssertionError("unreachable")


def _host(path: str) -> str:
    """Regional secrets have hosts of their own."""
    parts = path.split("/")
    region = f".{parts[3]}.rep" if parts[2] == "locations" else ""
    return f"https://secretmanager{region}.googleapis.com"


def _token() -> str:
    """An access token: by Application Default Credentials if Google's library is installed. The
    listener's image has no such library, and asks the metadata server."""
    try:
        import google.auth
        from google.auth.transport.requests import Request as Transport
    except ImportError:
        return _machine_token()
    credentials, _ = google.auth.default(scopes=[_SCOPE])
    credentials.refresh(Transport())  # type: ignore[no-untyped-call]
    return str(credentials.token)


def _machine_token() -> str:
    """The token of the machine's service account, from its metadata server."""
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
    request = Request(url, headers={"Metadata-Flavor": "Google"})
    with urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310 - as above
        return str(json.load(answer)["access_token"])


def _words(error: HTTPError) -> str:
    try:
        text = str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        text = ""
    return f"{error.code} {text}".strip()[:500]
