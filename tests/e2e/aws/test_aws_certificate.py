"""The function that stores a renewed certificate of ACM: exported, stored, and taken by the listener.

The local AWS has no ExportCertificate, so a small server of this test answers it as the API reference
says."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError

from functions.options.secrets import SecretResolver
from infra.certificate import index
from listener.config.smtp import SmtpOptions
from listener.smtp.tls.context import ServerTls
from tests.support.clients.tls import Authority, Identity
from tests.support.clouds.ministack import Ministack
from tests.support.net import HOST

ARN: Final = "arn:aws:acm:us-east-1:000000000000:certificate/0b5d3c1e-1111-2222-3333-444455556666"
EVENT: Final = {"source": "aws.acm", "detail-type": "ACM Certificate Available", "resources": [ARN]}


class Acm:
    """ACM with one exportable certificate, which `identity` is; and CloudFormation, which takes answers."""

    def __init__(self) -> None:
        self.identity = Authority.shared().issue("localhost")
        self.passphrases: list[str] = []
        self.answers: list[dict[str, Any]] = []
        acm = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                assert self.headers["X-Amz-Target"] == "CertificateManager.ExportCertificate"
                self.reply(*acm.export(asked["CertificateArn"], base64.b64decode(asked["Passphrase"])))

            def do_PUT(self) -> None:
                acm.answers.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.reply(200, {})

            def reply(self, status: int, value: dict[str, str]) -> None:
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def export(self, arn: str, passphrase: bytes) -> tuple[int, dict[str, str]]:
        """The answer's status and content."""
        if arn != ARN:
            return 400, {"__type": "ResourceNotFoundException", "message": f"no certificate {arn}"}
        assert 4 <= len(passphrase) <= 128
        assert not set(passphrase) & set(b"#$%"), "the API refuses these"
        self.passphrases.append(passphrase.decode())
        return 200, {
            "Certificate": self.identity.pem,
            "CertificateChain": Authority.shared().identity.pem,
            "PrivateKey": self.identity.key_pem(passphrase.decode()),
        }

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def acm() -> Iterator[Acm]:
    made = Acm()
    yield made
    made.close()


@pytest.fixture
def secret(aws: Ministack, acm: Acm, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty secret, in the function's environment."""
    name = f"relay/{uuid4()}"
    environment = {**aws.environment, "AWS_ENDPOINT_URL_ACM": acm.url, "CERTIFICATE": ARN, "SECRET": name}
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    aws.client("secretsmanager").create_secret(Name=name)
    return name


@pytest.fixture
def tls(tmp_path: Path, secret: str) -> Callable[[], ServerTls]:
    """A listener that reads the secret."""
    options = SmtpOptions.model_validate({"cert": f"secretsmanager:{secret}"})
    return lambda: ServerTls(options, "localhost", SecretResolver(tmp_path, {}), "options")


def ends(identity: Identity) -> float:
    return identity.certificate.not_valid_after_utc.timestamp()


def held(tls: ServerTls) -> str:
    pair = tls._materials[""].pair
    assert pair is not None
    return pair.certificates


def test_a_renewed_certificate_is_stored_and_taken(
    acm: Acm, tls: Callable[[], ServerTls], capsys: pytest.CaptureFixture[str]
) -> None:
    assert index.handler(dict(EVENT), None)["version"]
    server = tls()
    chain = Authority.shared().identity.pem
    assert (held(server), server.not_after) == (acm.identity.pem + chain, ends(acm.identity))
    acm.identity = Authority.shared().issue("localhost")
    index.handler(dict(EVENT), None)
    assert server._renew()
    assert held(server) == acm.identity.pem + chain
    assert len(set(acm.passphrases)) == 2, "each export has a passphrase of its own"
    said = capsys.readouterr()
    assert "certificate stored" in said.out
    for private in (*acm.passphrases, "PRIVATE KEY", "BEGIN"):
        assert private not in said.out + said.err


def test_events_of_other_certificates_export_nothing(acm: Acm, secret: str) -> None:
    assert index.handler({**EVENT, "resources": [f"{ARN}0"]}, None) == {"version": ""}
    assert not acm.passphrases


def test_a_deployment_stores_it_at_once(acm: Acm, tls: Callable[[], ServerTls]) -> None:
    """Terraform calls the function, CloudFormation asks for a custom resource."""
    assert index.handler({}, None)["version"]
    acm.identity = Authority.shared().issue("localhost")
    request = {
        "RequestType": "Create",
        "ResponseURL": f"{acm.url}/answer?signed",
        "StackId": "stack",
        "RequestId": "request",
        "LogicalResourceId": "Stored",
    }
    index.handler(request, None)
    assert tls().not_after == ends(acm.identity)
    index.handler({**request, "RequestType": "Delete", "PhysicalResourceId": "certificate"}, None)
    assert len(acm.passphrases) == 2, "a deletion exports nothing"
    assert [(each["Status"], each["PhysicalResourceId"]) for each in acm.answers] == [
        ("SUCCESS", "certificate"),
        ("SUCCESS", "certificate"),
    ]


def test_a_failure_is_tried_again_by_lambda_and_told_to_cloudformation(
    acm: Acm, secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTIFICATE", "arn:aws:acm:us-east-1:000000000000:certificate/gone")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        index.handler({**EVENT, "resources": ["arn:aws:acm:us-east-1:000000000000:certificate/gone"]}, None)
    request = {"RequestType": "Update", "ResponseURL": f"{acm.url}/answer"}
    ids = {"StackId": "s", "RequestId": "r", "LogicalResourceId": "l"}
    index.handler(request | ids, None)
    (answer,) = acm.answers
    assert answer["Status"] == "FAILED"
    assert "no certificate" in answer["Reason"]
    stored = boto3.client("secretsmanager").get_secret_value(SecretId=secret)
    assert not stored.get("SecretString")
