"""Secrets in Parameter Store and Secrets Manager: the listener reads its own at start, the function
reads those of its outputs."""

from __future__ import annotations

import asyncio
import json
import smtplib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from functions.aws.secrets import fetch
from functions.errors import ConfigError
from functions.options.secrets import SecretResolver
from listener.config.smtp import SmtpOptions
from listener.smtp.tls.context import ServerTls
from tests.support.clients.tls import Authority, Identity
from tests.support.clouds.aws_stack import Stack
from tests.support.clouds.ministack import Ministack
from tests.support.net import HOST, PATIENCE, wait_until
from tests.support.servers.relay import Relay
from tests.support.servers.smarthost import EXTENSIONS, smarthost

Relays = Callable[..., Relay]

ALLOW: Final = {"type": "whitelist", "ips": [HOST]}


@pytest.fixture
def surrounded(aws: Ministack, monkeypatch: pytest.MonkeyPatch) -> Ministack:
    """The AWS that this process's own clients reach."""
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    return aws


@pytest.fixture
def keep(aws: Ministack) -> Callable[..., str]:
    """Stores a secret; returns the reference to it."""
    ssm, manager = aws.client("ssm"), aws.client("secretsmanager")

    def put(scheme: str, value: str | bytes) -> str:
        name = f"relay/{uuid4()}"
        if scheme == "ssm":
            ssm.put_parameter(Name=f"/{name}", Value=value, Type="SecureString")
            return f"ssm:/{name}"
        kind = "SecretBinary" if isinstance(value, bytes) else "SecretString"
        manager.create_secret(Name=name, **{kind: value})
        return f"secretsmanager:{name}"

    return put


def test_what_is_read(surrounded: Ministack, keep: Callable[..., str]) -> None:
    text = "grüße\nand a second line\n"
    for scheme in ("ssm", "secretsmanager"):
        _, _, name = keep(scheme, text).partition(":")
        assert fetch(scheme, name) == text
    _, _, name = keep("secretsmanager", b"\xff\x00").partition(":")
    assert fetch("secretsmanager", name) == "/wA=", "binary ones come as base64"


def test_a_secret_of_another_region_is_named_by_its_arn(surrounded: Ministack) -> None:
    import boto3

    manager = boto3.client("secretsmanager", region_name="eu-west-1", endpoint_url=surrounded.url)
    arn = manager.create_secret(Name=f"relay-{uuid4()}", SecretString="there")["ARN"]
    assert ":eu-west-1:" in arn
    assert fetch("secretsmanager", arn) == "there"


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("ssm:/relay/none", "ParameterNotFound"),
        ("ssm:", "names nothing"),
        ("secretsmanager:relay/none", "ResourceNotFoundException"),
        (f"secretsmanager:{'x' * 3000}", "cannot be read"),
    ],
)
def test_what_is_not_there(surrounded: Ministack, reference: str, reason: str) -> None:
    scheme, _, name = reference.partition(":")
    with pytest.raises(ConfigError, match=reason) as refused:
        fetch(scheme, name)
    assert refused.value.where == reference
    assert "\n" not in str(refused.value)


def test_a_listener_and_its_outputs(aws: Ministack, new_relay: Relays, keep: Callable[..., str]) -> None:
    """A filter's password, TLS key and certificate, and the password for the next hop."""
    identity = Authority.shared().issue("localhost")
    with smarthost(extensions=(*EXTENSIONS, "AUTH PLAIN")) as host:
        mailer = {
            "type": "mailer",
            "nodemailer": {
                "host": HOST,
                "port": host.port,
                "auth": {"user": "relay", "pass": keep("secretsmanager", "next hop's")},
            },
        }
        login = {"type": "static-auth", "username": "ada", "password": keep("ssm", "plain:ada's")}
        relay = new_relay(
            {"flows": {"out": {"filters": [login], "outputs": [mailer]}}},
            env=aws.environment,
            authOptional=False,
            key=keep("secretsmanager", identity.key_pem()),
            cert=keep("secretsmanager", identity.pem),
        ).start()
        with smtplib.SMTP("localhost", relay.port, timeout=30) as client:
            client.starttls(context=Authority.shared().context())
            with pytest.raises(smtplib.SMTPAuthenticationError):
                client.login("ada", "plain:ada's")
            client.login("ada", "ada's")
            client.sendmail("ada@example.com", ["bob@example.com"], "Subject: a secret\r\n\r\nx\r\n")
        wait_until(lambda: bool(host.taken), seconds=PATIENCE, what="the mail at the next hop")
        assert [(one.user, one.password) for one in host.sessions] == [("relay", "next hop's")]
    assert "ada's" not in relay.log()
    assert "next hop's" not in relay.log()


