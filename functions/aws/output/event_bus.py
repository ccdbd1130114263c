"""Publishing to an EventBridge bus: the `pubsub` of an `aws` output."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from botocore.exceptions import ClientError

from functions.aws.output.publisher import TargetPublisher
from functions.message.event import cloudevent
from functions.processors.base import Job

SOURCE: Final = "com.loopingz.smtp-relay"
DETAIL_TYPES: Final = {"cloudevent": cloudevent.TYPE, "ses": "Received"}

_TIME: Final = 14  # bytes that a time counts


class EventBus(TargetPublisher):
    """One bus. An event has no attributes, because rules compare the `detail` itself."""

    service = "events"
    most = 262_143  # less than 256 KiB

    def _put(self, job: Job, body: str, ours: Mapping[str, str]) -> str:
        entry = {
            "EventBusName": self._options.topic,
            "Source": SOURCE,
            "DetailType": self._detail_type,
            "Detail": body,
            "Time": datetime.fromtimestamp(job.mail.envelope.received / 1000, UTC),
        }
        answer = self._client.put_events(Entries=[entry])
        (one,) = answer.get("Entries") or [{}]
        if answer.get("FailedEntryCount") or "ErrorCode" in one:
            raise _failed(one, answer)
        return str(one.get("EventId", ""))

    @property
    def _detail_type(self) -> str:
        return DETAIL_TYPES[self._options.format]

    def _beside(self, ours: Mapping[str, str]) -> int:
        return _TIME + len(SOURCE) + len(self._detail_type)

    def _taken(self, error: Exception, room: int) -> int | None:
        return room // 2 if "over the limit" in str(error) else None


def _failed(entry: Mapping[str, Any], answer: Mapping[str, Any]) -> ClientError:
    """The entry's failure, which comes with HTTP status 200, as that of a request."""
    code = str(entry.get("ErrorCode") or "InternalFailure")
    said = {"Error": {"Code": code, "Message": str(entry.get("ErrorMessage") or "the event was not taken")}}
    metadata = {**answer.get("ResponseMetadata", {}), "HTTPStatusCode": 400}
    return ClientError({**said, "ResponseMetadata": metadata}, "PutEvents")
