"""The queue that uploads notify, and the function that delivers."""

from __future__ import annotations

from typing import Any, Final

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_scheduler as scheduler
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from infra.access.aws import rules
from infra.access.aws.statements import Spool, function_statements, statement
from infra.bundle.build import bundle
from infra.bundle.deployment import Deployment
from infra.cdk.parts.buses import Archives
from infra.cdk.parts.network import Network
from infra.cdk.parts.roles import HERE, log_group_arn, make_role
from infra.cdk.parts.spool import SpoolBucket
from infra.cdk.settings import Settings

VISIBILITY: Final = 6
"""Times the function's time limit, as Lambda's documentation asks for."""

MAX_RECEIVES: Final = 10
SWEEP_MINUTES: Final = 5
HANDLER: Final = "functions.aws.handler.handler"


class Delivery(Construct):
    """Runs the outputs of a configuration for the mails in a spool."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        deployment: Deployment,
        spool: SpoolBucket,
        settings: Settings,
        network: Network | None,
    ) -> None:
        super().__init__(scope, name)
        self._deployment = deployment
        self._settings = settings
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )
        self.queue = sqs.Queue(
            self,
            "Doorbells",
            # S3 cannot use the key that AWS manages for SQS; this encryption needs none.
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            retention_period=Duration.days(4),
            visibility_timeout=Duration.seconds(VISIBILITY * settings.function_timeout),
            dead_letter_queue=sqs.DeadLetterQueue(max_receive_count=MAX_RECEIVES, queue=self.dead_letters),
        )
        spool.notify(self.queue)
        self.table = self._table(spool.kept) if deployment.needs_receipts else None
        self.function = self._function(spool, network)
        self._read_queue()
        if deployment.buses:
            Archives(self, "Buses", deployment.buses)
        if settings.has("schedule"):
            self._sweep()

    def _table(self, kept: RemovalPolicy) -> dynamodb.Table:
        return dynamodb.Table(
            self,
            "Receipts",
            partition_key=dynamodb.Attribute(name="id", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="expiration",
            # Without receipts the unfinished mails of a retained spool would be sent again.
            removal_policy=kept,
        )

    def _function(self, spool: SpoolBucket, network: Network | None) -> lambda_.Function:
        settings, platform = self._settings, self._settings.platform
        self.log_group = log_group = logs.LogGroup(
            self, "Logs", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY
        )
        resources = Spool(
            bucket=spool.bucket.bucket_arn,
            prefix=spool.prefix,
            queue=self.queue.queue_arn,
            table=None if self.table is None else self.table.table_arn,
            log_group=log_group_arn(log_group),
            key=spool.key_arn,
        )
        role = make_role(
            self,
            "Role",
            "lambda.amazonaws.com",
            [
                *function_statements(self._deployment.config, resources, HERE),
                *([statement(rules.NETWORK, ["*"])] if settings.function_subnets else []),
            ],
        )
        variables = {
            "SMTP_RELAY_SPOOL": spool.url,
            "SMTP_RELAY_QUEUE_URL": self.queue.queue_url,
            # It separates the metrics of several stacks in one account.
            "POWERTOOLS_SERVICE_NAME": Aws.STACK_NAME,
            "PYDANTIC_DISABLE_PLUGINS": "1",
        }
        if self.table is not None:
            variables["SMTP_RELAY_RECEIPTS_TABLE"] = self.table.table_name
        if self._deployment.ses_concurrency is not None:
            variables["SMTP_RELAY_SES_CONCURRENCY"] = str(self._deployment.concurrency)
        archive = bundle(self._deployment.path, platform)
        return lambda_.Function(
            self,
            "Function",
            description="Delivers the mails of a spool",
            runtime=lambda_.Runtime(f"python{platform.python}", lambda_.RuntimeFamily.PYTHON),
            architecture=(
                lambda_.Architecture.ARM_64 if platform.arch == "arm64" else lambda_.Architecture.X86_64
            ),
            handler=HANDLER,
            code=lambda_.Code.from_asset(str(archive)),
            memory_size=settings.function_memory,
            timeout=Duration.seconds(settings.function_timeout),
            environment={**variables, **settings.environment},
            **self._place(network),
            role=role,
            log_group=log_group,
        )

    def _place(self, network: Network | None) -> dict[str, Any]:
        """The subnets of the function: for a smarthost that only they reach, or that admits their address."""
        names = self._settings.function_subnets
        if not names or network is None:
            return {}
        subnets = [
            ec2.Subnet.from_subnet_id(self, f"Subnet{number}", one) for number, one in enumerate(names, 1)
        ]
        group = ec2.SecurityGroup(
            self, "FunctionGroup", vpc=network.vpc, description="The function of the mail relay"
        )
        return {
            "vpc": network.vpc,
            "vpc_subnets": ec2.SubnetSelection(subnets=subnets),
            "security_groups": [group],
        }

    def _read_queue(self) -> None:
        lambda_.EventSourceMapping(
            self,
            "Mapping",
            target=self.function,
            event_source_arn=self.queue.queue_arn,
            batch_size=10,
            max_batching_window=Duration.seconds(0),
            report_batch_item_failures=True,
            # Mails that wait for SES's send rate, or for a place, wait in the queue.
            max_concurrency=self._deployment.concurrency,
        )

    def _sweep(self) -> None:
        role = make_role(
            self,
            "ScheduleRole",
            "scheduler.amazonaws.com",
            [statement(rules.SWEEP, [self.function.function_arn])],
            conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
        )
        scheduler.CfnSchedule(
            self,
            "Sweep",
            description="Looks through the spool for unfinished mails",
            schedule_expression=f"rate({SWEEP_MINUTES} minutes)",
            flexible_time_window=scheduler.CfnSchedule.FlexibleTimeWindowProperty(mode="OFF"),
            target=scheduler.CfnSchedule.TargetProperty(
                arn=self.function.function_arn,
                role_arn=role.role_arn,
                input='{"sweep": true}',
                # The next sweep comes soon enough.
                retry_policy=scheduler.CfnSchedule.RetryPolicyProperty(
                    maximum_retry_attempts=1, maximum_event_age_in_seconds=120
                ),
            ),
        )
