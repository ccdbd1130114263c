"""cdk-nag's AWS Solutions checks, and the reasons for accepted findings."""

from __future__ import annotations

from typing import Final

from cdk_nag import AwsSolutionsChecks, NagPackSuppression, NagSuppressions
from constructs import Construct, IConstruct

__all__ = ["AwsSolutionsChecks", "suppress"]

_PREFIXES: Final = (
    "Each wildcard ends a prefix of one bucket, a log group's streams, or stands where the API has no "
    "resources (ecr:GetAuthorizationToken, ses:GetAccount); they come from the configuration, and a test "
    "over every example holds them"
)

REASONS: Final[dict[str, str]] = {
    "IAM5": _PREFIXES,
    "S1": "The bucket is a queue: mails stay for seconds, and CloudTrail data events tell who read one",
    "L1": "The version is a fixed one, which the bundle's wheels and byte-code are for; -c python= sets it",
    "DDB3": "A receipt outlives every queue by weeks, and then is worth nothing: there is nothing to restore",
    "VPC7": "Flow logs cost more than the relay; the listener logs every connection that says something",
    "ECS2": "The variables are the configuration, which holds references to secrets and never secrets",
    "ECS4": "The listener's own metrics and its log say more than Container Insights, which costs more",
    "SMG4": "ACM renews the certificate, and its event rotates the secret",
    "EC23": "A mail server's ports are open to the mail servers of the world",
    "ELB2": "Access logs of a network load balancer cover TLS listeners, and there are none",
}
"""Number of a rule to the reason."""

_WHERE: Final = (
    ("Vpc", ("VPC7",)),
    ("Spool/Bucket", ("S1",)),
    ("Delivery/Role", ("IAM5",)),
    ("Delivery/Function", ("L1",)),
    ("Delivery/Receipts", ("DDB3",)),
    ("Listener/TaskRole", ("IAM5",)),
    ("Listener/StartRole", ("IAM5",)),
    ("Listener/Task", ("ECS2",)),
    ("Listener/BalancerGroup", ("EC23",)),
    ("Listener/Balancer", ("ELB2",)),
    ("Listener/Cluster", ("ECS4",)),
    ("Certificate/Role", ("IAM5",)),
    ("Certificate/Function", ("L1",)),
    ("Certificate/Secret", ("SMG4",)),
    ("Guard/Role", ("IAM5",)),
    ("Guard/Function", ("L1",)),
)
"""The place of each accepted finding, and no other."""


def suppress(stack: Construct) -> None:
    """Record the reason of each accepted finding."""
    for path, rules in _WHERE:
        found = _find(stack, path)
        if found is None:
            continue
        NagSuppressions.add_resource_suppressions(
            found,
            [NagPackSuppression(id=f"AwsSolutions-{rule}", reason=REASONS[rule]) for rule in rules],
            apply_to_children=True,
        )


def _find(scope: IConstruct, path: str) -> IConstruct | None:
    for part in path.split("/"):
        below = scope.node.try_find_child(part)
        if below is None:
            return None
        scope = below
    return scope
