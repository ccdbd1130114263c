"""Publishing to Pub/Sub: the `pubsub` of a `gcp` output."""

from __future__ import annotations

from typing import Any, Final

from functions.gcp.clients import ONCE
from functions.gcp.faults import fault_of
from functions.gcp.output.options import TopicOptions
from functions.message import cloudevent
from functions.message.mime import read_parts
from functions.message.reading.places import place
from functions.processors.base import Job

MAX_REQUEST: Final = 10_000_000
"""Most bytes of a publish request (Pub/Sub quotas, resource limits: 10 MB)."""

MAX_DATA: Final = MAX_REQUEST - 16_384
"""Most bytes of a message's data, which leaves room for the topic, the attributes and their framing."""

ID: Final = "smtp-relay-id"
"""Attribute: the mail's id, by which a consumer recognizes a repeated message."""

FLOW: Final = "smtp-relay-flow"
"""Attribute: the flow, for a subscription's filter."""


class Topic:
    """One topic: publishes one message for each mail, once. `path` is its full name."""

    def __init__(self, client: Any, path: str, options: TopicOptions) -> None:
        self._client = client
        self._path = path
        self._options = options

    def publish(self, job: Job, stored: str | None) -> None:
        """Publish the event; `stored` is the URL of the object that this output stored. Raises
        Temporary and Permanent."""
        job.once("pubsub", lambda: self._send(job, stored))

    def _send(self, job: Job, stored: str | None) -> str | None:
        # Until it is sent, because the client copies the event, which may have 10 MB.
        with place(job.mail.content.size):
            return self._publish(job, self._event(job, stored))

    def _event(self, job: Job, stored: str | None) -> bytes:
        limits = cloudevent.limits_for(MAX_DATA, self._options.truncate)
        return cloudevent.build(
            job.mail.envelope,
            read_parts(job.mail, job.flow, limits),
            flow=job.flow,
            storage_url=stored,
            text_limit=self._options.truncate,
            max_bytes=MAX_DATA,
        )

    def _publish(self, job: Job, event: bytes) -> str | None:
        message = {
            "data": event,
            "attributes": {
                # CloudEvents' Pub/Sub binding, structured mode.
                "content-type": cloudevent.CONTENT_TYPE,
                ID: job.mail.id,
                FLOW: job.flow[:256],
            },
        }
        try:
            answer = self._client.publish(topic=self._path, messages=[message], retry=None, timeout=ONCE)
        except Exception as error:
            raise fault_of(error, f"publish to {self._path}", repeatable=False) from error
        return str(answer.message_ids[0])
