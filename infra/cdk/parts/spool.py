"""The bucket of the spool."""

from __future__ import annotations

from aws_cdk import Aws, Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from functions.options.spool import SpoolOptions
from infra.access.aws import statements as permissions
from infra.access.aws.statements import Place


class SpoolBucket(Construct):
    """A private bucket. `options` are the configuration's `spool`: prefix and encryption."""

    def __init__(
        self, scope: Construct, name: str, *, options: SpoolOptions, ephemeral: bool = False
    ) -> None:
        super().__init__(scope, name)
        self.prefix = options.prefix
        self.kept = RemovalPolicy.DESTROY if ephemeral else RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
        self.key = self._key(options) if options.sse == "aws:kms" else None
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            enforce_ssl=True,
            encryption=s3.BucketEncryption.S3_MANAGED if self.key is None else s3.BucketEncryption.KMS,
            encryption_key=self.key,
            bucket_key_enabled=None if self.key is None else options.bucket_key,
            versioned=False,
            # This removes multipart uploads that a person began and left. No rule touches spool/ or
            # dead/.
            lifecycle_rules=[
                s3.LifecycleRule(
                    id="unfinished-uploads", abort_incomplete_multipart_upload_after=Duration.days(1)
                )
            ],
            removal_policy=self.kept,
        )

    @property
    def url(self) -> str:
        """For `SMTP_RELAY_SPOOL`."""
        return f"s3://{self.bucket.bucket_name}/{self.prefix}".rstrip("/")

    @property
    def key_arn(self) -> str | None:
        """The key's ARN, None if S3 manages the keys."""
        return None if self.key is None else self.key.key_arn

    def notify(self, queue: sqs.Queue) -> None:
        """Let uploads notify a queue. S3 tests at once if it may send there, so the queue's policy
        comes first. It names no bucket, because the bucket's name would be a circle, and CloudFormation cuts
        the stack's name in it; the account keeps the buckets of others out."""
        queue.add_to_resource_policy(
            iam.PolicyStatement(
                sid="UploadsRing",
                principals=[iam.ServicePrincipal("s3.amazonaws.com")],
                actions=["sqs:SendMessage"],
                resources=[queue.queue_arn],
                conditions={
                    "StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID},
                    "ArnLike": {"aws:SourceArn": f"arn:{Aws.PARTITION}:s3:::*"},
                },
            )
        )
        made = self.bucket.node.default_child
        assert isinstance(made, s3.CfnBucket)
        starts = s3.CfnBucket.FilterRuleProperty(name="prefix", value=f"{self.prefix}spool/")
        made.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            queue_configurations=[
                s3.CfnBucket.QueueConfigurationProperty(
                    event="s3:ObjectCreated:*",
                    queue=queue.queue_arn,
                    filter=s3.CfnBucket.NotificationFilterProperty(
                        s3_key=s3.CfnBucket.S3KeyFilterProperty(rules=[starts])
                    ),
                )
            ]
        )
        made.node.add_dependency(queue.node.find_child("Policy"))

    def forbid_overwriting(self, writer: iam.IRole) -> None:
        """Refuse this role's uploads without `If-None-Match: *`, so it can never replace a mail."""
        self.bucket.add_to_resource_policy(
            iam.PolicyStatement(
                sid="NeverOverwrite",
                effect=iam.Effect.DENY,
                principals=[iam.ArnPrincipal(writer.role_arn)],
                actions=["s3:PutObject"],
                resources=[f"{self.bucket.bucket_arn}/{self.prefix}spool/*"],
                conditions={"Null": {"s3:if-none-match": "true"}},
            )
        )

    def _key(self, options: SpoolOptions) -> kms.IKey:
        if options.kms_key_id is not None:
            here = Place(Aws.PARTITION, Aws.REGION, Aws.ACCOUNT_ID)
            arn = permissions.key_arn(options.kms_key_id, here)
            return kms.Key.from_key_arn(self, "Key", arn)
        return kms.Key(self, "Key", enable_key_rotation=True, removal_policy=self.kept)
