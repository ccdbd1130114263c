"""The permissions of each role, derived only from the configuration.

The statements are explicit, because CDK's grants permit more than the calls need.
`infra.access.aws.rules` has the actions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from functions.aws.output.client_options import ClientOptions
from functions.aws.output.options import AwsOutputOptions, PublishTarget
from functions.config import DeliveryConfig
from functions.errors import ConfigError
from infra.access.aws import rules
from infra.access.aws.rules import Rule
from infra.access.aws.secrets import arn_of, listener_secrets, output_secrets
from listener.config.relay import RelayConfig

Statement = dict[str, Any]


class Place(NamedTuple):
    """The place of a stack. Texts may be tokens of CDK or placeholders of Terraform."""

    partition: str
    region: str
    account: str


class Spool(NamedTuple):
    """The spool's resources as ARNs; `prefix` is "" or ends in `/`. None for a missing resource."""

    bucket: str
    prefix: str
    queue: str
    table: str | None
    log_group: str
    key: str | None = None
    limits: str | None = None


def statement(rule: Rule, resources: Iterable[str]) -> Statement:
    """An IAM statement as JSON knows it."""
    return {
        "Sid": rule.sid,
        "Effect": "Allow",
        "Action": list(rule.actions),
        "Resource": sorted(set(resources)),
    }


def listener_statements(config: RelayConfig, spool: Spool, place: Place) -> list[Statement]:
    """The task role's statements: put into its prefix, count recipients, read its secrets. Raises
    ConfigError."""
    found = [statement(rules.STORE, [f"{spool.bucket}/{spool.prefix}spool/*"])]
    if spool.key is not None:
        found.append(statement(rules.DATA_KEY, [spool.key]))
    if spool.limits is not None and config.counts_recipients:
        found.append(statement(rules.LIMITS, [spool.limits]))
    arns = [arn_of(secret, **place._asdict()) for _, secret in listener_secrets(config) if secret.in_cloud]
    return found + _readers(arns, rules.LISTENER_PARAMETERS, rules.LISTENER_SECRETS)


def function_statements(config: DeliveryConfig, spool: Spool, place: Place) -> list[Statement]:
    """The function's statements: the spool, its queue, and those of the outputs. Raises ConfigError."""
    under = f"{spool.bucket}/{spool.prefix}"
    found = [
        statement(rules.FINISH, [f"{under}spool/*"]),
        statement(rules.BURY, [f"{under}dead/*"]),
        statement(rules.LIST, [spool.bucket]),
        statement(rules.NOTIFICATIONS, [spool.queue]),
        statement(rules.FUNCTION_LOGS, [f"{spool.log_group}:*"]),
    ]
    if config.keep_cache:
        found.append(statement(rules.KEEP, [f"{under}kept/*"]))
    if spool.key is not None:
        found.append(statement(rules.SPOOL_KEY, [spool.key]))
    if spool.table is not None:
        found.append(statement(rules.RECEIPTS, [spool.table]))
    return found + output_statements(config, place)


def output_statements(config: DeliveryConfig, place: Place) -> list[Statement]:
    """The outputs' statements, each rule once with the resources of all outputs. Raises ConfigError."""
    needed: dict[Rule, set[str]] = {}
    secrets: list[str] = []
    for flow in config.flows.values():
        for output in flow.outputs:
            secrets += [
                arn_of(secret, **place._asdict()) for secret in output_secrets(output) if secret.in_cloud
            ]
            if isinstance(output, AwsOutputOptions):
                for rule, resource in _aws_output(output, place):
                    needed.setdefault(rule, set()).add(resource)
    ordered = [statement(rule, needed[rule]) for rule in rules.RULES if rule in needed]
    return ordered + _readers(secrets, rules.OUTPUT_PARAMETERS, rules.OUTPUT_SECRETS)


def pull_statements(repository: str | None, log_group: str) -> list[Statement]:
    """The execution role's statements; `repository` is None for an image that is not in ECR."""
    found = [statement(rules.TASK_LOGS, [f"{log_group}:*"])]
    if repository is not None:
        found += [statement(rules.PULL, [repository]), statement(rules.PULL_TOKEN, ["*"])]
    return found


def certificate_statements(certificate: str, secret: str, log_group: str) -> list[Statement]:
    """The statements of the function that stores a renewed certificate: that one certificate, that one
    secret."""
    return [
        statement(rules.EXPORT, [certificate]),
        statement(rules.SAVE, [secret]),
        statement(rules.CERTIFICATE_LOGS, [f"{log_group}:*"]),
    ]


def _readers(arns: Iterable[str], parameters: Rule, secrets: Rule) -> list[Statement]:
    named = sorted(set(arns))
    by_rule = {
        parameters: [arn for arn in named if ":ssm:" in arn],
        secrets: [arn for arn in named if ":secretsmanager:" in arn],
    }
    return [statement(rule, found) for rule, found in by_rule.items() if found]


