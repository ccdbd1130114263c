"""Publishing to Pub/Sub: the `pubsub` of a `gcp` output."""

from __future__ import annotations

from typing import Any, Final

from functions.gcp.clients import ONCE
from functions.gcp.faults import fault_of
from functions.gcp.output.options import TopicOptions
from functions.message.event import cloudevent
from functions.message.event.objects import StoredMail
from functions.message.mime import Limits
from functions.processors.base import Job
from functions.processors.publish import Publication
from functions.processors.store import Contents

MAX_REQUEST: Final = 10_000_000
"""Most bytes of a publish request (Pub/Sub quotas, resource limits: 10 MB)."""

MAX_DATA: Final = MAX_REQUEST - 16_384
"""Most bytes of a message's data, which leaves room for the topic, the attributes and their framing."""


class Topic:
    """One topic: publishes one message for each mail, once. `path` is its full name."""

    def __init__(self, client: Any, path: str, options: TopicOptions) -> None:
        self._client = client
        self._path = path
        self._options = options

    @property
    def limits(self) -> Limits:
        """How much of a mail an event needs."""
        return cloudevent.limits_for(MAX_DATA, self._options.truncate)

    def publish(self, job: Job, stored: StoredMail | None, contents: Contents | None = None) -> None:
        """Publish the event; `stored` is what this output stored of the mail. Raises Temporary and
        Permanent."""
        publication = Publication(self._options, job, stored, contents)
        job.once("pubsub", lambda: self._send(publication))

    def _send(self, publication: Publication) -> str | None:
        body, attributes = publication.message(lambda _: MAX_DATA)
        # CloudEvents' Pub/Sub binding, structured mode.
        message = {"data": body, "attributes": {"content-type": publication.content_type, **attributes}}
        try:
            answer = self._client.publish(topic=self._path, messages=[message], retry=None, timeout=ONCE)
        except Exception as error:
            raise fault_of(error, f"publish to {self._path}", repeatable=False) from error
        return str(answer.message_ids[0])
