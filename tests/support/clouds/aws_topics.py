"""An SNS topic and an EventBridge bus on a local AWS, each with a queue that gets its messages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tests.support.clouds.ministack import Ministack


def _queue(aws: Ministack, name: str) -> tuple[str, str]:
    """URL and ARN of a new queue."""
    sqs = aws.client("sqs")
    url = str(sqs.create_queue(QueueName=name)["QueueUrl"])
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return url, str(found["Attributes"]["QueueArn"])


class Topic:
    """A topic whose messages come to `queue` as they are, if a filter policy lets them."""

    def __init__(self, aws: Ministack, name: str, policy: Mapping[str, Any] | None = None) -> None:
        sns = aws.client("sns")
        self.queue, target = _queue(aws, name)
        self.arn = str(sns.create_topic(Name=name)["TopicArn"])
        attributes = {"RawMessageDelivery": "true"}
        if policy is not None:
            attributes["FilterPolicy"] = json.dumps(policy)
        sns.subscribe(TopicArn=self.arn, Protocol="sqs", Endpoint=target, Attributes=attributes)


class Bus:
    """A bus whose events from this relay come to `queue`, if their detail matches."""

    def __init__(self, aws: Ministack, name: str, detail: Mapping[str, Any] | None = None) -> None:
        events = aws.client("events")
        self.queue, target = _queue(aws, name)
        self.arn = str(events.create_event_bus(Name=name)["EventBusArn"])
        pattern: dict[str, Any] = {"source": ["com.loopingz.smtp-relay"]}
        if detail is not None:
            pattern["detail"] = detail
        events.put_rule(Name=name, EventBusName=name, EventPattern=json.dumps(pattern))
        events.put_targets(Rule=name, EventBusName=name, Targets=[{"Id": "q", "Arn": target}])
