"""A configuration's deployment on AWS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from functions.errors import ConfigError
from infra.bundle.deployment import Deployment, Port, read_deployment
from listener.config.load import load

STORE = {"type": "aws", "storage": {"bucket": "b"}}
TO = {"type": "whitelist", "to": ["regexp:.*@example\\.com"]}


def read(
    tmp_path: Path, output: Any = STORE, *, filters: Any = (TO,), public: Any = None, **more: Any
) -> Deployment:
    path = tmp_path / "relay.jsonc"
    value = {
        "$schema": "config.schema.json",
        "flows": {"in": {"filters": list(filters), "outputs": [output]}},
        "options": {"authOptional": True},
        **more,
    }
    path.write_text("// ours\n" + json.dumps(value))
    return read_deployment(path, public=public)


def served(deployment: Deployment) -> Any:
    """The configuration as the task reads it."""
    return load(
        None,
        {
            "SMTP_RELAY_CONFIG_JSON": deployment.listener_config,
            "SMTP_RELAY_LISTENERS": deployment.listeners,
            "SMTP_RELAY_SPOOL": "s3://made/by-the-stack",
            "SMTP_RELAY_TRUSTED_PROXIES": "10.0.0.0/16",
            "SMTP_RELAY_HEALTH_PORT": "9090",
            "SMTP_RELAY_DEFAULT_BIND": "0.0.0.0",
        },
    )


def test_the_three_ports_of_smtp(tmp_path: Path) -> None:
    deployment = read(tmp_path, port=2525, bind="0.0.0.0")
    assert deployment.ports == (Port("25", 25, 10025), Port("465", 465, 10465), Port("587", 587, 10587))
    config = served(deployment)
    assert [(one.bind, one.port, one.options.secure) for one in config.resolved_listeners()] == [
        ("0.0.0.0", 10025, False),
        ("0.0.0.0", 10465, True),
        ("0.0.0.0", 10587, False),
    ]
    for one in config.resolved_listeners():
        assert [str(network) for network in one.options.use_proxy] == ["10.0.0.0/16"]
    assert config.spool.url == "s3://made/by-the-stack"


def test_the_files_listeners_keep_their_names(tmp_path: Path) -> None:
    listeners = [
        {"port": 10025, "name": "mx", "bind": "127.0.0.1"},
        {"port": 465, "secure": True},
        {"port": 2525},
    ]
    deployment = read(tmp_path, listeners=listeners)
    assert deployment.ports == (Port("mx", 25, 10025), Port("465", 465, 10465), Port("2525", 2525, 2525))
    assert [one.bind for one in served(deployment).resolved_listeners()] == ["0.0.0.0"] * 3


def test_two_listeners_for_one_port_outside(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="25 at the load balancer"):
        read(tmp_path, listeners=[{"port": 25}, {"port": 10025}])


def test_what_stands_beneath_the_file(tmp_path: Path) -> None:
    config = served(read(tmp_path))
    assert config.options.close_timeout == 60_000
    (logger,) = config.log_outputs
    assert (logger.type, logger.format) == ("CONSOLE", "json")


def test_the_file_stands_above(tmp_path: Path) -> None:
    options = {"authOptional": True, "closeTimeout": 1000, "loggers": [{"type": "CONSOLE"}]}
    config = served(read(tmp_path, options=options))
    assert config.options.close_timeout == 1000
    assert config.log_outputs[0].format == "text"


def test_templates_survive_cloudformation_and_terraform(tmp_path: Path) -> None:
    path = "${date:%Y}/${id}.eml"
    deployment = read(tmp_path, {"type": "aws", "storage": {"bucket": "b", "path": path}})
    assert "${" not in deployment.listener_config
    assert served(deployment).flows["in"].outputs[0].storage.path == path


@pytest.mark.parametrize(
    ("output", "sends", "receipts", "concurrency"),
    [
        (STORE, False, False, 50),
        ({"type": "aws", "pubsub": {"topic": "https://sqs.eu-west-1.amazonaws.com/1/q"}}, False, True, 50),
        ({"type": "aws", "ses": {"maxSendRate": 100, "identities": ["example.com"]}}, True, True, 25),
        ({"type": "aws", "ses": {"maxSendRate": 1}}, True, True, 2),
        ({"type": "aws", "ses": {"maxSendRate": 100_000}}, True, True, 50),
        ({"type": "aws", "ses": {}}, True, True, 4),
        ({"type": "mailer", "nodemailer": "smtp://smtp.example.com:587"}, True, True, 10),
    ],
)
def test_what_outputs_ask_for(
    tmp_path: Path, output: Any, sends: bool, receipts: bool, concurrency: int
) -> None:
    deployment = read(tmp_path, output, public=False)
    assert deployment.sends_mail is sends
    assert deployment.needs_receipts is receipts
    assert deployment.concurrency == concurrency


@pytest.mark.parametrize(
    ("output", "given", "concurrency"),
    [
        (STORE, 200, 200),
        ({"type": "mailer", "nodemailer": "smtp://smtp.example.com:587"}, 30, 30),
        ({"type": "aws", "ses": {"maxSendRate": 40}}, 30, 10),
        ({"type": "aws", "ses": {"maxSendRate": 40}}, 4, 4),
        ({**STORE, "concurrency": 7}, 30, 7),
        ({**STORE, "concurrency": 1}, 30, 2),
        ({**STORE, "concurrency": 70}, 30, 30),
    ],
)
def test_a_files_concurrency_is_bounded_by_its_outputs(
    tmp_path: Path, output: Any, given: int, concurrency: int
) -> None:
    assert read(tmp_path, output, public=False, delivery={"concurrency": given}).concurrency == concurrency


def test_whether_the_balancer_is_public_is_said_and_not_derived(tmp_path: Path) -> None:
    ses = {"type": "aws", "ses": {"identities": ["example.com"]}}
    with pytest.raises(ConfigError, match="say public=true or public=false"):
        read(tmp_path, ses)
    assert read(tmp_path).public is True
    assert read(tmp_path, ses, public=False).public is False


def test_ecs_takes_five_ports(tmp_path: Path) -> None:
    five = [{"port": port} for port in range(2525, 2530)]
    assert len(read(tmp_path, listeners=five).ports) == 5
    with pytest.raises(ConfigError, match="there are 6, and a service on ECS takes 5"):
        read(tmp_path, listeners=[*five, {"port": 25}])


def test_an_open_relay_is_refused_where_strangers_reach_it(tmp_path: Path) -> None:
    ses = {"type": "aws", "ses": {"identities": ["example.com"]}}
    anybody = {"type": "whitelist", "ips": ["regexp:.*"]}
    assert any("open relay" in line for line in read(tmp_path, ses, filters=[anybody], public=False).warnings)
    with pytest.raises(ConfigError, match="open relay"):
        read(tmp_path, ses, filters=[anybody], public=True)


@pytest.mark.parametrize(
    ("public", "given", "bound"),
    [(True, {}, 50), (None, {}, 50), (False, {}, None), (True, {"maxClientsPerIp": 7}, 7)],
)
def test_an_address_has_a_bound_where_strangers_reach_the_balancer(
    tmp_path: Path, public: bool | None, given: dict[str, int], bound: int | None
) -> None:
    deployment = read(tmp_path, options={"authOptional": True, **given}, public=public)
    assert json.loads(deployment.listener_config)["options"].get("maxClientsPerIp") == bound
    assert {one.options.max_clients_per_ip for one in deployment.config.resolved_listeners()} == {bound}


def test_a_public_listener_without_a_bound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="maxClientsPerIp is not set"):
        read(tmp_path, options={"maxClientsPerIp": None}, public=True)


def test_prefix_and_encryption_come_from_the_file(tmp_path: Path) -> None:
    deployment = read(tmp_path, spool={"url": "s3://ignored/a/b", "sse": "aws:kms"})
    assert deployment.prefix == "a/b/"
    assert deployment.spool.sse == "aws:kms"
    assert read(tmp_path).prefix == ""


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ({"type": "file", "path": "in"}, "no folder"),
        ({"type": "gcp", "path": "gs://b/"}, "runs no gcp outputs"),
        (
            {"type": "mailer", "nodemailer": {"host": "h", "auth": {"user": "u", "pass": "env:X"}}},
            "cloud's store",
        ),
    ],
)
def test_outputs_that_cannot_run_there(tmp_path: Path, output: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read(tmp_path, output, public=False)


@pytest.mark.parametrize(
    ("password", "reason"),
    [
        ("plain:secret", "would be readable in the task's definition"),
        ("file://password", "not exist in the container"),
        ("env:PASSWORD", "not exist in the container"),
    ],
)
def test_secrets_that_do_not_belong_there(tmp_path: Path, password: str, reason: str) -> None:
    (tmp_path / "password").write_text("plain:x")
    auth = {"type": "static-auth", "username": "app", "password": password}
    with pytest.raises(ConfigError, match=reason):
        read(tmp_path, filters=[auth])


@pytest.mark.parametrize(
    "password",
    [
        "ssm:/relay/password",
        "secretsmanager:relay",
        "sha256:" + "0" * 64,
        "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA",
    ],
)
def test_secrets_that_do(tmp_path: Path, password: str) -> None:
    auth = {"type": "static-auth", "username": "app", "password": password}
    assert served(read(tmp_path, filters=[auth]))
