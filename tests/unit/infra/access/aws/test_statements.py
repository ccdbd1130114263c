"""The permissions of roles, derived from configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from functions.errors import ConfigError
from functions.options.storage import StorageOptions
from infra.access.aws import rules
from infra.access.aws.images import repository_arn
from infra.access.aws.statements import (
    Place,
    Spool,
    function_statements,
    key_pattern,
    listener_statements,
    output_statements,
    pull_statements,
    queue_arn,
)
from infra.bundle.deployment import read_deployment

PLACE = Place("aws", "eu-west-1", "123456789012")
SPOOL = Spool(
    bucket="arn:aws:s3:::spool",
    prefix="mail/",
    queue="arn:aws:sqs:eu-west-1:123456789012:doorbells",
    table=None,
    log_group="arn:aws:logs:eu-west-1:123456789012:log-group:function",
)
WHITELIST = {"type": "whitelist", "ips": ["10.0.0.1"]}


def deployed(tmp_path: Path, *outputs: dict[str, Any], filters: Any = None, **settings: Any) -> Any:
    """The configuration with one flow of these outputs."""
    path = tmp_path / "relay.json"
    flow = {"filters": filters or [WHITELIST], "outputs": [{"type": "aws", **one} for one in outputs]}
    path.write_text(json.dumps({"flows": {"in": flow}, "options": {"authOptional": True}, **settings}))
    return read_deployment(path, public=False).config


def resources(statements: list[dict[str, Any]], action: str) -> list[str]:
    """The resources that an action is allowed on."""
    return [arn for each in statements if action in each["Action"] for arn in each["Resource"]]


@pytest.mark.parametrize(
    ("key", "pattern"),
    [
        ("${date:%Y}/${id}.eml", "*"),
        ("inbound/${iso8601}_${id}.eml", "inbound/*"),
        ("in/of-${flow}/x", "in/of-*"),
        ("fixed.eml", "fixed*"),
        ("in.d/fixed", "in.d/fixed*"),
        ("odd*name/${id}", "odd?name/*"),
        ("/in/${id}", "in/*"),
        ("in/x.${user}", "in/x*"),
    ],
)
def test_keys_end_at_their_first_variable(key: str, pattern: str) -> None:
    assert key_pattern(StorageOptions(bucket="b", path=key).key_start) == pattern


@pytest.mark.parametrize(
    ("path", "pattern"),
    [("", "*"), ("in/", "in/*"), ("in", "in/*"), ("in/${id}", "in/*"), ("in/of-${flow}/${id}/", "in/of-*")],
)
def test_all_parts_of_a_mail_are_below_what_is_permitted(tmp_path: Path, path: str, pattern: str) -> None:
    config = deployed(tmp_path, {"storage": {"bucket": "b", "path": path, "type": "parts"}})
    found = output_statements(config, PLACE)
    assert (
        resources(found, "s3:PutObject") == resources(found, "s3:GetObject") == [f"arn:aws:s3:::b/{pattern}"]
    )


@pytest.mark.parametrize(
    ("url", "arn"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/in", "arn:aws:sqs:eu-west-1:123456789012:in"),
        ("https://sqs.us-west-2.amazonaws.com/999999999999/in", "arn:aws:sqs:us-west-2:999999999999:in"),
        ("https://us-east-2.queue.amazonaws.com/123456789012/q", "arn:aws:sqs:us-east-2:123456789012:q"),
        ("https://sqs.eu-west-1.api.aws/123456789012/q.fifo", "arn:aws:sqs:eu-west-1:123456789012:q.fifo"),
        ("https://sqs-fips.us-east-1.amazonaws.com/123456789012/q", "arn:aws:sqs:us-east-1:123456789012:q"),
        (
            "https://vpce-1a2b.sqs.eu-west-1.vpce.amazonaws.com/123456789012/q",
            "arn:aws:sqs:eu-west-1:123456789012:q",
        ),
        ("http://127.0.0.1:4566/000000000000/q", "arn:aws:sqs:eu-central-1:000000000000:q"),
    ],
)
def test_queues_by_their_urls(url: str, arn: str) -> None:
    assert queue_arn(url, "aws", "eu-central-1") == arn


@pytest.mark.parametrize(
    "url",
    ["https://sqs.eu-west-1.amazonaws.com/in", "https://sqs.eu-west-1.amazonaws.com/123456789012/in*"],
)
def test_urls_that_are_no_queues(url: str) -> None:
    with pytest.raises(ConfigError, match="account and the queue's name"):
        queue_arn(url, "aws", "eu-west-1")


def test_the_listener_writes_below_its_prefix_and_reads_its_secrets(tmp_path: Path) -> None:
    filters = [
        {"type": "static-auth", "username": "app", "password": "ssm:/relay/password"},
        {
            "type": "http-filter",
            "url": "https://filter.example.com/",
            "hmac": {"secret": "secretsmanager:relay/hmac"},
        },
    ]
    config = deployed(tmp_path, {"storage": {"bucket": "b"}}, filters=filters)
    found = listener_statements(config, SPOOL, PLACE)
    assert [(each["Action"], each["Resource"]) for each in found] == [
        (["s3:PutObject"], ["arn:aws:s3:::spool/mail/spool/*"]),
        (["ssm:GetParameter"], ["arn:aws:ssm:eu-west-1:123456789012:parameter/relay/password"]),
        (
            ["secretsmanager:GetSecretValue"],
            ["arn:aws:secretsmanager:eu-west-1:123456789012:secret:relay/hmac-??????"],
        ),
    ]


def test_the_functions_own(tmp_path: Path) -> None:
    config = deployed(tmp_path, {"storage": {"bucket": "b", "path": "in/"}})
    found = function_statements(config, SPOOL, PLACE)
    assert resources(found, "s3:DeleteObject") == [
        "arn:aws:s3:::spool/mail/spool/*",
        "arn:aws:s3:::spool/mail/dead/*",
    ]
    assert resources(found, "s3:PutObject") == ["arn:aws:s3:::spool/mail/dead/*", "arn:aws:s3:::b/in/*"]
    assert resources(found, "s3:ListBucket") == ["arn:aws:s3:::spool"]
    assert resources(found, "dynamodb:PutItem") == []
    assert resources(found, "logs:PutLogEvents") == [f"{SPOOL.log_group}:*"]


def test_what_is_only_sometimes_needed(tmp_path: Path) -> None:
    config = deployed(tmp_path, {"storage": {"bucket": "b"}}, keepCache=True)
    spool = SPOOL._replace(table="arn:table", key="arn:key")
    found = function_statements(config, spool, PLACE)
    assert "arn:aws:s3:::spool/mail/kept/*" in resources(found, "s3:PutObject")
    assert resources(found, "kms:Decrypt") == ["arn:key"]
    assert resources(found, "dynamodb:UpdateItem") == ["arn:table"]
    assert resources(listener_statements(config, spool, PLACE), "kms:GenerateDataKey") == ["arn:key"]


def test_put_options_that_need_more(tmp_path: Path) -> None:
    key = "arn:aws:kms:eu-west-1:999999999999:key/k"
    put = {"Tagging": "a=b", "ACL": "bucket-owner-full-control", "ObjectLockMode": "GOVERNANCE"}
    more = {"ObjectLockLegalHoldStatus": "ON", "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key}
    config = deployed(tmp_path, {"storage": {"bucket": "b"}, "putOptions": put | more})
    found = output_statements(config, PLACE)
    actions = {action for each in found for action in each["Action"]}
    assert actions == {
        *("s3:PutObject", "s3:GetObject", "s3:PutObjectTagging", "s3:PutObjectAcl"),
        *("s3:PutObjectRetention", "s3:PutObjectLegalHold", "kms:Decrypt", "kms:GenerateDataKey"),
    }
    assert resources(found, "kms:GenerateDataKey") == [key]


def test_an_alias_cannot_stand_in_a_policy(tmp_path: Path) -> None:
    put = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/mail"}
    config = deployed(tmp_path, {"storage": {"bucket": "b"}, "putOptions": put})
    with pytest.raises(ConfigError, match="alias"):
        output_statements(config, PLACE)


def test_ses_sends_as_what_is_said(tmp_path: Path) -> None:
    shared = "arn:aws:ses:eu-west-1:999999999999:identity/shared.example"
    config = deployed(
        tmp_path,
        {
            "ses": {"identities": ["example.com", "a@example.org"], "maxSendRate": 10},
            "sendRawEmailOptions": {"ConfigurationSetName": "set", "FromArn": shared},
            "sesClient": {"region": "eu-central-1"},
        },
    )
    found = output_statements(config, PLACE)
    here = "arn:aws:ses:eu-central-1:123456789012"
    assert resources(found, "ses:SendRawEmail") == sorted(
        [
            f"{here}:configuration-set/set",
            f"{here}:identity/a@example.org",
            f"{here}:identity/example.com",
            shared,
        ]
    )
    assert resources(found, "ses:GetAccount") == []


def test_ses_without_identities_and_rate(tmp_path: Path) -> None:
    found = output_statements(deployed(tmp_path, {"ses": {}}), PLACE)
    assert resources(found, "ses:SendRawEmail") == ["arn:aws:ses:eu-west-1:123456789012:identity/*"]
    assert resources(found, "ses:GetAccount") == ["*"]


def test_a_role_to_assume_is_all(tmp_path: Path) -> None:
    role = "arn:aws:iam::999999999999:role/mail"
    config = deployed(tmp_path, {"storage": {"bucket": "b"}, "ses": {}, "assumeRole": role})
    (only,) = output_statements(config, PLACE)
    assert (only["Action"], only["Resource"]) == (["sts:AssumeRole"], [role])


def test_an_outputs_own_credentials_need_no_role(tmp_path: Path) -> None:
    keys = {"accessKeyId": "ssm:/id", "secretAccessKey": "ssm:/key"}
    config = deployed(tmp_path, {"storage": {"bucket": "b"}, "s3client": {"credentials": keys}})
    (only,) = output_statements(config, PLACE)
    assert only["Action"] == ["ssm:GetParameter"]
    assert len(only["Resource"]) == 2


def test_outputs_of_one_kind_share_a_statement(tmp_path: Path) -> None:
    stores = [{"name": name, "storage": {"bucket": name}} for name in ("one", "two")]
    found = output_statements(deployed(tmp_path, *stores), PLACE)
    assert [each["Resource"] for each in found] == [["arn:aws:s3:::one/*", "arn:aws:s3:::two/*"]]


def test_another_clouds_secret(tmp_path: Path) -> None:
    filters = [{"type": "static-auth", "username": "a", "password": "gcp-secret:projects/p/secrets/s"}]
    with pytest.raises(ConfigError, match="ssm: or secretsmanager:"):
        deployed(tmp_path, {"storage": {"bucket": "b"}}, filters=filters)


@pytest.mark.parametrize(
    ("image", "arn"),
    [
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/mail/relay:1.0",
            "arn:aws:ecr:eu-west-1:123456789012:repository/mail/relay",
        ),
        (
            "123456789012.dkr.ecr.eu-west-1.amazonaws.com/relay@sha256:" + "0" * 64,
            "arn:aws:ecr:eu-west-1:123456789012:repository/relay",
        ),
        ("registry.example.com/relay:1", None),
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com.evil.example/relay", None),
    ],
)
def test_images_in_ecr(image: str, arn: str | None) -> None:
    assert repository_arn(image, "aws") == arn
    found = pull_statements(arn, "arn:logs")
    assert resources(found, "ecr:BatchGetImage") == ([arn] if arn else [])
    assert resources(found, "ecr:GetAuthorizationToken") == (["*"] if arn else [])


def test_only_what_has_no_resources_is_allowed_on_everything() -> None:
    named = {rule for rule in rules.RULES if rule.on.startswith("`*`")}
    assert {action for rule in named for action in rule.actions} == {
        *("ecr:GetAuthorizationToken", "ses:GetAccount"),
        *rules.NETWORK.actions,
    }


def test_the_listener_reaches_the_table_of_limits_only_if_it_counts_recipients(tmp_path: Path) -> None:
    table = "arn:aws:dynamodb:eu-west-1:123456789012:table/limits"
    output = {"storage": {"bucket": "b"}}

    def reached(*rules: dict[str, Any]) -> list[str]:
        guard = {"type": "sending-policy", "rules": list(rules)}
        config = deployed(tmp_path, output, filters=[WHITELIST, guard])
        found = listener_statements(config, SPOOL._replace(limits=table), PLACE)
        assert resources(found, "dynamodb:GetItem") == resources(found, "dynamodb:PutItem")
        return resources(found, "dynamodb:PutItem")

    assert reached({"user": "glob:*", "limits": ["100/min"]}) == [table]
    assert reached({"user": "glob:*", "limits": ["20/mail"]}) == []
