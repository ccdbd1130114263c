"""Options of the `gcp` output: store to Cloud Storage, publish to Pub/Sub (docs/outputs/gcp.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator

from functions.message.text import listed
from functions.options.storage import PublishOptions, StorageOptions
from functions.options.types import CAMEL, PlainText
from functions.processors.base import OutputOptions


def _topic_name(text: str) -> str:
    if "/" in text and not re.fullmatch(r"projects/[^/]+/topics/[^/]+", text):
        raise ValueError(f"{text!r} is not a topic (write NAME, or projects/PROJECT/topics/NAME)")
    return text


class TopicOptions(PublishOptions):
    """Publish an event to a Pub/Sub topic."""

    topic: Annotated[PlainText, AfterValidator(_topic_name)]
    """Its short name, or `projects/PROJECT/topics/NAME`."""


def _topic(value: Any) -> Any:
    if isinstance(value, str):
        return {"topic": value} if value else None
    return value


class GcpOutputOptions(OutputOptions):
    """Store the mail in a bucket of Cloud Storage, publish an event to Pub/Sub, or both in this order."""

    model_config = CAMEL

    type: Literal["gcp"]
    """The output's type."""

    storage: StorageOptions | None = None
    """Store the mail."""

    path: str | None = None
    """Short for `storage`: `gs://BUCKET/PREFIX/`."""

    pubsub: Annotated[
        TopicOptions | None, BeforeValidator(_topic, json_schema_input_type=TopicOptions | str | None)
    ] = None
    """Publish an event; text is the topic, empty text none."""

    project: PlainText | None = None
    """The topic's project. Default: that of the credentials."""

    runs_in = frozenset({"gcp"})

    @property
    def needs_receipts(self) -> bool:
        return self.publishes

    @property
    def stores(self) -> bool:
        return self.storage is not None

    @property
    def publishes(self) -> bool:
        return self.pubsub is not None

    @model_validator(mode="before")
    @classmethod
    def _long_form(cls, value: Any) -> Any:
        path = value.get("path") if isinstance(value, Mapping) else None
        if not isinstance(path, str):
            return value
        if value.get("storage") is not None:
            raise ValueError("path is short for storage: give one of them")
        bucket, _, key = path.removeprefix("gs://").partition("/")
        if not path.startswith("gs://") or not bucket:
            raise ValueError(f"path: {path!r} is not gs://BUCKET/PREFIX")
        rest = {name: item for name, item in value.items() if name != "path"}
        return {**rest, "storage": {"bucket": bucket, "path": key}}

    @model_validator(mode="after")
    def _does_something(self) -> GcpOutputOptions:
        if self.storage is None and self.pubsub is None:
            raise ValueError("does nothing: give storage, pubsub or both")
        return self

    @property
    def effect(self) -> str:
        stored = [f"stores it as gs://{self.storage.bucket}/{self.storage.key}"] if self.storage else []
        sent = [f"publishes an event to the topic {self.pubsub.topic}"] if self.pubsub else []
        return listed([*stored, *sent], joint="and")

    def identity(self) -> str:
        """The name, else the destinations: bucket and key, project and topic."""
        if self.name is not None:
            return self.name
        parts = ["gcp"]
        if self.storage is not None:
            parts.append(f"gs://{self.storage.bucket}/{self.storage.key}#{self.storage.type}")
        if self.pubsub is not None:
            # The first format has no mark, because receipts of earlier versions have none.
            mark = "" if self.pubsub.format == "cloudevent" else f"#{self.pubsub.format}"
            parts.append(f"pubsub:{self.project or ''}/{self.pubsub.topic}{mark}")
        return " ".join(parts)
