"""AWS clients, made through botocore, each when an output first needs it.

boto3 would add its own import and nothing that is used here; both come in one distribution.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from functions.aws.output.client_options import ClientOptions
from functions.aws.output.options import AssumeRole
from functions.errors import ConfigError

Service = Literal["s3", "sqs", "sns", "events", "sesv2", "dynamodb", "sts", "ssm", "secretsmanager"]

REPEATABLE: Final[Mapping[str, Any]] = {
    "connect_timeout": 3,
    "read_timeout": 10,
    "retries": {"mode": "standard", "total_max_attempts": 2},
}
"""For calls that may be made twice. Both attempts end within 35 s, the least time left when an effect
starts."""

ONCE: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,
    "read_timeout": 28,
    "retries": {"mode": "standard", "total_max_attempts": 1},
}
"""For calls that are not safe to repeat, because botocore would repeat them after a read time-out too."""

_POOL: Final = 16

_KEYS: Final = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")

_lock = threading.Lock()
_session: Any = None
_made: dict[str, Any] = {}


def session() -> Any:
    """This process's botocore session. Its loader's cache makes the second client cheap."""
    global _session  # noqa: PLW0603 - one per process
    with _lock:
        if _session is None:
            import botocore.session

            _session = botocore.session.get_session()
        return _session


class Clients:
    """Makes the clients of one output. `resolve` turns secrets into their values. All clients assume
    `role`; its credentials are renewed before they expire."""

    def __init__(self, resolve: Callable[[str], str], role: AssumeRole | None = None) -> None:
        self._resolve = resolve
        self._role = role

    def make(
        self,
        service: Service,
        options: ClientOptions,
        behaviour: Mapping[str, Any],
        **defaults: Any,
    ) -> Any:
        """A client. `defaults` are arguments that the options may replace. Raises ConfigError."""
        arguments = _filled({**defaults, **options.arguments(self._resolve)})
        return _client(service, {**behaviour, **options.config_arguments()}, arguments, self._role)


def plain_client(service: Service, behaviour: Mapping[str, Any], **arguments: Any) -> Any:
    """A client with the process's own identity, region and endpoint. Raises ConfigError."""
    return _client(service, behaviour, _filled(arguments), None)


def _client(
    service: Service, behaviour: Mapping[str, Any], arguments: Mapping[str, Any], role: AssumeRole | None
) -> Any:
    """A client; a second call with the same arguments returns the same client, because making one costs
    as much as ten requests. Closing it drops its connections, and it may be used again."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    # A changed environment (in tests) makes other clients.
    surroundings = sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_"))
    key = repr((service, sorted(behaviour.items()), sorted(arguments.items()), role, surroundings))
    found = _made.get(key)
    if found is not None:
        return found
    config = Config(**{"max_pool_connections": _POOL, **behaviour})
    bundle = arguments.get("verify")
    if isinstance(bundle, str) and not Path(bundle).exists():
        raise ConfigError(
            f"{service} client", f"verify: {bundle} does not exist", "name a file of certificates, or true"
        )
    try:
        if role is None:
            made = _create(session(), service, config, arguments)
        else:
            own = {name: value for name, value in arguments.items() if name not in _KEYS}
            made = _create(_assumed(role, arguments), service, config, own)
    except (BotoCoreError, ValueError) as error:
        raise ConfigError(f"{service} client", str(error), _cure(error)) from error
    return _made.setdefault(key, made)


def _assumed(role: AssumeRole, given: Mapping[str, Any]) -> Any:
    """A session whose credentials are the role's. The output's own credentials, if given, assume the
    role. No request is sent before the first use."""
    import botocore.session
    from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials

    base = botocore.session.Session()
    if _KEYS[0] in given:
        base.set_credentials(*(given.get(name) for name in _KEYS))
    extra = {"RoleSessionName": role.session_name}
    if role.external_id is not None:
        extra["ExternalId"] = role.external_id
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(base.create_client, region_name=given.get("region_name")),
        source_credentials=base.get_credentials(),
        role_arn=role.role_arn,
        extra_args=extra,
    )
    assumed = botocore.session.Session()
    assumed._credentials = DeferredRefreshableCredentials(
        refresh_using=fetcher.fetch_credentials, method="assume-role"
    )
    return assumed


def _create(from_session: Any, service: str, config: Any, arguments: Mapping[str, Any]) -> Any:
    with _lock:
        # Making a client is not thread-safe: the loader fills caches.
        return from_session.create_client(service, config=config, **arguments)


def _filled(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Other SDKs and the platforms set AWS_REGION; botocore knows only AWS_DEFAULT_REGION. A stand-in
    at its own endpoint needs no region, but signatures do."""
    given = {name: value for name, value in arguments.items() if value is not None}
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and "endpoint_url" in given:
        region = "us-east-1"
    return given if region is None else {"region_name": region, **given}


def _cure(error: Exception) -> str:
    if "Region" in type(error).__name__:
        return "set region_name, or AWS_REGION"
    if "endpoint" in str(error):
        return "write it with http:// or https://"
    return "correct the client's options, or the AWS_ variables and files"
