"""The stack: everything that one configuration needs."""

from __future__ import annotations

from aws_cdk import Annotations, CfnOutput, Environment, Stack
from constructs import Construct

from infra.bundle.deployment import Deployment
from infra.cdk.parts.alarms import Alarms, Metrics
from infra.cdk.parts.dashboard import Dashboard
from infra.cdk.parts.delivery import Delivery
from infra.cdk.parts.guard import SpoolGuard
from infra.cdk.parts.listener import Listener, ListenerSettings
from infra.cdk.parts.network import network
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
            scope, settings.name, description="SMTP in, spooled to S3, delivered by a function", env=env
        )
        self.spool = SpoolBucket(self, "Spool", options=deployment.spool, ephemeral=settings.ephemeral)
        self.delivery = Delivery(
            self,
            "Delivery",
            deployment=deployment,
            spool=self.spool,
            platform=settings.platform,
            environment=settings.environment,
            schedule=settings.has("schedule"),
        )
        self.listener = self._listener(deployment, settings) if settings.has("listener") else None
        self._watch(deployment, settings)
        if settings.has("guard") and not settings.ephemeral:
            parts = [self.spool, self.delivery, *([] if self.listener is None else [self.listener])]
            SpoolGuard(
                self,
                "Guard",
                spool=self.spool,
                platform=settings.platform,
                before=parts,
                environment=settings.environment,
            )
        self._tell(deployment)

    def _listener(self, deployment: Deployment, settings: Settings) -> Listener:
        public = not deployment.sends_mail if settings.public is None else settings.public
        listener = Listener(
            self,
            "Listener",
            deployment=deployment,
            spool=self.spool,
            network=network(self, settings.vpc),
            settings=ListenerSettings(
                public=public,
                image=settings.image,
                autoscaling=settings.has("autoscaling"),
                rules=settings.has("rules"),
            ),
        )
        # The function must know new flows and outputs before the listener writes mails that name
        # them.
        listener.service.node.add_dependency(self.delivery.function)
        return listener

    def _watch(self, deployment: Deployment, settings: Settings) -> None:
        if settings.without >= {"alarms", "dashboard"}:
            return
        metrics = Metrics(self, self.delivery, self.listener, sends=deployment.concurrency is not None)
        if settings.has("alarms"):
            Alarms(
                self,
                "Alarms",
                metrics=metrics,
                certificate=deployment.has_certificate,
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
