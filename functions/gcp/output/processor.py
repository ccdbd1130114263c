"""Makes the processor of a `gcp` output, with only the clients that it needs."""

from __future__ import annotations

import os
from typing import Any

from functions.gcp import clients
from functions.gcp.output.options import GcpOutputOptions
from functions.processors.base import Job, Processor
from functions.processors.context import BuildContext
from functions.processors.store import Storage


class GcpProcessor(Processor):
    """Store to Cloud Storage, publishes to Pub/Sub: the steps that the options ask for, in this order.
    A failed step leaves the later one to the next attempt, which finds the earlier one done."""

    def __init__(self, storage: Storage | None, topic: Any, made: list[Any]) -> None:
        self._storage = storage
        self._topic = topic
        self._made = made

    def process(self, job: Job) -> None:
        stored = self._storage.store(job) if self._storage is not None else None
        if self._topic is not None:
            self._topic.publish(job, stored)

    def close(self) -> None:
        for client in self._made:
            clients.close(client)


def build(options: GcpOutputOptions, name: str, context: BuildContext) -> GcpProcessor:
    """The processor of one `gcp` output. Raises ConfigError."""
    made: list[Any] = []
    storage = topic = None
    if options.storage is not None:
        from functions.gcp.store import GcsStore

        client = clients.storage_client()
        made.append(client)
        storage = Storage(options.storage, options.identity(), GcsStore(client, options.storage.bucket))
    if options.pubsub is not None:
        from functions.gcp.output.pubsub import Topic

        path = clients.topic_path(options.pubsub.topic, options.project, os.environ)
        client = clients.publisher_client(os.environ)
        made.append(client)
        topic = Topic(client, path, options.pubsub)
    return GcpProcessor(storage, topic, made)
