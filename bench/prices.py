"""List prices of what mails use on both clouds, in USD of us-east-1 and us-central1, without free tiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PRICES: Final[Mapping[str, tuple[float, str, str]]] = {
    "s3:PUT": (5e-6, "aws.amazon.com/s3/pricing", "2026"),
    "s3:LIST": (5e-6, "aws.amazon.com/s3/pricing", "2026"),
    "s3:GET": (0.4e-6, "aws.amazon.com/s3/pricing", "2026"),
    "s3:DELETE": (0.0, "aws.amazon.com/s3/pricing", "2026"),
    "sqs": (0.4e-6, "aws.amazon.com/sqs/pricing", "2026"),
    "dynamodb write": (0.625e-6, "aws.amazon.com/dynamodb/pricing/on-demand", "2026"),
    "dynamodb read": (0.125e-6, "aws.amazon.com/dynamodb/pricing/on-demand", "2026"),
    "lambda request": (0.2e-6, "aws.amazon.com/lambda/pricing", "2026-09-20"),
    "lambda GB second": (0.0000133334, "aws.amazon.com/lambda/pricing", "2026"),
    "cloudwatch log byte": (0.5 / 1e9, "aws.amazon.com/cloudwatch/pricing", "2026-05-05"),
    "cloudwatch alarm month": (0.1, "aws.amazon.com/cloudwatch/pricing", "2026-05-05"),
    "cloudwatch metric month": (0.3, "aws.amazon.com/cloudwatch/pricing", "2026-05-05"),
    "fargate vCPU hour": (0.03238, "aws.amazon.com/fargate/pricing", "2026"),
    "fargate GB hour": (0.00356, "aws.amazon.com/fargate/pricing", "2026"),
    "nlb hour": (0.0225, "aws.amazon.com/elasticloadbalancing/pricing", "2026"),
    "nlb unit hour": (0.006, "aws.amazon.com/elasticloadbalancing/pricing", "2026-09-20"),
    "ipv4 hour": (0.005, "aws.amazon.com/vpc/pricing", "2026"),
    "gcs:A": (5e-6, "cloud.google.com/storage/pricing", "2026-09-20"),
    "gcs:B": (0.4e-6, "cloud.google.com/storage/pricing", "2026-09-20"),
    "gcs:free": (0.0, "cloud.google.com/storage/pricing", "2026-09-20"),
    "pubsub byte": (40 / 2**40, "cloud.google.com/pubsub/pricing", "2026-09-20"),
    "run request": (0.4e-6, "cloud.google.com/run/pricing", "2026"),
    "run vCPU second": (0.000024, "cloud.google.com/run/pricing", "2026"),
    "run GiB second": (0.0000025, "cloud.google.com/run/pricing", "2026"),
    "logging byte": (0.5 / 2**30, "cloud.google.com/products/observability/pricing", "2026-09-12"),
    "alert month": (1.5, "cloud.google.com/products/observability/pricing", "2025"),
    "e2-small hour": (0.016751, "cloud.google.com/compute/vm-instance-pricing", "2025"),
    "e2-standard-2 hour": (0.067006, "cloud.google.com/compute/vm-instance-pricing", "2025"),
    "e2-standard-4 hour": (0.134012, "cloud.google.com/compute/vm-instance-pricing", "2025"),
    "disk GB month": (0.04, "cloud.google.com/compute/disks-image-pricing", "2025"),
    "rule hour": (0.025, "cloud.google.com/load-balancing/pricing", "2026-09-20"),
    "balanced byte": (0.008 / 2**30, "cloud.google.com/load-balancing/pricing", "2026-09-20"),
    "address hour": (0.005, "cloud.google.com/vpc/network-pricing", "2025"),
}
"""Dollars for one (a request, an hour, a second, a byte …), the page that says it, and its date. Lambda and
Fargate are those of arm64."""


def price(name: str, count: float = 1.0) -> float:
    """Dollars of so many."""
    return PRICES[name][0] * count
