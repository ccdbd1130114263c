"""The stack: everything that one configuration needs."""

from __future__ import annotations

from aws_cdk import Annotations, CfnOutput, Environment, Stack
from constructs import Construct

from infra.bundle.bytecode import missing_bytecode
from infra.bundle.deployment import Deployment
from infra.cdk.parts.alarms import Alarms, Metrics
from infra.cdk.parts.certificate import Certificate
from infra.cdk.parts.dashboard import Dashboard
from infra.cdk.parts.delivery import Delivery
from infra.cdk.parts.guard import SpoolGuard
from infra.cdk.parts.listener import Listener
from infra.cdk.parts.names import Names
from infra.cdk.parts.network import network
from infra.cdk.parts.queries import Queries
from infra.cdk.parts.spool import SpoolBucket
from infra.cdk.settings import Settings


class RelayStack(Stack):
    """Listener, spool and function of one configuration."""

    def __init__(
        self,
        scope: Construct,
        *,
        deployment: Deployment,
        settings: Settings,
        env: Environment | None = None,
    ) -> None:
        super().__init__(
            scope,
            settings.name,
            description="SMTP in, spooled to S3, delivered by a function",
            env=env,
            # A refused deletion leaves a stack that can only be deleted, so deletion must not begin.
            termination_protection=not settings.ephemeral,
            tags=dict(settings.tags),
        )
        needs_network = settings.has("listener") or settings.function_subnets
        self._network = network(self, settings.vpc) if needs_network else None
        self.spool = SpoolBucket(self, "Spool", options=deployment.spool, ephemeral=settings.ephemeral)
        self.delivery = Delivery(
            self,
            "Delivery",
            deployment=deployment,
            spool=self.spool,
            settings=settings,
            network=self._network,
        )
        self.listener = self._listener(deployment, settings) if settings.has("listener") else None
        self._watch(deployment, settings)
        self._name(deployment, settings)
        if settings.has("queries"):
            halves = [self.delivery.log_group, *([self.listener.log_group] if self.listener else [])]
            Queries(self, "Queries", groups=halves)
        if settings.has("guard"):
            # A refused deletion removes none of these, so that the alarms still tell that a mail waits.
            parts = [each for each in self.node.children if not isinstance(each, CfnOutput)]
            SpoolGuard(
                self,
                "Guard",
                spool=self.spool,
                platform=settings.platform,
                before=parts,
                ephemeral=settings.ephemeral,
                environment=settings.environment,
            )
        self._tell(deployment)
        if slow := missing_bytecode(settings.platform):
            Annotations.of(self).add_warning_v2("smtp-relay:check-byte-code", slow)

    def _listener(self, deployment: Deployment, settings: Settings) -> Listener:
        assert self._network is not None
        listener = Listener(
            self,
            "Listener",
            deployment=deployment,
            spool=self.spool,
            network=self._network,
            settings=settings,
        )
        # The function must know new flows and outputs before the listener writes mails that name
        # them.
        listener.service.node.add_dependency(self.delivery.function)
        if settings.certificate is not None:
            certificate = Certificate(
                self, "Certificate", arn=settings.certificate, deployment=deployment, settings=settings
            )
            # Without it the tasks would not start.
            listener.service.node.add_dependency(certificate.stored)
        return listener

    def _name(self, deployment: Deployment, settings: Settings) -> None:
        if self.listener is None or settings.zone is None or settings.zone_name is None:
            return
        Names(
            self,
            "Names",
            zone=settings.zone,
            zone_name=settings.zone_name,
            listener=self.listener,
            public=deployment.public,
        )

    def _watch(self, deployment: Deployment, settings: Settings) -> None:
        if settings.without >= {"alarms", "dashboard"}:
            return
        metrics = Metrics(self, self.delivery, self.listener, sends=deployment.ses_concurrency is not None)
        if settings.has("alarms"):
            Alarms(
                self,
                "Alarms",
                metrics=metrics,
                certificate=deployment.has_certificate,
                quiet=settings.quiet,
                topic=settings.alarm_topic,
            )
        if settings.has("dashboard"):
            Dashboard(self, "Dashboard", metrics=metrics)

    def _tell(self, deployment: Deployment) -> None:
        CfnOutput(self, "SpoolBucket", value=self.spool.bucket.bucket_name)
        CfnOutput(self, "Queue", value=self.delivery.queue.queue_url)
        CfnOutput(self, "DeadLetterQueue", value=self.delivery.dead_letters.queue_url)
        CfnOutput(self, "Function", value=self.delivery.function.function_name)
        if self.listener is not None:
            CfnOutput(self, "ListenerEndpoint", value=self.listener.balancer.load_balancer_dns_name)
        for number, line in enumerate(deployment.warnings):
            Annotations.of(self).add_warning_v2(f"smtp-relay:check-{number}", line)
