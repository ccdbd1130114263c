"""The sources of credentials for the listener's uploads to S3: the environment, and the roles of a
container, of an instance and of a web identity, each from its own service on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import obstore
import pytest

from functions.options.spool import SpoolOptions
from listener.intake.object_store import open_object_store
from tests.support.clients.tls import Authority
from tests.support.servers.endpoint import Asked, Says, endpoint
from tests.support.servers.relay import ROOT

LATER = "2100-01-01T00:00:00Z"
GIVEN = {"AccessKeyId": "ROLE", "SecretAccessKey": "secret", "Token": "session", "Expiration": LATER}
STS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ROLE</AccessKeyId>
<SecretAccessKey>secret</SecretAccessKey><SessionToken>session</SessionToken>
<Expiration>2100-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>"""


class Aws:
    """S3, and the three services that hand credentials out."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.puts: list[Asked] = []
        self.others: list[Asked] = []

    def __call__(self, asked: Asked) -> Says:
        if asked.method == "PUT" and asked.path.startswith("/mail/"):
            self.puts.append(asked)
            return Says(headers={"ETag": '"0"'})
        self.others.append(asked)
        path = urlsplit(asked.path).path
        if path == "/latest/api/token":
            return Says(body=b"imds")
        if path.endswith("/security-credentials/"):
            return Says(body=b"the-role")
        if "AssumeRoleWithWebIdentity" in asked.path or b"AssumeRoleWithWebIdentity" in asked.body:
            return Says(body=STS.encode())
        return Says(body=json.dumps(GIVEN).encode())

    async def put(self) -> str:
        """Upload an object as the listener does; returns the signer."""
        options = SpoolOptions.model_validate(
            {"url": "s3://mail/relay", "endpoint": self.url}, by_alias=True, by_name=False
        )
        store = open_object_store(options, os.environ, lambda secret: secret)
        await obstore.put_async(store, "key", b"x", mode="create", use_multipart=False)
        (put,) = self.puts
        return f"{put.headers['authorization'].partition('Credential=')[2].partition('/')[0]} " + str(
            put.headers.get("x-amz-security-token")
        )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    with endpoint() as api:
        made = Aws(api.url.partition("/ask")[0])
        api.answer = made
        yield made


async def test_the_environment(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert await aws.put() == "OWN None"
    assert not aws.others


async def test_the_role_of_a_container(aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in EKS."""
    (tmp_path / "token").write_text("pod")
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws.url}/v1/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    assert await aws.put() == "ROLE session"
    (asked,) = aws.others
    assert asked.headers["authorization"] == "pod"


TASK = """
import asyncio, json, os, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import obstore
from functions.options.spool import SpoolOptions
from listener.intake.object_store import open_object_store

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.say(json.dumps({GIVEN}).encode() if self.path == "/v2/credentials/task" else b"")
    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        print(self.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        self.say(b"")
    def say(self, body):
        self.send_response(200)
        self.send_header("ETag", '"0"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): ...

for address in (("169.254.170.2", 80), ("127.0.0.1", 9000)):
    threading.Thread(target=HTTPServer(address, Handler).serve_forever, daemon=True).start()
value = {{"url": "s3://mail/relay", "endpoint": "http://127.0.0.1:9000"}}
options = SpoolOptions.model_validate(value, by_alias=True, by_name=False)
store = open_object_store(options, os.environ, lambda secret: secret)


async def put():
    await obstore.put_async(store, "key", b"x", mode="create", use_multipart=False)

asyncio.run(put())
"""


def test_the_role_of_a_task() -> None:
    """As in ECS, whose credentials have an address of their own: in a network of its own."""
    if os.geteuid() or shutil.which("unshare") is None or shutil.which("ip") is None:
        pytest.skip("a network of its own needs root, util-linux and iproute2 (Debian packages)")
    prepare = "ip link set lo up && ip address add 169.254.170.2/32 dev lo"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    task = {"AWS_REGION": "eu-west-1", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/task"}
    inside = [sys.executable, "-c", TASK.format(GIVEN=GIVEN)]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", f'{prepare} && exec "$@"', "sh", *inside],
        env=kept | task | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "ROLE\n", done.stderr


async def test_the_role_of_an_instance(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", aws.url)
    assert await aws.put() == "ROLE session"
    token, name, credentials = aws.others
    assert token.method == "PUT", "IMDSv2"
    assert name.headers["x-aws-ec2-metadata-token"] == "imds"
    assert credentials.path.endswith("/security-credentials/the-role")


async def test_a_web_identity(aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("identity")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/relay")
    identity = Authority.shared().issue("localhost")
    certificate, key = map(str, identity.write(tmp_path))
    (tmp_path / "ca.pem").write_text(Authority.shared().identity.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with endpoint((certificate, key)) as sts:
        sts.answer = aws
        port = urlsplit(sts.url).port
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"https://localhost:{port}")
        assert await aws.put() == "ROLE session"
    (asked,) = aws.others
    given: dict[str, Any] = parse_qs(urlsplit(asked.path).query) | parse_qs(asked.body.decode())
    assert given["RoleArn"] == ["arn:aws:iam::1:role/relay"]
    assert given["WebIdentityToken"] == ["identity"]
