"""Publishing to SQS: the `pubsub` of an `aws` output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from functions.aws.faults import fault_of
from functions.aws.output.options import QueueOptions
from functions.aws.output.request_options import SendMessageOptions, given
from functions.errors import Permanent
from functions.message.event import cloudevent
from functions.message.event.objects import StoredMail
from functions.message.mime import Limits
from functions.processors.base import Job
from functions.processors.publish import Publication
from functions.processors.store import Contents

MAX_MESSAGE: Final = 1_048_576
"""Most bytes of a message with its attributes (SQS quotas); a queue may be set to less."""

MAX_ATTRIBUTES: Final = 10
"""Most attributes of a message (SQS quotas)."""

_SHORTER: Final = re.compile(r"shorter than (\d+) bytes")
_AMAZON: Final = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue|queue)\.amazonaws\.com(?:\.cn)?")
_GROUP: Final = re.compile(r"[^A-Za-z0-9!-~]")


def place_of(url: str) -> tuple[str | None, str | None]:
    """The region and endpoint in a queue's URL; None if it has none."""
    parts = urlsplit(url)
    found = _AMAZON.fullmatch(parts.hostname or "")
    if found is None:
        return None, f"{parts.scheme}://{parts.netloc}"
    return found[1] or found[2], None


class Queue:
    """One queue: sends one message for each mail, once."""

    def __init__(self, client: Any, options: QueueOptions, extra: SendMessageOptions) -> None:
        self._client = client
        self._options = options
        self._extra = given(extra)
        self._fifo = options.topic.endswith(".fifo")
        self._room = MAX_MESSAGE

    @property
    def limits(self) -> Limits:
        """How much of a mail an event needs."""
        return cloudevent.limits_for(MAX_MESSAGE, self._options.truncate)

    def publish(self, job: Job, stored: StoredMail | None, contents: Contents | None = None) -> None:
        """Send the event; `stored` is what this output stored of the mail. Raises Temporary and
        Permanent."""
        publication = Publication(self._options, job, stored, contents)
        job.once("sqs", lambda: self._send(job, publication))

    def _send(self, job: Job, publication: Publication) -> str | None:
        arguments = dict(self._extra)
        if self._fifo:
            arguments.setdefault("MessageGroupId", _GROUP.sub("-", job.flow)[:128] or "mail")
            replay = f"-{job.mail.envelope.replay}" if job.mail.envelope.replay else ""
            flow = _GROUP.sub("-", job.flow)[:60]
            arguments.setdefault("MessageDeduplicationId", f"{job.mail.id}{replay}-{flow}")
        for last in (False, True):
            body, ours = publication.message(self._room_beside)
            arguments["MessageAttributes"] = attributes = self._with_ours(ours)
            try:
                answer = self._client.send_message(
                    QueueUrl=self._options.topic, MessageBody=body.decode(), **arguments
                )
            except Exception as error:
                if not last and self._learns(error, len(body), _attributes_size(attributes)):
                    continue
                raise fault_of(error, f"send to {self._options.topic}", repeatable=False) from error
            return str(answer.get("MessageId", ""))
        raise AssertionError("unreachable")

    def _with_ours(self, ours: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """The file's attributes, and as many of the relay's as SQS takes beside them."""
        given: dict[str, dict[str, str]] = self._extra.get("MessageAttributes", {})
        few = [(name, value) for name, value in ours.items() if name not in given]
        few = few[: max(0, MAX_ATTRIBUTES - len(given))]
        return {**given, **{name: {"DataType": "String", "StringValue": value} for name, value in few}}

    def _room_beside(self, ours: Mapping[str, str]) -> int:
        """The most bytes of a body beside the attributes."""
        return self._room - _attributes_size(self._with_ours(ours))

    def _learns(self, error: Exception, size: int, beside: int) -> bool:
        """The limit of a queue that accepts less than SQS's largest message; SQS's refusal names it."""
        found = _SHORTER.search(str(error))
        if found is None or int(found[1]) >= self._room:
            return False
        self._room = int(found[1])
        if self._room - beside < cloudevent.MIN_BYTES:
            reason = f"{self._options.topic} takes messages of {found[1]} bytes at most, this one has {size}"
            raise Permanent(reason, enhanced="5.3.4") from error
        return True


def _attributes_size(attributes: dict[str, dict[str, str]]) -> int:
    """SQS counts names, types and values."""
    return sum(
        len(name.encode()) + sum(len(str(value).encode()) for value in attribute.values())
        for name, attribute in attributes.items()
    )
