"""Every action that a role of the deployment may have. A new call needs a new line here.

`python -m infra.access.aws.rules` prints the table of docs/aws.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["listener", "function", "start of tasks", "schedule", "guard", "certificate"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the table: actions, resources and condition."""

    role: Role
    sid: str
    actions: tuple[str, ...]
    on: str
    when: str = "always"


STORE: Final = Rule("listener", "Store", ("s3:PutObject",), "`PREFIX/spool/*` of the spool")
DATA_KEY: Final = Rule(
    "listener", "Encrypt", ("kms:GenerateDataKey",), "the spool's key", 'spool `sse: "aws:kms"`'
)
LISTENER_PARAMETERS: Final = Rule(
    "listener", "Parameters", ("ssm:GetParameter",), "each parameter named", "`ssm:`"
)
LISTENER_SECRETS: Final = Rule(
    "listener",
    "Secrets",
    ("secretsmanager:GetSecretValue",),
    "each secret named",
    "`secretsmanager:`",
)
LIMITS: Final = Rule(
    "listener",
    "Limits",
    ("dynamodb:GetItem", "dynamodb:PutItem"),
    "the table of limits",
    "`sending-policy` with limits",
)

FINISH: Final = Rule(
    "function", "Finish", ("s3:DeleteObject", "s3:GetObject"), "`PREFIX/spool/*` of the spool"
)
BURY: Final = Rule("function", "Bury", ("s3:DeleteObject", "s3:PutObject"), "`PREFIX/dead/*` of the spool")
KEEP: Final = Rule("function", "Keep", ("s3:PutObject",), "`PREFIX/kept/*` of the spool", "`keepCache`")
LIST: Final = Rule("function", "List", ("s3:ListBucket",), "the spool")
SPOOL_KEY: Final = Rule(
    "function",
    "SpoolKey",
    ("kms:Decrypt", "kms:GenerateDataKey"),
    "the spool's key",
    'spool `sse: "aws:kms"`',
)
NOTIFICATIONS: Final = Rule(
    "function",
    "Doorbells",
    (
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
        "sqs:SendMessage",
    ),
    "the spool's queue",
)
RECEIPTS: Final = Rule(
    "function",
    "Receipts",
    ("dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"),
    "the table of receipts",
    "an output publishes or sends",
)
FUNCTION_LOGS: Final = Rule(
    "function", "Logs", ("logs:CreateLogStream", "logs:PutLogEvents"), "the function's log group"
)
STORAGE: Final = Rule(
    "function",
    "Storage",
    ("s3:GetObject", "s3:PutObject"),
    "the bucket, keys up to the template's first variable",
    "`storage`",
)
STORAGE_TAGS: Final = Rule(
    "function", "StorageTags", ("s3:PutObjectTagging",), "the same keys", "`putOptions.Tagging`"
)
STORAGE_ACL: Final = Rule(
    "function", "StorageAcl", ("s3:PutObjectAcl",), "the same keys", "`putOptions.ACL` or `Grant…`"
)
STORAGE_RETENTION: Final = Rule(
    "function",
    "StorageRetention",
    ("s3:PutObjectRetention",),
    "the same keys",
    "`putOptions.ObjectLockMode`",
)
STORAGE_HOLD: Final = Rule(
    "function",
    "StorageHold",
    ("s3:PutObjectLegalHold",),
    "the same keys",
    "`putOptions.ObjectLockLegalHoldStatus`",
)
STORAGE_KEY: Final = Rule(
    "function",
    "StorageKey",
    ("kms:Decrypt", "kms:GenerateDataKey"),
    "the key",
    "`putOptions.SSEKMSKeyId`",
)
PUBLISH: Final = Rule("function", "Publish", ("sqs:SendMessage",), "the queue of the URL", "`pubsub`")
PUBLISH_TOPIC: Final = Rule("function", "PublishTopic", ("sns:Publish",), "the topic", "`pubsub` to SNS")
PUBLISH_BUS: Final = Rule(
    "function", "PublishBus", ("events:PutEvents",), "the bus", "`pubsub` to EventBridge"
)
SEND: Final = Rule(
    "function",
    "Send",
    ("ses:SendRawEmail",),
    "identities (else all), those in `…Arn`, the configuration set",
    "`ses`",
)
RATE: Final = Rule("function", "Rate", ("ses:GetAccount",), "`*`", "`ses` without `maxSendRate`")
ASSUME: Final = Rule(
    "function",
    "Assume",
    ("sts:AssumeRole",),
    "the role; nothing else for that output",
    "`assumeRole`",
)
OUTPUT_PARAMETERS: Final = Rule(
    "function", "Parameters", ("ssm:GetParameter",), "each parameter named", "`ssm:`"
)
OUTPUT_SECRETS: Final = Rule(
    "function",
    "Secrets",
    ("secretsmanager:GetSecretValue",),
    "each secret named",
    "`secretsmanager:`",
)

