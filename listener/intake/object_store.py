"""Opens the object store of a spool's URL: s3://, gs:// and, for tests, memory://.

obstore finds credentials itself: the environment's, the container's role (ECS, EKS Pod Identity), web
identity, the instance's (IMDS), and Google's metadata server; static credentials come from the
configuration. The spool itself retries, because retries must end before the client gives up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from functions.errors import ConfigError
from functions.options.secrets import resolved

if TYPE_CHECKING:
    from functions.options.spool import SpoolOptions

_CONNECT_MS = 5_000

_NOBODY = {"disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
"""A service account's key for servers that require none."""


def open_object_store(
    options: SpoolOptions, environ: Mapping[str, str], resolve: Callable[[str], str]
) -> Any:
    """The bucket's store. Raises ConfigError."""
    from obstore.exceptions import BaseError
    from obstore.store import GCSStore, S3Store

    arguments = _s3(options, environ, resolve) if options.scheme == "s3" else _gcs(options, environ, resolve)
    endpoint = arguments.get("endpoint") or arguments.get("base_url") or ""
    client: Any = {
        "timeout": f"{options.timeout}ms",
        "connect_timeout": f"{min(_CONNECT_MS, options.timeout)}ms",
        "allow_http": endpoint.startswith("http://"),
    }
    kind: Any = S3Store if options.scheme == "s3" else GCSStore
    try:
        return kind(options.bucket, client_options=client, retry_config={"max_retries": 0}, **arguments)
    except (BaseError, ValueError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        cure = ""
        if options.service_account_key is not None:
            cure = "serviceAccountKey is the JSON of a key, such as file://key.json"
        raise ConfigError(f"spool {options.url}", f"cannot be opened: {reason}", cure) from error


def _s3(options: SpoolOptions, environ: Mapping[str, str], resolve: Callable[[str], str]) -> dict[str, Any]:
    endpoint = options.endpoint or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    in_path = endpoint is not None if options.force_path_style is None else options.force_path_style
    region = options.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    found: dict[str, Any] = {
        "endpoint": endpoint,
        "region": region or ("us-east-1" if endpoint else None),
        "virtual_hosted_style_request": not in_path,
        "checksum_algorithm": "SHA256",
        "server_side_encryption": options.sse,
        "sse_kms_key_id": options.kms_key_id,
        "sse_bucket_key_enabled": options.bucket_key if options.sse == "aws:kms" else None,
        "access_key_id": resolved(options.access_key_id, resolve),
        "secret_access_key": resolved(options.secret_access_key, resolve),
        "session_token": resolved(options.session_token, resolve),
    }
    if found["region"] is None:
        raise ConfigError(f"spool {options.url}", "no region is known", "set region, or AWS_REGION")
    return _given(found)


def _gcs(options: SpoolOptions, environ: Mapping[str, str], resolve: Callable[[str], str]) -> dict[str, Any]:
    endpoint = options.endpoint or environ.get("STORAGE_EMULATOR_HOST")
    if endpoint and "://" not in endpoint:
        endpoint = f"http://{endpoint}"
    key = resolved(options.service_account_key, resolve)
    if endpoint is not None and endpoint.startswith("http://") and key is None:
        # A stand-in. Plain HTTP would expose a token. With skip_signature uploads would still ask the
        # metadata server for one, so the key itself disables authentication.
        key = json.dumps(_NOBODY)
    return _given({"base_url": endpoint, "service_account_key": key})


def _given(found: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if value is not None}
