"""The listener: tasks on Fargate behind a network load balancer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aws_cdk import Annotations, Aws, Duration, RemovalPolicy
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_ecr_assets as ecr_assets
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from functions.errors import ConfigError
from infra.access.aws.images import repository_arn
from infra.access.aws.statements import Spool, listener_statements, pull_statements
from infra.bundle.deployment import HEALTH, Deployment
from infra.bundle.source import ROOT
from infra.cdk.parts.network import Network, allow
from infra.cdk.parts.roles import HERE, log_group_arn, make_role
from infra.cdk.parts.spool import SpoolBucket
from infra.cdk.settings import Settings

BUSY: Final = 50  # per cent of CPU

DEREGISTRATION: Final = Duration.seconds(90)
STOP: Final = Duration.seconds(120)
"""The longest that Fargate waits between SIGTERM and SIGKILL."""

USER: Final = "10025:10025"
"""The image's own user."""


WRITABLE: Final = "/tmp"  # noqa: S108 - a volume of each task's own
"""The only folder that a task may write to; the image declares it as a volume."""

ANY_PROXY: Final = "0.0.0.0/0"
"""Any address may name a client in a PROXY header, because the tasks' security group admits the balancer
alone. Its nodes may have addresses of any block of the network."""


class Listener(Construct):
    """Receives mail and puts it into a spool."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        deployment: Deployment,
        spool: SpoolBucket,
        network: Network,
        settings: Settings,
    ) -> None:
        super().__init__(scope, name)
        self._deployment = deployment
        self.vpc = vpc = network.vpc
        public = deployment.public
        self._clients = settings.clients or (("0.0.0.0/0",) if public else network.cidrs)
        self.log_group = logs.LogGroup(
            self, "Logs", retention=logs.RetentionDays.ONE_MONTH, removal_policy=RemovalPolicy.DESTROY
        )
        self.limits = self._table() if deployment.needs_limits else None
        self.role = self._task_role(spool)
        spool.forbid_overwriting(self.role)
        container, repository = self._image(settings.image)
        self.task = self._task(spool, container, repository, settings)
        # It needs a group from the start, because a balancer without one can never get any.
        self.balancer_group = ec2.SecurityGroup(
            self, "BalancerGroup", vpc=vpc, description="Clients of the mail relay", allow_all_outbound=False
        )
        self.task_group = ec2.SecurityGroup(
            self, "TaskGroup", vpc=vpc, description="Tasks of the mail relay", allow_all_outbound=True
        )
        self._let_in()
        if settings.has("rules"):
            self._let_through()
        self.balancer = elb.NetworkLoadBalancer(
            self,
            "Balancer",
            vpc=vpc,
            **self._addresses(public, settings.eips),
            internet_facing=public,
            cross_zone_enabled=True,
            security_groups=[self.balancer_group],
        )
        self.least = settings.least
        self.service = self._service(settings)
        self.targets = [self._port(port.outside, port.inside) for port in deployment.ports]
        if settings.has("autoscaling"):
            scaling = self.service.auto_scale_task_count(
                min_capacity=settings.least, max_capacity=settings.most
            )
            scaling.scale_on_cpu_utilization("Busy", target_utilization_percent=BUSY)

    def _table(self) -> dynamodb.Table:
        """The counts of sending-policy, which the tasks share. A lost one only frees the limits once."""
        return dynamodb.Table(
            self,
            "Limits",
            partition_key=dynamodb.Attribute(name="id", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            time_to_live_attribute="expiration",
            removal_policy=RemovalPolicy.DESTROY,
        )

    def _task_role(self, spool: SpoolBucket) -> iam.IRole:
        resources = Spool(
            bucket=spool.bucket.bucket_arn,
            prefix=spool.prefix,
            queue="",
            table=None,
            log_group="",
            key=spool.key_arn,
            limits=None if self.limits is None else self.limits.table_arn,
        )
        return make_role(
            self,
            "TaskRole",
            "ecs-tasks.amazonaws.com",
            listener_statements(self._deployment.config, resources, HERE),
            # Amazon ECS, "Amazon ECS task IAM role": the confused deputy.
            conditions={"StringEquals": {"aws:SourceAccount": Aws.ACCOUNT_ID}},
        )

    def _image(self, given: str | None) -> tuple[ecs.ContainerImage, str | None]:
        """The image, and the ARN of its repository if it is in ECR."""
        if given is not None:
            # pull_statements grant the pull, but CDK does not see them.
            Annotations.of(self).acknowledge_warning("@aws-cdk/aws-ecs:ecrImageRequiresPolicy")
            return ecs.ContainerImage.from_registry(given), repository_arn(given, Aws.PARTITION)
        asset = ecr_assets.DockerImageAsset(
            self,
            "Image",
            directory=str(ROOT),
            file="listener/Dockerfile",
            platform=ecr_assets.Platform.LINUX_ARM64,
        )
        image = ecs.ContainerImage.from_docker_image_asset(asset)
        return image, asset.repository.repository_arn

    def _task(
        self, spool: SpoolBucket, image: ecs.ContainerImage, repository: str | None, settings: Settings
    ) -> ecs.FargateTaskDefinition:
        group = log_group_arn(self.log_group)
        starter = make_role(self, "StartRole", "ecs-tasks.amazonaws.com", pull_statements(repository, group))
        task = ecs.FargateTaskDefinition(
            self,
            "Task",
            cpu=settings.cpu,
            memory_limit_mib=settings.memory,
            runtime_platform=ecs.RuntimePlatform(
                cpu_architecture=ecs.CpuArchitecture.ARM64,
                operating_system_family=ecs.OperatingSystemFamily.LINUX,
            ),
            task_role=self.role,
            execution_role=starter,
        )
        task.add_volume(name="tmp")
        container = task.add_container(
            "listener",
            image=image,
            user=USER,
            readonly_root_filesystem=True,
            # Large mails that arrive are files below the working folder.
            working_directory=WRITABLE,
            stop_timeout=STOP,
            environment={
                "SMTP_RELAY_CONFIG_JSON": self._deployment.listener_config,
                "SMTP_RELAY_SPOOL": spool.url,
                "SMTP_RELAY_LISTENERS": self._deployment.listeners,
                "SMTP_RELAY_TRUSTED_PROXIES": ANY_PROXY,
                "SMTP_RELAY_HEALTH_PORT": str(HEALTH),
                **({} if self.limits is None else {"SMTP_RELAY_LIMITS_TABLE": self.limits.table_name}),
            },
            logging=ecs.LogDriver.aws_logs(stream_prefix="listener", log_group=self.log_group),
            port_mappings=[
                ecs.PortMapping(container_port=port)
                for port in (*(one.inside for one in self._deployment.ports), HEALTH)
            ],
        )
        container.add_mount_points(
            ecs.MountPoint(container_path=WRITABLE, source_volume="tmp", read_only=False)
        )
        return task

    def _let_in(self) -> None:
        clients = [ec2.Peer.ipv4(one) for one in self._clients]
        allow(self.balancer_group, clients, [one.outside for one in self._deployment.ports], "SMTP")

    def _let_through(self) -> None:
        """Only the balancer reaches the tasks, and it reaches nothing else."""
        inside = [one.inside for one in self._deployment.ports] + [HEALTH]
        allow(self.task_group, [self.balancer_group], inside, "from the balancer")
        for port in inside:
            self.balancer_group.add_egress_rule(self.task_group, ec2.Port.tcp(port), "to the tasks")

    def _subnets(self, public: bool) -> ec2.SubnetSelection:
        if public or not self.vpc.private_subnets:
            return ec2.SubnetSelection(subnet_type=ec2.SubnetType.PUBLIC)
        return ec2.SubnetSelection(subnet_type=ec2.SubnetType.PRIVATE_WITH_EGRESS)

    def _addresses(self, public: bool, eips: Sequence[str]) -> dict[str, Any]:
        """Where the balancer is. Raises ConfigError."""
        chosen = self._subnets(public)
        if not eips:
            return {"vpc_subnets": chosen}
        subnets = self.vpc.select_subnets(subnet_type=chosen.subnet_type, one_per_az=True).subnets
        if not public or len(eips) != len(subnets):
            raise ConfigError(
                "-c eips",
                f"names {len(eips)} addresses for {len(subnets) if public else 'no public'} subnets",
                "give one for each public subnet of the load balancer",
            )
        return {
            "subnet_mappings": [
                elb.SubnetMapping(subnet=subnet, allocation_id=one)
                for subnet, one in zip(subnets, eips, strict=True)
            ]
        }

    def _service(self, settings: Settings) -> ecs.FargateService:
        """Tasks run in private subnets if the network has any; else they need an address."""
        private = bool(self.vpc.private_subnets)
        if not private:
            Annotations.of(self).add_info("tasks stand in public subnets, reached by the balancer alone")
        cluster = ecs.Cluster(
            self, "Cluster", vpc=self.vpc, container_insights_v2=ecs.ContainerInsights.DISABLED
        )
        return ecs.FargateService(
            self,
            "Service",
            cluster=cluster,
            task_definition=self.task,
            # With a count here, each deployment would undo the scaling.
            desired_count=None if settings.has("autoscaling") else settings.least,
            min_healthy_percent=100,
            max_healthy_percent=200,
            availability_zone_rebalancing=ecs.AvailabilityZoneRebalancing.ENABLED,
            circuit_breaker=ecs.DeploymentCircuitBreaker(enable=True, rollback=True),
            health_check_grace_period=Duration.seconds(60),
            assign_public_ip=not private,
            vpc_subnets=self._subnets(public=not private),
            security_groups=[self.task_group],
            enable_execute_command=False,
        )

    def _port(self, outside: int, inside: int) -> elb.NetworkTargetGroup:
        """A port of the balancer. The client's address comes in the PROXY header."""
        group = elb.NetworkTargetGroup(
            self,
            # CloudFormation cannot move a target group to the balancer that replaces one of the other scheme.
            f"Target{outside}" if self._deployment.public else f"InternalTarget{outside}",
            vpc=self.vpc,
            port=inside,
            protocol=elb.Protocol.TCP,
            target_type=elb.TargetType.IP,
            proxy_protocol_v2=True,
            preserve_client_ip=False,
            deregistration_delay=DEREGISTRATION,
            health_check=elb.HealthCheck(
                protocol=elb.Protocol.HTTP,
                port=str(HEALTH),
                path="/healthz",
                interval=Duration.seconds(10),
                timeout=Duration.seconds(6),
                healthy_threshold_count=2,
                unhealthy_threshold_count=3,
            ),
            targets=[self.service.load_balancer_target(container_name="listener", container_port=inside)],
        )
        self.balancer.add_listener(f"Port{outside}", port=outside, default_target_groups=[group])
        return group
