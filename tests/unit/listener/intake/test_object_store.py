"""The short way into an S3 bucket asks for what obstore asks for, or does not exist."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import obstore
import pytest

from functions.options.spool import SpoolOptions
from functions.spool.object import CONTENT_TYPE
from listener.intake.object_store import open_object_store, open_uploads
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint

KEY = "spool/a/2026/01/02/03/0198a6f2-0000-7000-8000-00000000000a.eml"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with endpoint() as served:
        served.url = served.url.partition("/ask")[0]
        served.answer = Says(headers={"ETag": '"e"'})
        yield served


def spool_of(url: str = "s3://mail/relay", **about: Any) -> SpoolOptions:
    return SpoolOptions.model_validate({"url": url, **about}, by_alias=True, by_name=False)


async def both_ways(api: Endpoint, options: SpoolOptions) -> tuple[Asked, Asked]:
    """The request of obstore, and that of the short way."""
    store = open_object_store(options, os.environ, str)
    await obstore.put_async(
        store,
        options.prefix + KEY,
        b"mail",
        mode="create",
        attributes={"Content-Type": CONTENT_TYPE},
        use_multipart=False,
    )
    uploads = open_uploads(options, os.environ, str)
    assert uploads is not None
    done: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
    assert uploads.put(options.prefix + KEY, b"mail", lambda *outcome: done.set_result(outcome))
    assert await asyncio.wait_for(done, 10) == (200, "")
    uploads.close()
    first, second = api.asked
    return first, second


KMS = {"sse": "aws:kms", "kmsKeyId": "arn:aws:kms:eu-west-1:1:key/k"}


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"url": "s3://mail"},
        {"url": "s3://mail/a/b_c-d.e/F9"},
        {"sse": "AES256"},
        KMS,
        KMS | {"bucketKey": False},
        {"region": "ap-southeast-2"},
        {"accessKeyId": "own", "secretAccessKey": "s", "sessionToken": "to+ken/=="},
        {"endpoint": "/base"},
        {"endpoint": "/base/"},
        {"endpoint": "", "forcePathStyle": False},
        {"endpoint": "/mail", "forcePathStyle": False},
    ],
    ids=str,
)
async def test_the_request_is_that_of_obstore(api: Endpoint, about: dict[str, Any]) -> None:
    about = {**about, "endpoint": api.url + about.get("endpoint", "")}
    theirs, ours = await both_ways(api, spool_of(**about))
    own = {"accept", "user-agent", "authorization", "x-amz-date"}
    assert (ours.method, ours.path, ours.body) == (theirs.method, theirs.path, theirs.body)
    assert {name: value for name, value in ours.headers.items() if name not in own} == {
        name: value for name, value in theirs.headers.items() if name not in own
    }
    if ours.headers["x-amz-date"] == theirs.headers["x-amz-date"]:
        assert ours.headers["authorization"] == theirs.headers["authorization"]


async def test_a_session_token_of_the_environment(api: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    theirs, ours = await both_ways(api, spool_of(endpoint=api.url))
    assert ours.headers["x-amz-security-token"] == theirs.headers["x-amz-security-token"] == "token"


@pytest.mark.parametrize(
    ("about", "host", "path"),
    [
        ({}, "mail.s3.eu-west-1.amazonaws.com", "/"),
        ({"forcePathStyle": True}, "s3.eu-west-1.amazonaws.com", "/mail/"),
        ({"region": "us-east-1"}, "mail.s3.us-east-1.amazonaws.com", "/"),
    ],
)
async def test_without_an_endpoint_it_is_the_regions_with_tls(
    api: Endpoint, about: dict[str, Any], host: str, path: str
) -> None:
    uploads = open_uploads(spool_of(**about), os.environ, str)
    assert uploads is not None
    address = uploads.address
    assert (address.host, address.port, address.secure, address.path) == (host, 443, True, path)


@pytest.mark.parametrize(
    "about",
    [
        {"url": "s3://mail/with space"},
        {"url": "s3://mail/a~b"},
        {"url": "s3://mail/grün"},
        {"url": "s3://mail/a//b"},
        {"url": "s3://mail/100%"},
        {"endpoint": "http://127.0.0.1/base/", "forcePathStyle": False},
        {"endpoint": "http://user:password@127.0.0.1"},
        {"endpoint": "http://127.0.0.1/?query"},
        {"accessKeyId": "line\nend", "secretAccessKey": "s"},
        {"accessKeyId": "k", "secretAccessKey": "s", "sessionToken": "line\r\nx-amz-acl: public-read"},
        {"sse": "aws:kms", "kmsKeyId": "alias/two words"},
        {"url": "gs://mail/relay"},
    ],
    ids=str,
)
def test_what_needs_more_goes_through_obstore(api: Endpoint, about: dict[str, Any]) -> None:
    assert open_uploads(spool_of(**about), os.environ, str) is None


@pytest.mark.parametrize(
    "name", ["AWS_REQUEST_PAYER", "AWS_SKIP_SIGNATURE", "AWS_SOMETHING_NEW", "HTTPS_PROXY", "all_proxy"]
)
def test_an_environment_that_it_does_not_know(
    api: Endpoint, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert open_uploads(spool_of(), os.environ, str) is not None
    monkeypatch.setenv(name, "1")
    assert open_uploads(spool_of(), os.environ, str) is None
