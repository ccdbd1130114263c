"""The alarms; docs/aws.md says for each what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from aws_cdk import Aws, Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

from infra.cdk.parts.delivery import SWEEP_MINUTES, Delivery
from infra.cdk.parts.listener import Listener

NAMESPACE: Final = "SmtpRelay"
"""The namespace of the function's metrics (functions.aws.metrics)."""

FIVE: Final = Duration.minutes(5)

OLDEST: Final = 1800  # seconds
DEFERRED: Final = 5  # per cent of mails
CERTIFICATE: Final = 14  # days
MEMORY: Final = 90  # per cent

PROXY: Final = '?"PROXY header from an address that useProxy does not list" ?"no PROXY header from a proxy"'
"""The listener logs these, once a minute, when it and the balancer do not agree on the PROXY header."""


class Watched(NamedTuple):
    """An alarm: `metric` compared with `threshold` over a number of five-minute periods."""

    name: str
    text: str
    metric: cloudwatch.IMetric
    threshold: float
    above: bool = True
    periods: int = 1
    missing_is_bad: bool = False


class ListenerMetrics:
    """The listener's metrics: of its balancer and its service, and from its log."""

    def __init__(self, scope: Construct, listener: Listener) -> None:
        self.service = listener.service
        self.least = listener.least
        # Each node of the balancer reports what it sees, and one that lags must not raise the alarm: AWS
        # advises the maximum (Elastic Load Balancing, "CloudWatch metrics for your Network Load Balancer").
        self.healthy = [
            group.metrics.healthy_host_count(statistic="Maximum", period=FIVE) for group in listener.targets
        ]
        self.least_healthy = cloudwatch.MathExpression(
            expression=f"MIN([{','.join(f'port{n}' for n in range(len(self.healthy)))}])",
            using_metrics={f"port{n}": one for n, one in enumerate(self.healthy)},
            period=FIVE,
            label="healthy listeners of the port that has the fewest",
        )
        self.memory = listener.service.metric_memory_utilization(statistic="Maximum", period=FIVE)
        self.untrusted = counted(scope, listener.log_group, "UntrustedProxy", PROXY)
        self.accepted = counted(scope, listener.log_group, "Accepted", '"mail accepted"')
        self.unstored = counted(scope, listener.log_group, "NotStored", '"mail not stored"')
        self.deferred = cloudwatch.MathExpression(
            expression="100 * bad / (bad + good)",
            using_metrics={"bad": self.unstored, "good": self.accepted},
            period=FIVE,
            label="mails answered 451 (%)",
        )
        left = logs.MetricFilter(
            scope,
            "CertificateDays",
            log_group=listener.log_group,
            filter_pattern=logs.FilterPattern.literal('{ $.message = "certificate" && $.days = * }'),
            metric_namespace=NAMESPACE,
            metric_name=f"CertificateDays-{Aws.STACK_NAME}",
            metric_value="$.days",
        )
        self.certificate = left.metric(statistic="Minimum", period=Duration.hours(6))


class Metrics:
    """The metrics of one stack, for alarms and the dashboard. `sends`: an output sends through SES."""

    def __init__(
        self, scope: Construct, delivery: Delivery, listener: Listener | None, *, sends: bool
    ) -> None:
        self.function = delivery.function
        self.queue = delivery.queue
        self.sends = sends
        self.oldest = relayed("OldestUnfinished", "Maximum")
        self.unfinished = relayed("Unfinished", "Maximum")
        self.dead = relayed("Dead", "Maximum")
        self.sweeps = relayed("Sweeps", "Sum", Duration.minutes(3 * SWEEP_MINUTES))
        self.delivered = relayed("Delivered", "Sum")
        self.failed = relayed("Failed", "Sum")
        self.closed = relayed("SesClosed", "Sum")
        self.receipts = delivery.table is not None
        self.doubts = relayed("InDoubt", "Sum")
        self.no_login = relayed("NoLogin", "Sum")
        self.crashed = delivery.dead_letters.metric_approximate_number_of_messages_visible(period=FIVE)
        self.errors = delivery.function.metric_errors(period=FIVE)
        self.throttles = delivery.function.metric_throttles(period=FIVE)
        self.out_of_memory = counted(scope, delivery.log_group, "OutOfMemory", '"Runtime.OutOfMemory"')
        self.listener = None if listener is None else ListenerMetrics(scope, listener)


