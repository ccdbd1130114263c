"""Prevents the deletion of a stack with unfinished mail, because without the function nothing would
deliver it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aws_cdk import CfnCustomResource, Duration, RemovalPolicy
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct, IConstruct

from infra.access.aws import rules
from infra.access.aws.statements import statement
from infra.bundle.runtime import Platform
from infra.cdk.parts.roles import log_group_arn, make_role
from infra.cdk.parts.spool import SpoolBucket

_CODE: Final = Path(__file__).parents[1] / "guard" / "index.py"


class SpoolGuard(Construct):
    """CloudFormation deletes it first, and only when no mail is unfinished or dead. The same holds before a
    stack becomes `ephemeral`, or its spool gets another name. `before`: resources that must not be
    deleted earlier."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        spool: SpoolBucket,
        platform: Platform,
        before: Sequence[IConstruct],
        ephemeral: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(scope, name)
        log_group = logs.LogGroup(
            self, "Logs", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY
        )
        arn = log_group_arn(log_group)
        statements = [
            statement(rules.GUARD, [spool.bucket.bucket_arn]),
            statement(rules.GUARD_LOGS, [f"{arn}:*"]),
        ]
        function = lambda_.Function(
            self,
            "Function",
            description="Refuses to delete the stack while mail is unfinished or dead",
            runtime=lambda_.Runtime(
                f"python{platform.python}", lambda_.RuntimeFamily.PYTHON, supports_inline_code=True
            ),
            architecture=lambda_.Architecture.ARM_64,
            handler="index.handler",
            code=lambda_.Code.from_inline(_CODE.read_text(encoding="utf-8")),
            timeout=Duration.seconds(30),
            environment=dict(environment or {}),
            role=make_role(self, "Role", "lambda.amazonaws.com", statements),
            log_group=log_group,
        )
        guard = CfnCustomResource(self, "Guard", service_token=function.function_arn, service_timeout=120)
        guard.add_property_override("Bucket", spool.bucket.bucket_name)
        guard.add_property_override("Prefix", spool.prefix)
        guard.add_property_override("Ephemeral", str(ephemeral).lower())
        guard.node.add_dependency(*before)
