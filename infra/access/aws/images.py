"""Names of container images."""

from __future__ import annotations

import re
from typing import Final

_ECR: Final = re.compile(
    r"(?P<account>[0-9]{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/"
    r"(?P<name>[a-z0-9._/-]+?)(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?"
)


def repository_arn(image: str, partition: str) -> str | None:
    """The ARN of an image's repository in ECR; None if it is elsewhere."""
    found = _ECR.fullmatch(image)
    if found is None:
        return None
    return f"arn:{partition}:ecr:{found['region']}:{found['account']}:repository/{found['name']}"