@pytest.mark.parametrize("form", ["json", "pem"])
def test_one_secret_holds_certificate_and_key(
    surrounded: Ministack, keep: Callable[..., str], tmp_path: Path, form: str
) -> None:
    """A listener that runs takes the next pair from it as a whole."""

    def text(identity: Identity) -> str:
        value = {"certificate": identity.pem, "privateKey": identity.key_pem()}
        return json.dumps(value) if form == "json" else identity.pem + identity.key_pem()

    first, second = (Authority.shared().issue("localhost") for _ in range(2))
    reference = keep("secretsmanager", text(first))
    options = SmtpOptions.model_validate({"cert": reference, "key": reference})
    tls = ServerTls(options, "localhost", SecretResolver(tmp_path, {}), "options")
    assert tls.not_after == first.certificate.not_valid_after_utc.timestamp()

    async def renewed() -> None:
        changed: asyncio.Queue[ServerTls] = asyncio.Queue()
        watching = asyncio.create_task(tls.watch(changed.put_nowait, look_every=0.02, resolve_every=0.1))
        surrounded.client("secretsmanager").put_secret_value(
            SecretId=reference.partition(":")[2], SecretString=text(second)
        )
        await asyncio.wait_for(changed.get(), PATIENCE)
        watching.cancel()

    asyncio.run(renewed())
    pair = tls._materials[""].pair
    assert pair is not None
    assert (pair.certificates, pair.key) == (second.pem, second.key_pem())


def test_the_functions_outputs(stack_for: Callable[..., Stack], keep: Callable[..., str]) -> None:
    with smarthost(extensions=(*EXTENSIONS, "AUTH PLAIN")) as host:
        mailers: list[dict[str, Any]] = [
            {
                "type": "mailer",
                "name": scheme,
                "nodemailer": {"host": HOST, "port": host.port, "auth": {"user": scheme, "pass": reference}},
            }
            for scheme, reference in (
                ("ssm", keep("ssm", "first")),
                ("secretsmanager", keep("secretsmanager", "second")),
            )
        ]
        stack = stack_for({"in": mailers})
        stack.put()
        stack.settled()
        found = {(one.user, one.password) for one in host.sessions}
    assert found == {("ssm", "first"), ("secretsmanager", "second")}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("place", ["filter", "output", "options"])
def test_a_wrong_name_ends_the_start_with_one_line(
    aws: Ministack, new_relay: Relays, place: str, workers: int
) -> None:
    """File, path in it, reference and reason; status 2 and no traceback."""
    none = "secretsmanager:relay/none" if place == "options" else "ssm:/relay/none"
    login = {"type": "static-auth", "username": "u", "password": none if place == "filter" else "plain:x"}
    auth = {"user": "u", "pass": none if place == "output" else "env:HOME"}
    mailer = {"type": "mailer", "nodemailer": {"host": HOST, "port": 25, "auth": auth}}
    config = {
        "flows": {"a": {"filters": [ALLOW, login], "outputs": [mailer]}},
        "options": {"key": none, "cert": none} if place == "options" else {},
        "workers": workers,
    }
    relay = new_relay(config, env=aws.environment)
    done = subprocess.run(
        relay.command(),
        cwd=relay.folder,
        env={**relay.environment()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if none in line]
    where = {
        "filter": "flows.a.filters[1].password",
        "output": "flows.a.outputs[0].nodemailer.auth.pass",
        "options": "options.key, options.cert",
    }[place]
    assert done.returncode == 2
    assert said
    assert all(f"{relay.path}: {where}: {none}: cannot be read:" in line for line in said), done.stderr
    assert "NotFound" in said[0]
    assert "Traceback" not in done.stderr
    if workers == 1:
        assert len(said) == 1
        assert said[0].startswith("smtp-relay: ")
