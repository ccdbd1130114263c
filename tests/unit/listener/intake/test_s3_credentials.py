"""Credentials for short uploads: the sources, and what happens as they end."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from listener.intake import s3_credentials
from listener.intake.s3_credentials import AwsKeys, CredentialSource, source_of
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint

LATER = "2100-01-01T00:00:00Z"
UNTIL = 4_102_444_800.0
ROLE = AwsKeys("ROLE", "secret", "session", UNTIL)
GIVEN = {"AccessKeyId": "ROLE", "SecretAccessKey": "secret", "Token": "session", "Expiration": LATER}
STS = f"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ROLE</AccessKeyId>
<SecretAccessKey>secret</SecretAccessKey><SessionToken>session
</SessionToken><Expiration>{LATER}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


@pytest.fixture
def api() -> Iterator[Endpoint]:
    with endpoint() as served:
        served.url = served.url.partition("/ask")[0]
        served.answer = Says(body=json.dumps(GIVEN).encode())
        yield served


async def keys_of(source: CredentialSource | None) -> AwsKeys | None:
    """The credentials, after the attempt that `current` may start."""
    assert source is not None
    if source.current() is None and source._task is not None:
        await source._task
    return source.current()


@pytest.mark.parametrize("names", [(), ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN")])
async def test_the_environment_comes_before_roles(names: tuple[str, ...]) -> None:
    environ = {"AWS_ACCESS_KEY_ID": "OWN", "AWS_SECRET_ACCESS_KEY": "s"} | dict.fromkeys(names, "x")
    assert await keys_of(source_of({"region": "r"}, environ)) == AwsKeys("OWN", "s", None, None)


async def test_the_configuration_comes_before_the_environment() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "OWN", "AWS_SECRET_ACCESS_KEY": "s"}
    given = {"access_key_id": "FILE", "secret_access_key": "t", "session_token": "u", "region": "r"}
    assert await keys_of(source_of(given, environ)) == AwsKeys("FILE", "t", "u", None)


async def test_the_role_of_a_task(api: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in ECS."""
    monkeypatch.setattr(s3_credentials, "_TASK", api.url)
    environ = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/task"}
    assert await keys_of(source_of({"region": "r"}, environ)) == ROLE
    assert [(asked.method, asked.path) for asked in api.asked] == [("GET", "/v2/credentials/task")]


async def test_the_role_of_a_pod(api: Endpoint, tmp_path: Path) -> None:
    """As in EKS."""
    (tmp_path / "token").write_text("pod\n")
    environ = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{api.url}/v1/credentials",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
    }
    assert await keys_of(source_of({"region": "r"}, environ)) == ROLE
    (asked,) = api.asked
    assert asked.headers["authorization"] == "pod"


async def test_the_role_of_an_instance(api: Endpoint) -> None:
    def answer(asked: Asked) -> Says:
        if asked.method == "PUT":
            return Says(body=b"imds")
        return Says(body=b"the-role\n" if asked.path.endswith("/") else json.dumps(GIVEN).encode())

    api.answer = answer
    assert await keys_of(source_of({"region": "r"}, {"AWS_METADATA_ENDPOINT": api.url})) == ROLE
    token, name, keys = api.asked
    assert (token.path, token.headers["x-aws-ec2-metadata-token-ttl-seconds"]) == ("/latest/api/token", "600")
    assert name.headers["x-aws-ec2-metadata-token"] == keys.headers["x-aws-ec2-metadata-token"] == "imds"
    assert keys.path == "/latest/meta-data/iam/security-credentials/the-role"


async def test_a_web_identity(api: Endpoint, tmp_path: Path) -> None:
    api.answer = Says(body=STS.encode())
    (tmp_path / "token").write_text("identity&more\n")
    environ = {
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/relay",
        "AWS_ENDPOINT_URL_STS": api.url,
    }
    assert await keys_of(source_of({"region": "r"}, environ)) == ROLE
    (asked,) = api.asked
    given = parse_qs(asked.body.decode())
    assert given["Action"] == ["AssumeRoleWithWebIdentity"]
    assert given["RoleArn"] == ["arn:aws:iam::1:role/relay"]
    assert given["WebIdentityToken"] == ["identity&more"]


@pytest.mark.parametrize(
    "says",
    [
        Says(500),
        Says(raw=b""),
        Says(raw=b"no HTTP at all\r\n\r\n"),
        Says(body=b"no JSON"),
        Says(body=b"[]"),
        Says(body=b"{}"),
        Says(body=json.dumps({**GIVEN, "Expiration": None}).encode()),
        Says(body=json.dumps({**GIVEN, "Token": "a\r\nb"}).encode()),
        Says(body=b"\xff"),
        Says(body=b" " * 100_000 + json.dumps(GIVEN).encode()),
    ],
    ids=lambda says: str(says.raw or says.body or says.status)[:20],
)
async def test_an_answer_without_credentials_leaves_the_uploads_to_obstore(
    api: Endpoint, monkeypatch: pytest.MonkeyPatch, says: Says
) -> None:
    api.answer = says
    monkeypatch.setattr(s3_credentials, "_TASK", api.url)
    source = source_of({"region": "r"}, {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/"})
    assert await keys_of(source) is None
    assert len(api.asked) == 1, "the next attempt comes after a pause"


def fetches(*lives: float) -> tuple[Callable[[], AwsKeys], list[AwsKeys]]:
    """A source that gives keys that live so many seconds, then fails; and what it gave."""
    left, given = list(lives), list[AwsKeys]()

    def fetch() -> AwsKeys:
        if not left:
            raise OSError("down")
        given.append(AwsKeys(f"K{len(given)}", "s", "t", time.time() + left.pop(0)))
        return given[-1]

    return fetch, given


async def test_credentials_are_fetched_again_before_they_end() -> None:
    fetch, given = fetches(200, 10_000)
    source = CredentialSource(fetch)
    assert await keys_of(source) == given[0]
    source._again = 0.0
    assert source.current() == given[0], "they serve until the next ones are here"
    assert source._task is not None
    await source._task
    assert source.current() == given[1]
    assert source._task is None, "those last for now"


async def test_credentials_that_ended_are_not_used() -> None:
    fetch, given = fetches(5)
    source = CredentialSource(fetch)
    assert await keys_of(source) is None
    assert len(given) == 1


async def test_credentials_that_the_bucket_refuses_are_fetched_anew() -> None:
    fetch, given = fetches(10_000, 10_000)
    source = CredentialSource(fetch)
    assert await keys_of(source) == given[0]
    source.refused()
    assert await keys_of(source) is None, "not at once: the bucket may refuse all"
    source._again = 0.0
    assert await keys_of(source) == given[1]


async def test_static_credentials_that_the_bucket_refuses_stay() -> None:
    own = AwsKeys("K", "s")
    source = CredentialSource(lambda: own, own)
    source.refused()
    assert source.current() == own


async def test_a_source_that_is_closed_waits_for_nothing() -> None:
    source = CredentialSource(lambda: ROLE)
    assert source.current() is None
    task = source._task
    assert task is not None
    source.close()
    with pytest.raises(asyncio.CancelledError):
        await task