def _aws_output(output: AwsOutputOptions, place: Place) -> Iterator[tuple[Rule, str]]:
    if output.assume_role is not None:
        yield rules.ASSUME, output.assume_role.role_arn
        return
    if output.storage is not None and not _own_credentials(output.s3_client):
        yield from _storage(output, place)
    if output.pubsub is not None and not _own_credentials(output.sqs_client):
        yield _publishing(output.pubsub, output.sqs_client, place)
    if output.ses is not None and not _own_credentials(output.ses_client):
        yield from _ses(output, place)


def _publishing(target: PublishTarget, client: ClientOptions, place: Place) -> tuple[Rule, str]:
    if target.service == "sqs":
        region = client.region_name or client.region or place.region
        return rules.PUBLISH, queue_arn(target.topic, place.partition, region)
    return (rules.PUBLISH_TOPIC if target.service == "sns" else rules.PUBLISH_BUS), target.topic


def _storage(output: AwsOutputOptions, place: Place) -> Iterator[tuple[Rule, str]]:
    assert output.storage is not None
    keys = f"arn:{place.partition}:s3:::{output.storage.bucket}/{key_pattern(output.storage.key_start)}"
    options = output.put_options
    yield rules.STORAGE, keys
    if options.tagging is not None:
        yield rules.STORAGE_TAGS, keys
    grants = (
        options.acl,
        options.grant_read,
        options.grant_full_control,
        options.grant_read_acp,
        options.grant_write_acp,
    )
    if any(grant is not None for grant in grants):
        yield rules.STORAGE_ACL, keys
    if options.object_lock_mode is not None:
        yield rules.STORAGE_RETENTION, keys
    if options.object_lock_legal_hold_status is not None:
        yield rules.STORAGE_HOLD, keys
    if options.sse_kms_key_id is not None:
        yield rules.STORAGE_KEY, key_arn(options.sse_kms_key_id, place)


def _ses(output: AwsOutputOptions, place: Place) -> Iterator[tuple[Rule, str]]:
    assert output.ses is not None
    client, options = output.ses_client, output.send_raw_email_options
    region = client.region_name or client.region or place.region
    here = f"arn:{place.partition}:ses:{region}:{place.account}"
    for identity in output.ses.identities or ("*",):
        yield rules.SEND, identity if identity.startswith("arn:") else f"{here}:identity/{identity}"
    for arn in (options.from_arn, options.source_arn, options.return_path_arn):
        if arn is not None:
            yield rules.SEND, arn
    if options.configuration_set_name is not None:
        yield rules.SEND, f"{here}:configuration-set/{options.configuration_set_name}"
    if output.ses.max_send_rate is None:
        yield rules.RATE, "*"


def _own_credentials(client: ClientOptions) -> bool:
    """True if the file gives credentials: then the output does not use the role."""
    return client.credentials is not None or client.aws_access_key_id is not None


def key_pattern(start: str) -> str:
    """The prefix of keys as the end of an ARN, followed by a wildcard."""
    # In an ARN these are wildcards.
    return start.replace("*", "?") + "*"


_AMAZON: Final = re.compile(
    r"(?:[a-z0-9.-]+\.)?sqs(?:-fips)?\.(?P<first>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|api\.aws|vpce\.amazonaws\.com)"
    r"|(?P<second>[a-z0-9-]+)\.queue\.amazonaws\.com(?:\.cn)?"
)
_PATH: Final = re.compile(r"/(?P<account>[0-9]{12})/(?P<name>[A-Za-z0-9_-]{1,80}(?:\.fifo)?)")


def queue_arn(url: str, partition: str, region: str) -> str:
    """The ARN of a URL's queue, of any account; `region` is for a URL without one. Raises ConfigError
    for a URL without account and name."""
    parts = urlsplit(url)
    path = _PATH.fullmatch(parts.path)
    if path is None:
        raise ConfigError(
            f"pubsub.topic {url}",
            "does not end in the account and the queue's name",
            "https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
        )
    host = _AMAZON.fullmatch(parts.hostname or "")
    found = (host["first"] or host["second"]) if host else region
    return f"arn:{partition}:sqs:{found}:{path['account']}:{path['name']}"


def key_arn(key: str, place: Place) -> str:
    """The ARN of a KMS key, given by its ARN or id. Raises ConfigError for an alias, because policies
    cannot name aliases."""
    if "alias/" in key:
        raise ConfigError(key, "is an alias: a policy needs the key's own ARN")
    if key.startswith("arn:"):
        return key
    return f"arn:{place.partition}:kms:{place.region}:{place.account}:key/{key}"
