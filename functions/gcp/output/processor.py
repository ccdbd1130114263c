"""Makes the processor of a `gcp` output, with only the clients that it needs."""

from __future__ import annotations

import os
from contextlib import ExitStack

from functions.gcp import clients
from functions.gcp.output.options import GcpOutputOptions
from functions.processors.context import BuildContext
from functions.processors.store import CloudProcessor, Storage


def build(options: GcpOutputOptions, name: str, context: BuildContext) -> CloudProcessor:
    """The processor of one `gcp` output: stores to Cloud Storage, publishes to Pub/Sub. Raises
    ConfigError."""
    release = ExitStack()
    storage = topic = None
    if options.storage is not None:
        from functions.gcp.store import GcsStore

        client = clients.storage_client()
        release.callback(clients.close, client)
        storage = Storage(options.storage, options.identity(), GcsStore(client, options.storage.bucket))
    if options.pubsub is not None:
        from functions.gcp.output.pubsub import Topic

        path = clients.topic_path(options.pubsub.topic, options.project, os.environ)
        client = clients.publisher_client(os.environ)
        release.callback(clients.close, client)
        topic = Topic(client, path, options.pubsub)
    return CloudProcessor(storage, topic, None, release.close)
