"""Google's clients, each made when an output or the spool first needs it.

They are made in the process that uses them, because gRPC's channels do not survive a fork, and
functions-framework forks after it has imported the function.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from functions.errors import ConfigError

TIMEOUT: Final = (3.0, 10.0)
"""Seconds to connect, and to wait for an answer, for calls that may be made again."""

ONCE: Final = 28.0
"""Seconds for a call that is not safe to repeat: it ends within 35 s, the least time left when an
effect starts."""

_PATIENCE: Final = 15.0  # seconds within which a repeatable call is begun again

_EMULATOR: Final = "PUBSUB_EMULATOR_HOST"
_PROJECT: Final = ("GOOGLE_CLOUD_PROJECT", "PUBSUB_PROJECT_ID", "GCLOUD_PROJECT")
_POOL: Final = 16


def storage_client(endpoint: str | None = None, key: str | None = None) -> Any:
    """A client of Cloud Storage. `endpoint` replaces Google's own, `key` is a service account's key
    (JSON); without it the process's own identity is used. Raises ConfigError.

    Over plain HTTP no credentials are sent, because anyone could read the token.
    """
    from google.auth.exceptions import GoogleAuthError
    from google.cloud.storage import Client

    open_to_all = endpoint is not None and endpoint.startswith("http://")
    try:
        credentials = _from_key(key, "https://www.googleapis.com/auth/devstorage.read_write") if key else None
        client = Client(
            project=None,
            credentials=credentials,
            client_options={"api_endpoint": endpoint} if endpoint else None,
            use_auth_w_custom_endpoint=not open_to_all,
        )
    except GoogleAuthError as error:
        raise ConfigError("Cloud Storage client", str(error), _CURE) from error
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        # A file of credentials that is JSON of another shape, or no file.
        raise ConfigError("Cloud Storage client", f"{type(error).__name__}: {error}", _CURE) from error
    _widen(client._http)
    return client


def again() -> Any:
    """How calls that may be made twice are retried: with jitter, for 15 s."""
    from google.cloud.storage.retry import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(_PATIENCE).with_delay(initial=0.2, maximum=3.0, multiplier=2.0)


def publisher_client(environ: Mapping[str, str] = os.environ) -> Any:
    """A client of Pub/Sub that makes one call for one message, because the batching client would wait
    for other messages, in threads of its own. Raises ConfigError."""
    from google.auth.exceptions import GoogleAuthError
    from google.pubsub_v1.services.publisher import PublisherClient
    from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

    emulator = environ.get(_EMULATOR)
    try:
        if emulator:
            import grpc

            channel = grpc.insecure_channel(emulator, options=_CHANNEL)
            return PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        return PublisherClient()
    except GoogleAuthError as error:
        raise ConfigError("Pub/Sub client", str(error), _CURE) from error
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise ConfigError("Pub/Sub client", f"{type(error).__name__}: {error}", _CURE) from error


def topic_path(topic: str, project: str | None, environ: Mapping[str, str] = os.environ) -> str:
    """`projects/PROJECT/topics/NAME` of a topic that may be given by its name alone. Raises ConfigError
    if the project is not known."""
    if topic.startswith("projects/"):
        return topic
    found = project or next((environ[name] for name in _PROJECT if environ.get(name)), None)
    found = found or _own_project(environ)
    if not found:
        raise ConfigError(f"topic {topic}", "its project is not known", "give project, or the topic in full")
    return f"projects/{found}/topics/{topic}"


def close(client: Any) -> None:
    """Release a client's resources."""
    if hasattr(client, "close"):
        client.close()
    else:
        client.transport.close()


_CURE: Final = "give the machine a service account, or set GOOGLE_APPLICATION_CREDENTIALS"

_CHANNEL: Final = (("grpc.max_send_message_length", -1),)


def _own_project(environ: Mapping[str, str]) -> str | None:
    if environ.get(_EMULATOR):
        return None
    import google.auth
    from google.auth.exceptions import GoogleAuthError

    try:
        project: str | None = google.auth.default()[1]
    except GoogleAuthError as error:
        raise ConfigError("Pub/Sub client", str(error), _CURE) from error
    return project


def _from_key(key: str, scope: str) -> Any:
    from google.oauth2.service_account import Credentials

    try:
        content = json.loads(key)
    except ValueError as error:
        # The text itself may be the secret.
        raise ConfigError("serviceAccountKey", "is not JSON") from error
    return Credentials.from_service_account_info(content, scopes=[scope])  # type: ignore[no-untyped-call]


def _widen(session: Any) -> None:
    """As many kept connections as there are threads: requests keeps 10, and warns beyond."""
    from requests.adapters import HTTPAdapter

    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_connections=_POOL, pool_maxsize=_POOL))
