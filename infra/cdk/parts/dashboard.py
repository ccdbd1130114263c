"""A dashboard that shows if mail arrives, leaves or gets stuck."""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.cdk.parts.alarms import FIVE, Metrics


class Dashboard(Construct):
    """The page of a stack."""

    def __init__(self, scope: Construct, name: str, *, metrics: Metrics) -> None:
        super().__init__(scope, name)
        function, queue = metrics.function, metrics.queue
        rows = [
            [
                _graph("Outputs", metrics.delivered, metrics.failed),
                _graph("Unfinished and dead mails", metrics.unfinished, metrics.dead),
                _graph("Age of the oldest unfinished mail (s)", metrics.oldest),
            ],
            [
                _graph(
                    "Function",
                    function.metric_invocations(period=FIVE),
                    function.metric_errors(period=FIVE),
                    function.metric_throttles(period=FIVE),
                ),
                _graph("Function's time (ms)", function.metric_duration(period=FIVE, statistic="p99")),
                _graph(
                    "Doorbells",
                    queue.metric_approximate_number_of_messages_visible(period=FIVE),
                    queue.metric_approximate_age_of_oldest_message(period=FIVE),
                ),
            ],
        ]
        listener = metrics.listener
        if listener is not None:
            rows.insert(
                0,
                [
                    _graph("Mails", listener.accepted, listener.unstored),
                    _graph("Healthy tasks", *listener.healthy),
                    _graph(
                        "Tasks' load (%)",
                        listener.service.metric_cpu_utilization(period=FIVE),
                        listener.service.metric_memory_utilization(period=FIVE),
                    ),
                ],
            )
        widgets: list[list[cloudwatch.IWidget]] = [[*row] for row in rows]
        cloudwatch.Dashboard(self, "Page", widgets=widgets)


def _graph(title: str, *metrics: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
    return cloudwatch.GraphWidget(title=title, left=list(metrics), width=8)
