"""Storing to S3: compared with the requests on the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from pydantic import ValidationError

from functions.errors import Permanent, Temporary
from functions.processors.store import CloudProcessor
from tests.support.mails.jobs import fault_of, job_of
from tests.support.mails.spooled import MAIL
from tests.support.servers.endpoint import Asked, Endpoint, Says

Outputs = Callable[..., CloudProcessor]

STORAGE = {"bucket": "mails", "path": "in/${id}.eml", "addRawHeaders": False}


def answers(api: Endpoint, *first: Says) -> None:
    left = list(first)
    api.answer = lambda asked: left.pop(0) if left else Says(headers={"ETag": '"e"'})


def refusal(status: int, code: str) -> Says:
    return Says(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())


def octets(put: Asked) -> bytes:
    """The object of a PUT, out of the chunks that botocore sends it in."""
    if "aws-chunked" not in put.headers.get("content-encoding", ""):
        return put.body
    found, rest = b"", put.body
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if not length:
            return found
        found, rest = found + rest[:length], rest[length + 2 :]


def test_a_create_only_put(api: Endpoint, output: Outputs) -> None:
    answers(api)
    job = job_of()
    output(storage=STORAGE).process(job)
    (put,) = api.asked
    assert (put.method, unquote(urlsplit(put.path).path)) == ("PUT", f"/mails/in/{job.mail.id}.eml")
    assert put.headers["if-none-match"] == "*"
    assert put.headers["content-type"] == "message/rfc822"
    assert octets(put) == MAIL
    assert {name: value for name, value in put.headers.items() if name.startswith("x-amz-meta-")}.keys() == {
        "x-amz-meta-smtp-relay-id",
        "x-amz-meta-smtp-relay-output",
    }


def test_parameters_of_the_file(api: Endpoint, output: Outputs) -> None:
    answers(api)
    options = {
        "ACL": "bucket-owner-full-control",
        "StorageClass": "STANDARD_IA",
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "arn:aws:kms:eu-west-1:1:key/k",
        "BucketKeyEnabled": True,
        "Tagging": "from=smtp&kind=raw",
        "CacheControl": "no-store",
        "ContentType": "text/plain",
        "ExpectedBucketOwner": "123456789012",
        "ChecksumAlgorithm": "SHA256",
        "Metadata": {"team": "mail"},
    }
    output(storage=STORAGE, putOptions=options).process(job_of())
    (put,) = api.asked
    expected = {
        "x-amz-acl": "bucket-owner-full-control",
        "x-amz-storage-class": "STANDARD_IA",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:eu-west-1:1:key/k",
        "x-amz-server-side-encryption-bucket-key-enabled": "true",
        "x-amz-tagging": "from=smtp&kind=raw",
        "cache-control": "no-store",
        "content-type": "text/plain",
        "x-amz-expected-bucket-owner": "123456789012",
        "x-amz-sdk-checksum-algorithm": "SHA256",
        "x-amz-meta-team": "mail",
        "if-none-match": "*",
    }
    assert {name: put.headers.get(name) for name in expected} == expected


@pytest.mark.parametrize("name", ["CRC32C", "CRC64NVME"])
def test_checksums_that_the_sdk_cannot_make_are_a_mistake(output: Outputs, name: str) -> None:
    with pytest.raises(ValidationError, match="'CRC32', 'SHA1' or 'SHA256'"):
        output(storage=STORAGE, putOptions={"ChecksumAlgorithm": name})


@pytest.mark.parametrize(
    "client",
    [
        {"region": "eu-north-1", "credentials": {"accessKeyId": "OWN", "secretAccessKey": "s"}},
        {"region_name": "eu-north-1", "aws_access_key_id": "OWN", "aws_secret_access_key": "s"},
    ],
    ids=["the reference's names", "botocore's names"],
)
@pytest.mark.parametrize(
    "style", [{"forcePathStyle": True}, {"config": {"s3": {"addressing_style": "path"}}}]
)
def test_options_of_the_client(
    api: Endpoint, output: Outputs, client: dict[str, Any], style: dict[str, Any]
) -> None:
    answers(api)
    where = {"endpoint": api.url} if "region" in client else {"endpoint_url": api.url}
    output(storage=STORAGE, s3client=client | style | where).process(job_of())
    (put,) = api.asked
    assert "Credential=OWN/" in put.headers["authorization"]
    assert "/eu-north-1/s3/" in put.headers["authorization"]
    assert put.path.startswith("/mails/")


class Bucket:
    """Objects' metadata by path; the answers to the first `lost` uploads never arrive."""

    def __init__(self, api: Endpoint, lost: int = 0) -> None:
        self.there: dict[str, dict[str, str]] = {}
        self._lost = lost
        api.answer = self._answer

    def _answer(self, asked: Asked) -> Says:
        path = unquote(urlsplit(asked.path).path)
        if asked.method == "HEAD":
            return Says(headers=self.there[path])
        if path in self.there:
            return refusal(412, "PreconditionFailed")
        ours = {name: value for name, value in asked.headers.items() if name.startswith("x-amz-meta-")}
        self.there[path] = ours
        self._lost -= 1
        return Says(raw=b"") if self._lost >= 0 else Says(headers={"ETag": '"e"'})


def test_a_key_of_this_mail_is_done_and_anothers_is_avoided(api: Endpoint, output: Outputs) -> None:
    bucket = Bucket(api)
    bucket.there["/mails/same.eml"] = {"x-amz-meta-smtp-relay-id": "another"}
    job = job_of()
    processor = output(storage={**STORAGE, "path": "same.eml"})
    for _ in range(2):
        processor.process(job)
    assert list(bucket.there) == ["/mails/same.eml", f"/mails/same-{job.mail.id}.eml"]


def test_what_was_stored_without_an_answer_is_found_done(api: Endpoint, output: Outputs) -> None:
    bucket = Bucket(api, lost=1)
    job = job_of()
    output(storage={**STORAGE, "path": "same.eml"}).process(job)
    assert list(bucket.there) == ["/mails/same.eml"]
    assert [asked.method for asked in api.asked] == ["PUT", "PUT", "HEAD"]


def test_a_request_under_way_is_waited_for(api: Endpoint, output: Outputs) -> None:
    answers(api, refusal(409, "ConditionalRequestConflict"))
    output(storage=STORAGE).process(job_of())
    assert [asked.method for asked in api.asked] == ["PUT", "PUT"]


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (refusal(404, "NoSuchBucket"), Permanent, "5.1.2"),
        (refusal(400, "EntityTooLarge"), Permanent, "5.3.4"),
        (refusal(403, "AccessDenied"), Temporary, "4.3.0"),
        (refusal(503, "SlowDown"), Temporary, "4.4.5"),
        (refusal(500, "InternalError"), Temporary, "4.3.0"),
        (Says(raw=b""), Temporary, "4.4.2"),
    ],
)
def test_refusals(api: Endpoint, output: Outputs, answer: Says, kind: type, code: str) -> None:
    api.answer = answer
    processor = output(storage=STORAGE)
    fault = fault_of(lambda: processor.process(job_of()))
    assert type(fault) is kind
    assert fault.enhanced == code
    assert not getattr(fault, "in_doubt", False), "who stores sees whether it worked"
