"""Opens the object store of a spool's URL: s3://, gs:// and, for tests, memory://.

obstore finds credentials itself: the environment's, the container's role (ECS, EKS Pod Identity), web
identity, the instance's (IMDS), and Google's metadata server; static credentials come from the
configuration. The spool itself retries, because retries must end before the client gives up.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from functions.errors import ConfigError
from functions.options.secrets import resolved
from functions.spool.object import CONTENT_TYPE

if TYPE_CHECKING:
    from functions.options.spool import SpoolOptions
    from listener.intake.s3_uploads import S3Uploads

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


_USED: Final = re.compile(
    "AWS_(?:ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|(?:DEFAULT_)?REGION|ENDPOINT_URL(?:_S3|_STS)?"
    "|METADATA_ENDPOINT|WEB_IDENTITY_TOKEN_FILE|ROLE_ARN|ROLE_SESSION_NAME|STS_REGIONAL_ENDPOINTS"
    "|CONTAINER_CREDENTIALS_(?:RELATIVE|FULL)_URI|CONTAINER_AUTHORIZATION_TOKEN_FILE|EXECUTION_ENV"
    "|EC2_METADATA_DISABLED|CA_BUNDLE|PAGER|(?:DEFAULT_)?PROFILE|(?:CONFIG|SHARED_CREDENTIALS)_FILE)"
)
"""The variables that the short way obeys, and those that neither way reads."""

_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")

_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*/")
_VALUE: Final = re.compile(r"[!-?A-~]+")  # no space, and no @ with a password before it
_HEADERS: Final = {
    "server_side_encryption": "x-amz-server-side-encryption",
    "sse_kms_key_id": "x-amz-server-side-encryption-aws-kms-key-id",
}


def open_uploads(
    options: SpoolOptions, environ: Mapping[str, str], resolve: Callable[[str], str]
) -> S3Uploads | None:
    """The short way into an S3 bucket; None if only obstore knows all that the store needs: proxies, other
    variables of AWS, paths with percent signs. Raises ConfigError."""
    from listener.intake.s3_credentials import source_of
    from listener.intake.s3_signature import S3Signature
    from listener.intake.s3_uploads import BucketAddress, S3Uploads

    # obstore reads the process's own environment, too.
    if options.scheme != "s3" or any(map(_only_obstore, os.environ)):
        return None
    given = _s3(options, environ, resolve)
    base, region = given.get("endpoint"), given["region"]
    if not given["virtual_hosted_style_request"]:
        base = f"{(base or f'https://s3.{region}.amazonaws.com').rstrip('/')}/{options.bucket}"
    url = urlsplit(base or f"https://{options.bucket}.s3.{region}.amazonaws.com")
    path = f"{url.path}/"
    headers = {"content-type": CONTENT_TYPE}
    headers |= {name: str(given[key]) for key, name in _HEADERS.items() if key in given}
    if given.get("sse_bucket_key_enabled") is not None:
        headers["x-amz-server-side-encryption-bucket-key-enabled"] = str(options.bucket_key).lower()
    plain = all(_VALUE.fullmatch(text) for text in (url.netloc, region, *headers.values()))
    if url.query or not url.hostname or not plain or not _PATH.fullmatch(path + options.prefix):
        return None
    source = source_of(given, os.environ)
    if source is None:
        return None
    secure = url.scheme == "https"
    seconds = options.timeout / 1000
    address = BucketAddress(
        url.hostname,
        url.port or (443 if secure else 80),
        secure,
        path,
        min(_CONNECT_MS / 1000, seconds),
        seconds,
    )
    return S3Uploads(address, S3Signature(url.netloc, region, headers), source)


def _only_obstore(name: str) -> bool:
    """True for an environment variable that the short way does not obey."""
    if name.startswith("AWS_"):
        return _USED.fullmatch(name) is None
    return name.lower() in _PROXIES


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
