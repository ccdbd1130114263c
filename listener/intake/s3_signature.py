"""The head of a create-only PUT to S3, signed with AWS Signature Version 4.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hmac
import time
from binascii import b2a_base64
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

from listener.intake.s3_credentials import AwsKeys

_CHECKSUM: Final = "x-amz-checksum-sha256"
_PAYLOAD: Final = "x-amz-content-sha256"


class S3Signature:
    """Makes heads. Only path, length, sha256 and signature differ between the heads of one second, so the
    rest is text that is ready.

    `headers` are those that are always the same, with names in lower case.
    """

    def __init__(self, host: str, region: str, headers: Mapping[str, str]) -> None:
        self._region = region
        self._headers = {"host": host, "if-none-match": "*", **headers}
        self._second = 0
        self._credentials: AwsKeys | None = None
        self._key_of: tuple[str, str] = ("", "")
        self._key = b""

    def head(self, path: str, body: bytes, credentials: AwsKeys) -> bytes:
        """The request up to its body. `path` holds only characters that need no percent sign."""
        now = int(time.time())
        if now != self._second or credentials is not self._credentials:
            self._prepare(now, credentials)
        digest = sha256(body)
        payload = digest.hexdigest()
        checksum = b2a_base64(digest.digest(), newline=False).decode()
        asked = f"PUT\n{path}\n\n{self._before}{checksum}\n{_PAYLOAD}:{payload}\n{self._after}{payload}"
        told = f"{self._told}{sha256(asked.encode()).hexdigest()}"
        signature = hmac.digest(self._key, told.encode(), "sha256").hex()
        return (
            f"PUT {path} HTTP/1.1\r\n{self._lines}content-length: {len(body)}\r\n"
            f"{_CHECKSUM}: {checksum}\r\n{_PAYLOAD}: {payload}\r\n"
            f"authorization: {self._authorization}{signature}\r\n\r\n"
        ).encode()

    def _prepare(self, now: int, credentials: AwsKeys) -> None:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        headers = {**self._headers, "x-amz-date": stamp}
        if credentials.token is not None:
            headers["x-amz-security-token"] = credentials.token
        scope = f"{stamp[:8]}/{self._region}/s3/aws4_request"
        if self._key_of != (credentials.secret, scope):
            self._key = _key(credentials.secret, scope)
            self._key_of = (credentials.secret, scope)
        names = sorted([*headers, _CHECKSUM, _PAYLOAD])
        signed = ";".join(names)
        at = names.index(_CHECKSUM)
        self._before = "".join(f"{name}:{headers[name]}\n" for name in names[:at]) + f"{_CHECKSUM}:"
        rest = "".join(f"{name}:{headers[name]}\n" for name in names[at + 2 :])
        self._after = f"{rest}\n{signed}\n"
        self._told = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n"
        self._lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._authorization = (
            f"AWS4-HMAC-SHA256 Credential={credentials.key_id}/{scope}, SignedHeaders={signed}, Signature="
        )
        self._second, self._credentials = now, credentials


def _key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
