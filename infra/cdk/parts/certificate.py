"""Copies an exportable certificate of ACM into the secret that the listener reads, whenever it is renewed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aws_cdk import CfnCustomResource, Duration, RemovalPolicy
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from functions.errors import ConfigError
from infra.access.aws.statements import certificate_statements
from infra.bundle.deployment import Deployment
from infra.cdk.parts.roles import log_group_arn, make_role
from infra.cdk.settings import Settings

_CODE: Final = Path(__file__).parents[2] / "certificate" / "index.py"


class Certificate(Construct):
    """`arn`: the certificate. The secret is the one of the configuration: one that is named is made, one with
    an ARN is there. `stored` is done when the secret holds the certificate. Raises ConfigError."""

    def __init__(
        self, scope: Construct, name: str, *, arn: str, deployment: Deployment, settings: Settings
    ) -> None:
        super().__init__(scope, name)
        secret = self._secret(deployment)
        log_group = logs.LogGroup(
            self, "Logs", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY
        )
        function = lambda_.Function(
            self,
            "Function",
            description="Stores a renewed certificate for the mail relay",
            runtime=lambda_.Runtime(
                f"python{settings.platform.python}", lambda_.RuntimeFamily.PYTHON, supports_inline_code=True
            ),
            architecture=lambda_.Architecture.ARM_64,
            handler="index.handler",
            code=lambda_.Code.from_inline(_CODE.read_text(encoding="utf-8")),
            timeout=Duration.seconds(60),
            environment={"CERTIFICATE": arn, "SECRET": secret, **settings.environment},
            role=make_role(
                self,
                "Role",
                "lambda.amazonaws.com",
                certificate_statements(arn, secret, log_group_arn(log_group)),
            ),
            log_group=log_group,
        )
        events.Rule(
            self,
            "Renewed",
            description="ACM has renewed the mail relay's certificate",
            event_pattern=events.EventPattern(
                source=["aws.acm"], detail_type=["ACM Certificate Available"], resources=[arn]
            ),
            targets=[targets.LambdaFunction(function)],
        )
        self.stored = CfnCustomResource(
            self, "Stored", service_token=function.function_arn, service_timeout=120
        )
        # Another certificate, or another secret, is stored at once.
        self.stored.add_property_override("Certificate", arn)
        self.stored.add_property_override("Secret", secret)

    def _secret(self, deployment: Deployment) -> str:
        """The secret's ARN."""
        named = deployment.certificate_secret
        if named is None:
            raise ConfigError(
                "-c certificate",
                f"{deployment.path} reads no certificate from one secret",
                'write "cert": "secretsmanager:NAME" into options, without key',
            )
        if named.startswith("arn:"):
            return named
        made = secretsmanager.CfnSecret(
            self, "Secret", name=named, description="Certificate and key of the mail relay"
        )
        return made.ref
