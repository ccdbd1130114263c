"""Credentials for S3 from the sources that obstore has, in its order: static ones, a web identity, a
container's role (ECS, EKS Pod Identity), and an instance's (IMDSv2)."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

log: Final = logging.getLogger("smtp_relay.spool")

_EARLY: Final = 300.0  # seconds before their end at which credentials are fetched again
_SPARE: Final = 10.0  # seconds before their end at which credentials are used no more
_PAUSE: Final = 30.0  # seconds between two attempts to fetch
_TIMEOUT: Final = 5.0
_MOST: Final = 65_536  # bytes of an answer

_TASK: Final = "http://169.254.170.2"
_INSTANCE: Final = "http://169.254.169.254"
_ROLES: Final = "/latest/meta-data/iam/security-credentials/"


class AwsKeys(NamedTuple):
    """One set. `until` is Unix time in seconds, None for ever."""

    key_id: str
    secret: str
    token: str | None = None
    until: float | None = None


class CredentialSource:
    """The current credentials, which a thread fetches again before they end."""

    def __init__(self, fetch: Callable[[], AwsKeys], first: AwsKeys | None = None) -> None:
        self._fetch = fetch
        self._current = first
        self._again = 0.0
        self._task: asyncio.Task[None] | None = None

    def current(self) -> AwsKeys | None:
        """None while there are none. To be called in the event loop."""
        found = self._current
        if found is None or found.until is not None:
            now = time.time()
            left = -1.0 if found is None or found.until is None else found.until - now
            if left < _EARLY and now >= self._again and self._task is None:
                self._again = now + _PAUSE
                self._task = asyncio.get_running_loop().create_task(self._refresh())
            if left < _SPARE:
                return None
        return found

    def refused(self) -> None:
        """The bucket took the credentials for wrong or ended."""
        if self._current is not None and self._current.until is not None:
            self._current = None

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _refresh(self) -> None:
        try:
            self._current = await asyncio.to_thread(self._fetch)
        except (OSError, ValueError, KeyError, TypeError) as error:
            # The uploads go through obstore now, which tells why.
            log.debug("no credentials for short uploads", extra={"reason": type(error).__name__})
        finally:
            self._task = None


def source_of(given: Mapping[str, Any], environ: Mapping[str, str]) -> CredentialSource | None:
    """The source by obstore's arguments and the environment. None if static credentials fit no header."""
    key = given.get("access_key_id") or environ.get("AWS_ACCESS_KEY_ID")
    secret = given.get("secret_access_key") or environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        token = given.get("session_token") or environ.get("AWS_SESSION_TOKEN") or None
        static = AwsKeys(key, secret, token)
        return CredentialSource(lambda: static, static) if _fit(static) else None
    return CredentialSource(lambda: _of_role(environ, given["region"]))


def _of_role(environ: Mapping[str, str], region: str) -> AwsKeys:
    """Raises OSError, ValueError and KeyError."""
    file, role = environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"), environ.get("AWS_ROLE_ARN")
    if file and role:
        return _of_web_identity(environ, region, Path(file).read_text().strip(), role)
    path = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if path:
        return _of_json(_ask(_TASK + path))
    url, file = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"), environ.get(_POD_TOKEN)
    if url and file:
        return _of_json(_ask(url, {"Authorization": Path(file).read_text().strip()}))
    base = environ.get("AWS_METADATA_ENDPOINT", _INSTANCE).rstrip("/")
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "600"}
    headers = {"X-aws-ec2-metadata-token": _ask(f"{base}/latest/api/token", ttl, method="PUT")}
    return _of_json(_ask(base + _ROLES + _ask(base + _ROLES, headers).strip(), headers))


_POD_TOKEN: Final = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"  # noqa: S105 - a variable's name


def _of_web_identity(environ: Mapping[str, str], region: str, token: str, role: str) -> AwsKeys:
    """STS AssumeRoleWithWebIdentity, which takes no signature."""
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": "2011-06-15",
        "RoleArn": role,
        "RoleSessionName": environ.get("AWS_ROLE_SESSION_NAME", "WebIdentitySession"),
        "WebIdentityToken": token,
    }
    url = environ.get("AWS_ENDPOINT_URL_STS") or f"https://sts.{region}.amazonaws.com"
    text = _ask(url, data=urlencode(form).encode(), method="POST")
    return _of({name: value.strip() for name, value in re.findall(r"<(\w+)>([^<]*)</\1>", text)}, "Session")


def _of_json(text: str) -> AwsKeys:
    return _of(json.loads(text), "")


def _of(found: Mapping[str, str], kind: str) -> AwsKeys:
    until = datetime.fromisoformat(found["Expiration"]).timestamp()
    made = AwsKeys(found["AccessKeyId"], found["SecretAccessKey"], found[f"{kind}Token"], until)
    if not _fit(made):
        raise ValueError("the credentials fit no header")
    return made


def _fit(credentials: AwsKeys) -> bool:
    return all(re.fullmatch("[!-~]+", text) for text in (credentials.key_id, credentials.token or "-"))


def _ask(
    url: str, headers: Mapping[str, str] | None = None, data: bytes | None = None, method: str = "GET"
) -> str:
    from http.client import HTTPException
    from urllib.request import ProxyHandler, Request, build_opener

    request = Request(url, data, dict(headers or {}), method=method)  # noqa: S310 - AWS's or the operator's
    # Uploads through a proxy go the way of obstore.
    try:
        with build_opener(ProxyHandler({})).open(request, timeout=_TIMEOUT) as answer:
            text: bytes = answer.read(_MOST)
    except HTTPException as error:
        raise OSError(f"no HTTP: {type(error).__name__}") from error
    return text.decode()
