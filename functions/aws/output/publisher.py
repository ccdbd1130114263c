"""What SQS, SNS and EventBridge share: one event for each mail, once, as large as the target takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from functions.aws.faults import fault_of, named
from functions.aws.output.options import PublishTarget
from functions.errors import DeliveryFault, Permanent
from functions.message.event import cloudevent
from functions.message.event.objects import StoredMail
from functions.message.mime import Limits
from functions.processors.base import Job
from functions.processors.publish import Publication
from functions.processors.store import Contents

MAX_ATTRIBUTES: Final = 10
"""Most attributes of an SQS message; SNS drops a message with more before a queue that takes it raw."""

Attributes = dict[str, dict[str, str]]
"""Name to `DataType` and `StringValue`."""


class TargetPublisher(ABC):
    """Sends to one target. `service` names the receipts of its mails; a message has at most `most` bytes."""

    service: ClassVar[str]
    most: ClassVar[int]

    def __init__(self, client: Any, options: PublishTarget) -> None:
        self._client = client
        self._options = options
        self._room = self.most

    @property
    def limits(self) -> Limits:
        """How much of a mail an event needs."""
        return cloudevent.limits_for(self.most, self._options.truncate)

    def publish(self, job: Job, stored: StoredMail | None, contents: Contents | None = None) -> None:
        """Send the event; `stored` is what this output stored of the mail. Raises Temporary and
        Permanent."""
        publication = Publication(self._options, job, stored, contents)
        job.once(self.service, lambda: self._send(job, publication))

    def _send(self, job: Job, publication: Publication) -> str:
        while True:
            room = self._room
            body, attributes = publication.message(self._room_for)
            try:
                return named(self._put(job, body.decode(), attributes), f"send to {self._options.topic}")
            except DeliveryFault:
                raise
            except Exception as error:
                taken = self._taken(error, room)
                if taken is None or taken >= room:
                    what = f"send to {self._options.topic}"
                    raise fault_of(error, what, repeatable=False) from error
                self._room = min(self._room, taken)
                if taken - self._beside(attributes) < cloudevent.MIN_BYTES:
                    reason = f"{self._options.topic} does not take a message of {len(body)} bytes"
                    raise Permanent(reason, enhanced="5.3.4") from error

    def _room_for(self, ours: Mapping[str, str]) -> int:
        return self._room - self._beside(ours)

    @abstractmethod
    def _put(self, job: Job, body: str, ours: Mapping[str, str]) -> str:
        """Send one message; returns the service's id of it, "" if the answer names none."""

    @abstractmethod
    def _beside(self, ours: Mapping[str, str]) -> int:
        """The bytes that count beside the body."""

    @abstractmethod
    def _taken(self, error: Exception, room: int) -> int | None:
        """The most bytes to send from now on if the error says that a message of `room` bytes is too long,
        else None."""


def with_ours(given: Attributes, ours: Mapping[str, str]) -> Attributes:
    """The file's attributes, and as many of the relay's as a message takes beside them."""
    few = [(name, value) for name, value in ours.items() if name not in given]
    few = few[: max(0, MAX_ATTRIBUTES - len(given))]
    return {**given, **{name: {"DataType": "String", "StringValue": value} for name, value in few}}


def size_of(attributes: Attributes) -> int:
    """SQS and SNS count names, types and values."""
    return sum(
        len(name.encode()) + sum(len(str(value).encode()) for value in attribute.values())
        for name, attribute in attributes.items()
    )
