"""Publishing to SQS: the `pubsub` of an `aws` output."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

from functions.aws.faults import fault_of
from functions.aws.output import ses_event
from functions.aws.output.options import QueueOptions
from functions.aws.output.request_options import SendMessageOptions, given
from functions.errors import Permanent
from functions.message import cloudevent
from functions.message.mime import read_parts
from functions.message.reading.places import place
from functions.processors.base import Job

MAX_MESSAGE: Final = 1_048_576
"""Most bytes of a message with its attributes (SQS quotas); a queue may be set to less."""

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
        self._room = MAX_MESSAGE - _attributes_size(self._extra.get("MessageAttributes", {}))

    def publish(self, job: Job, stored: str | None) -> None:
        """Send the event; `stored` is the URL of the object that this output stored. Raises Temporary
        and Permanent."""
        job.once("sqs", lambda: self._send(job, stored))

    def _send(self, job: Job, stored: str | None) -> str | None:
        arguments = dict(self._extra)
        if self._fifo:
            arguments.setdefault("MessageGroupId", _GROUP.sub("-", job.flow)[:128] or "mail")
            replay = f"-{job.mail.envelope.replay}" if job.mail.envelope.replay else ""
            flow = _GROUP.sub("-", job.flow)[:60]
            arguments.setdefault("MessageDeduplicationId", f"{job.mail.id}{replay}-{flow}")
        for last in (False, True):
            body = self._body(job, stored)
            try:
                answer = self._client.send_message(
                    QueueUrl=self._options.topic, MessageBody=body.decode(), **arguments
                )
            except Exception as error:
                if not last and self._learns(error, len(body)):
                    continue
                raise fault_of(error, f"send to {self._options.topic}", repeatable=False) from error
            return str(answer.get("MessageId", ""))
        raise AssertionError("unreachable")

    def _body(self, job: Job, stored: str | None) -> bytes:
        """The message's body; only here is the mail in memory."""
        mail, room = job.mail, self._room
        with place(mail.content.size):
            parts = read_parts(mail, job.flow, cloudevent.limits_for(room, self._options.truncate))
            if self._options.format == "ses":
                return ses_event.build(
                    mail.envelope, parts, flow=job.flow, storage_url=stored, max_bytes=room
                )
            return cloudevent.build(
                mail.envelope,
                parts,
                flow=job.flow,
                storage_url=stored,
                text_limit=self._options.truncate,
                max_bytes=room,
            )

    def _learns(self, error: Exception, size: int) -> bool:
        """The limit of a queue that accepts less than SQS's largest message; SQS's refusal names it."""
        found = _SHORTER.search(str(error))
        if found is None or int(found[1]) >= self._room:
            return False
        self._room -= max(MAX_MESSAGE - int(found[1]), 0)
        if self._room < cloudevent.MIN_BYTES:
            reason = f"{self._options.topic} takes messages of {found[1]} bytes at most, this one has {size}"
            raise Permanent(reason, enhanced="5.3.4") from error
        return True


def _attributes_size(attributes: dict[str, dict[str, str]]) -> int:
    """SQS counts names, types and values."""
    return sum(
        len(name.encode()) + sum(len(str(value).encode()) for value in attribute.values())
        for name, attribute in attributes.items()
    )
