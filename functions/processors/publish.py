"""What the publishing outputs of both clouds share: the message about a mail, and its attributes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from functions.message.event import cloudevent, ses_notification
from functions.message.event.attributes import attributes_of
from functions.message.event.objects import StoredMail
from functions.options.storage import PublishOptions
from functions.processors.base import Job
from functions.processors.store import Contents

CONTENT_TYPES: Final = {"cloudevent": cloudevent.CONTENT_TYPE, "ses": "application/json"}
"""The media type of a message by its format."""


class Publication:
    """The message about one mail, in the format that the options name. `stored` is what the same output
    stored of it."""

    def __init__(
        self, options: PublishOptions, job: Job, stored: StoredMail | None, contents: Contents | None = None
    ) -> None:
        self._options = options
        self._job = job
        self._stored = stored
        self._contents = contents or Contents(job)

    @property
    def content_type(self) -> str:
        return CONTENT_TYPES[self._options.format]

    def message(self, room: Callable[[Mapping[str, str]], int]) -> tuple[bytes, dict[str, str]]:
        """The message's JSON, and the attributes by which subscribers filter, the most important first.
        `room` gives the most bytes of the JSON beside these attributes (cloudevent.MIN_BYTES at
        least)."""
        envelope, parts, flow = self._job.mail.envelope, self._contents.parts, self._job.flow
        attributes = attributes_of(envelope, parts, flow)
        most = room(attributes)
        if self._options.format == "ses":
            first = self._stored.first if self._stored is not None else None
            url = None if first is None else first.url
            body = ses_notification.build(envelope, parts, flow=flow, storage_url=url, max_bytes=most)
            return body, attributes
        body = cloudevent.build(
            envelope,
            parts,
            flow=flow,
            stored=self._stored,
            headers=self._options.headers,
            text_limit=self._options.truncate,
            max_bytes=most,
            limits=self._contents.limits,
        )
        return body, attributes
