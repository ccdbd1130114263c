"""Publishing to an SQS queue: the `pubsub` of an `aws` output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from functions.aws.output.fifo import ids_of
from functions.aws.output.options import PublishTarget
from functions.aws.output.publisher import TargetPublisher, size_of, with_ours
from functions.aws.output.request_options import SendMessageOptions, given
from functions.processors.base import Job

_SHORTER: Final = re.compile(r"shorter than (\d+) bytes")
_AMAZON: Final = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue|queue)\.amazonaws\.com(?:\.cn)?")


def place_of(url: str) -> tuple[str | None, str | None]:
    """The region and endpoint in a queue's URL; None if it has none."""
    parts = urlsplit(url)
    found = _AMAZON.fullmatch(parts.hostname or "")
    if found is None:
        return None, f"{parts.scheme}://{parts.netloc}"
    return found[1] or found[2], None


class Queue(TargetPublisher):
    """One queue."""

    service = "sqs"
    most = 1_048_576  # with attributes (SQS quotas); a queue may be set to less

    def __init__(self, client: Any, options: PublishTarget, extra: SendMessageOptions) -> None:
        super().__init__(client, options)
        self._extra = given(extra)

    def _put(self, job: Job, body: str, ours: Mapping[str, str]) -> str:
        queue = self._options.topic
        arguments = {**(ids_of(job) if queue.endswith(".fifo") else {}), **self._extra}
        arguments["MessageAttributes"] = self._attributes(ours)
        answer = self._client.send_message(QueueUrl=queue, MessageBody=body, **arguments)
        return str(answer.get("MessageId", ""))

    def _attributes(self, ours: Mapping[str, str]) -> dict[str, dict[str, str]]:
        return with_ours(self._extra.get("MessageAttributes", {}), ours)

    def _beside(self, ours: Mapping[str, str]) -> int:
        return size_of(self._attributes(ours))

    def _taken(self, error: Exception, room: int) -> int | None:
        """SQS's refusal names the queue's limit."""
        found = _SHORTER.search(str(error))
        return None if found is None else int(found[1])