def relayed(name: str, statistic: str, period: Duration = FIVE) -> cloudwatch.Metric:
    """A metric that the function writes."""
    return cloudwatch.Metric(
        namespace=NAMESPACE,
        metric_name=name,
        dimensions_map={"service": Aws.STACK_NAME},
        statistic=statistic,
        period=period,
    )


def counted(scope: Construct, group: logs.ILogGroup, name: str, pattern: str) -> cloudwatch.Metric:
    """The number of lines in a log that match a pattern."""
    found = logs.MetricFilter(
        scope,
        name,
        log_group=group,
        filter_pattern=logs.FilterPattern.literal(pattern),
        metric_namespace=NAMESPACE,
        metric_name=f"{name}-{Aws.STACK_NAME}",
        metric_value="1",
        default_value=0,
    )
    return found.metric(statistic="Sum", period=FIVE)


class Alarms(Construct):
    """The alarms of a stack. They go to a topic, if one is given."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        *,
        metrics: Metrics,
        certificate: bool,
        quiet: int,
        topic: str | None,
    ) -> None:
        super().__init__(scope, name)
        self.alarms = [self._make(one) for one in watched(metrics, certificate=certificate, quiet=quiet)]
        if topic is not None:
            action = actions.SnsAction(sns.Topic.from_topic_arn(self, "Topic", topic))
            for alarm in self.alarms:
                alarm.add_alarm_action(action)
                alarm.add_ok_action(action)

    def _make(self, one: Watched) -> cloudwatch.Alarm:
        operators = cloudwatch.ComparisonOperator
        missing = cloudwatch.TreatMissingData
        return cloudwatch.Alarm(
            self,
            one.name,
            alarm_description=one.text,
            metric=one.metric,
            threshold=one.threshold,
            comparison_operator=(
                operators.GREATER_THAN_THRESHOLD if one.above else operators.LESS_THAN_THRESHOLD
            ),
            evaluation_periods=one.periods,
            treat_missing_data=missing.BREACHING if one.missing_is_bad else missing.NOT_BREACHING,
        )


def watched(metrics: Metrics, *, certificate: bool, quiet: int) -> Iterator[Watched]:
    """The list of alarms. `quiet`: hours without an accepted mail that raise one, 0 for none."""
    yield Watched("Oldest", "a mail is unfinished for more than 30 minutes", metrics.oldest, OLDEST)
    yield Watched(
        "NoSweep",
        "no sweep of the spool for 15 minutes",
        metrics.sweeps,
        1,
        above=False,
        missing_is_bad=True,
    )
    yield Watched("Dead", "outputs were given up: smtp-relay deadletter list", metrics.dead, 0)
    yield Watched("Crashed", "runs of the function crashed over and over", metrics.crashed, 0)
    yield Watched("Errors", "the function fails", metrics.errors, 0, periods=2)
    yield Watched(
        "Throttles",
        "the account refuses to run the function: its quota is used up",
        metrics.throttles,
        0,
        periods=2,
    )
    yield Watched("FunctionMemory", "the function ran out of memory", metrics.out_of_memory, 0)
    if metrics.sends:
        yield Watched("SesClosed", "SES is closed: quota used up, paused or suspended", metrics.closed, 0)
    if metrics.receipts:
        yield Watched("InDoubt", "calls got no answer: mails or messages may exist twice", metrics.doubts, 0)
        yield Watched("NoLogin", "an output cannot log in: a password, or OAuth", metrics.no_login, 0)
    listener = metrics.listener
    if listener is None:
        return
    yield Watched(
        "Deferred", "mails are answered 451: the spool cannot be written", listener.deferred, DEFERRED
    )
    yield Watched(
        "Healthy",
        f"fewer than {listener.least} listeners are healthy",
        listener.least_healthy,
        listener.least,
        above=False,
        periods=2,
        missing_is_bad=True,
    )
    yield Watched(
        "Memory", f"a listener uses more than {MEMORY} % of its memory", listener.memory, MEMORY, periods=2
    )
    yield Watched(
        "UntrustedProxy",
        "clients are refused: their PROXY header comes from no balancer",
        listener.untrusted,
        0,
    )
    if quiet:
        yield Watched(
            "Quiet",
            f"no mail was accepted for {quiet} hours",
            listener.accepted.with_(period=Duration.hours(1)),
            1,
            above=False,
            periods=quiet,
            missing_is_bad=True,
        )
    if certificate:
        yield Watched(
            "Certificate",
            "the certificate ends within 14 days",
            listener.certificate,
            CERTIFICATE,
            above=False,
        )
