"""The CDK app: `cdk deploy -c config=configs/mail2s3.jsonc`, from the repository's folder.

Context: infra.cdk.settings.
"""

from __future__ import annotations

import os
import sys

import aws_cdk
from aws_cdk import Aspects, Environment

from functions.errors import ConfigError
from infra.bundle.deployment import read_deployment
from infra.cdk.nag import AwsSolutionsChecks, suppress
from infra.cdk.relay_stack import RelayStack
from infra.cdk.settings import read_settings


def build(app: aws_cdk.App) -> RelayStack:
    """Put the stack that the context asks for into an app. Raises ConfigError."""
    settings = read_settings(app.node.try_get_context)
    deployment = read_deployment(settings.config, public=settings.public)
    stack = RelayStack(app, deployment=deployment, settings=settings, env=_environment(settings.vpc))
    suppress(stack)
    Aspects.of(app).add(AwsSolutionsChecks(verbose=True))
    return stack


def _environment(vpc: str | None) -> Environment | None:
    """An existing network can be looked up only in a known account and region."""
    if vpc is None:
        return None
    return Environment(
        account=os.environ.get("CDK_DEFAULT_ACCOUNT"), region=os.environ.get("CDK_DEFAULT_REGION")
    )


def main() -> int:
    """The entry point for `cdk`."""
    app = aws_cdk.App()
    try:
        build(app)
    except ConfigError as mistake:
        print(f"smtp-relay: {mistake}", file=sys.stderr)
        return 2
    app.synth()
    return 0


if __name__ == "__main__":
    sys.exit(main())
