"""Roles with explicit policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aws_cdk import Aws
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from infra.access.aws.statements import Place, Statement

HERE = Place(Aws.PARTITION, Aws.REGION, Aws.ACCOUNT_ID)


def make_role(
    scope: Construct,
    name: str,
    service: str,
    statements: Sequence[Statement],
    *,
    conditions: Mapping[str, Any] | None = None,
) -> iam.IRole:
    """A role for a service with only these statements: CDK's own grants are dropped."""
    principal: iam.IPrincipal = iam.ServicePrincipal(service)
    if conditions is not None:
        principal = iam.ServicePrincipal(service, conditions=dict(conditions))
    document = iam.PolicyDocument(statements=[iam.PolicyStatement.from_json(one) for one in statements])
    role = iam.Role(scope, name, assumed_by=principal, inline_policies={"Own": document})
    return role.without_policy_updates()


def log_group_arn(group: logs.LogGroup) -> str:
    """A log group's ARN, without the `:*` that CloudFormation appends."""
    partition, region, account = HERE
    return f"arn:{partition}:logs:{region}:{account}:log-group:{group.log_group_name}"