PULL: Final = Rule(
    "start of tasks",
    "Pull",
    ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"),
    "the image's repository",
    "the image is in ECR",
)
PULL_TOKEN: Final = Rule(
    "start of tasks",
    "PullToken",
    ("ecr:GetAuthorizationToken",),
    "`*`",
    "the image is in ECR",
)
TASK_LOGS: Final = Rule(
    "start of tasks", "Logs", ("logs:CreateLogStream", "logs:PutLogEvents"), "the listener's log group"
)

SWEEP: Final = Rule("schedule", "Sweep", ("lambda:InvokeFunction",), "the function")

NETWORK: Final = Rule(
    "function",
    "Network",
    (
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:AssignPrivateIpAddresses",
        "ec2:UnassignPrivateIpAddresses",
    ),
    "`*`, because Lambda asks for it",
    "function subnets",
)
# The id is older than the rule's present use; another one would replace the statement in deployed stacks.
GUARD: Final = Rule("guard", "Owed", ("s3:ListBucket",), "the spool", "CDK")
GUARD_LOGS: Final = Rule(
    "guard", "Logs", ("logs:CreateLogStream", "logs:PutLogEvents"), "the guard's log group", "the same"
)

EXPORT: Final = Rule("certificate", "Export", ("acm:ExportCertificate",), "the certificate", "`certificate`")
SAVE: Final = Rule(
    "certificate", "Save", ("secretsmanager:PutSecretValue",), "the listener's secret", "the same"
)
CERTIFICATE_LOGS: Final = Rule(
    "certificate",
    "Logs",
    ("logs:CreateLogStream", "logs:PutLogEvents"),
    "the certificate function's log group",
    "the same",
)

RULES: Final = (
    *(STORE, DATA_KEY, LISTENER_PARAMETERS, LISTENER_SECRETS, LIMITS),
    *(FINISH, BURY, KEEP, LIST, SPOOL_KEY, NOTIFICATIONS, RECEIPTS, FUNCTION_LOGS),
    *(STORAGE, STORAGE_TAGS, STORAGE_ACL, STORAGE_RETENTION, STORAGE_HOLD, STORAGE_KEY),
    *(PUBLISH, PUBLISH_TOPIC, PUBLISH_BUS, SEND, RATE, ASSUME, OUTPUT_PARAMETERS, OUTPUT_SECRETS),
    *(PULL, PULL_TOKEN, TASK_LOGS, NETWORK, SWEEP, GUARD, GUARD_LOGS),
    *(EXPORT, SAVE, CERTIFICATE_LOGS),
)


def table() -> str:
    """RULES as Markdown."""
    lines = ["role | actions | on | when", "---|---|---|---"]
    for rule in RULES:
        actions = ", ".join(f"`{action}`" for action in rule.actions)
        when = "" if rule.when == "always" else f" | {rule.when}"
        lines.append(f"{rule.role} | {actions} | {rule.on}{when}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
