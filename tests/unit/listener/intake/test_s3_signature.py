"""The head of a PUT is signed as AWS's own library signs it."""

from __future__ import annotations

import time

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from listener.intake.s3_credentials import AwsKeys
from listener.intake.s3_signature import S3Signature

DAY = 86_400
NOON = 1_790_000_000 // DAY * DAY + DAY // 2


def asked(head: bytes) -> tuple[str, dict[str, str]]:
    """The request line and the headers."""
    assert head.endswith(b"\r\n\r\n")
    line, *rest = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    return line, dict(field.split(": ", 1) for field in rest)


def signed_by_aws(path: str, headers: dict[str, str], keys: AwsKeys, body: bytes) -> str:
    request = AWSRequest("PUT", f"https://{headers['host']}{path}", dict(headers), body)
    signer = S3SigV4Auth(Credentials(keys.key_id, keys.secret, keys.token), "s3", "eu-west-1")
    request.context.update({"timestamp": headers["x-amz-date"], "payload_signing_enabled": True})
    canonical = signer.canonical_request(request)
    return str(signer.signature(signer.string_to_sign(request, canonical), request))


@pytest.mark.parametrize("token", [None, "to+ken=="])
@pytest.mark.parametrize("more", [{}, {"x-amz-server-side-encryption": "AES256"}])
def test_the_signature_is_that_of_aws(
    monkeypatch: pytest.MonkeyPatch, token: str | None, more: dict[str, str]
) -> None:
    signature = S3Signature("mail.s3.eu-west-1.amazonaws.com", "eu-west-1", {"content-type": "a/b", **more})
    keys = AwsKeys("KEY", "secret/+", token)
    # Each second has text of its own, each day a key.
    for now in (NOON, NOON, NOON + 1, NOON + DAY):
        monkeypatch.setattr(time, "time", lambda now=now: now + 0.5)
        for body in (b"", b"mail", b"x" * 100_000):
            line, headers = asked(signature.head("/relay/a.eml", body, keys))
            assert line == "PUT /relay/a.eml HTTP/1.1"
            assert headers["content-length"] == str(len(body))
            assert headers["if-none-match"] == "*"
            assert headers["x-amz-date"] == time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
            words, _, found = headers.pop("authorization").rpartition("=")
            scope = f"{headers['x-amz-date'][:8]}/eu-west-1/s3/aws4_request"
            names = ";".join(sorted(headers.keys() - {"content-length"}))
            assert words == f"AWS4-HMAC-SHA256 Credential=KEY/{scope}, SignedHeaders={names}, Signature"
            del headers["content-length"]
            assert found == signed_by_aws("/relay/a.eml", headers, keys, body)


def test_new_credentials_are_used_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOON)
    signature = S3Signature("host", "eu-west-1", {})
    first = signature.head("/a", b"", AwsKeys("K", "one"))
    second = signature.head("/a", b"", AwsKeys("K", "two"))
    third = signature.head("/a", b"", AwsKeys("L", "two", "token"))
    assert first != second
    assert b"Credential=L/" in third
    assert b"x-amz-security-token: token\r\n" in third
