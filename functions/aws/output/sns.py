"""Publishing to an SNS topic: the `pubsub` of an `aws` output."""

from __future__ import annotations

from collections.abc import Mapping

from functions.aws.faults import error_code
from functions.aws.output.fifo import ids_of
from functions.aws.output.publisher import TargetPublisher, size_of, with_ours
from functions.processors.base import Job


class SnsTopic(TargetPublisher):
    """One topic. Its attributes are those that filter policies of subscriptions compare."""

    service = "sns"
    most = 262_144  # with attributes, unless the topic's MaximumMessageSize says another size

    def _put(self, job: Job, body: str, ours: Mapping[str, str]) -> str:
        topic = self._options.topic
        fifo = ids_of(job) if topic.endswith(".fifo") else {}
        answer = self._client.publish(
            TopicArn=topic, Message=body, MessageAttributes=with_ours({}, ours), **fifo
        )
        return str(answer.get("MessageId", ""))

    def _beside(self, ours: Mapping[str, str]) -> int:
        return size_of(with_ours({}, ours))

    def _taken(self, error: Exception) -> int | None:
        # SNS does not say how much the topic takes.
        too_long = error_code(error) in ("InvalidParameter", "InvalidParameterValue") and "long" in str(error)
        return self._room // 2 if too_long else None
