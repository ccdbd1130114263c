"""Dead letters of a spool in Cloud Storage, for `smtp-relay deadletter`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from functions.bucket.deadletters import BucketDeadLetters
from functions.bucket.sweep import Ring, ring_nobody
from functions.config import DeliveryConfig
from functions.gcp.spool import PubSubNotifier, find_topic, open_store
from functions.options.secrets import SecretResolver


def open_dead_letters(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> BucketDeadLetters:
    """The dead letters of the configuration's bucket. Raises ConfigError."""
    spool = config.spool
    store = open_store(spool, SecretResolver(folder, environ))
    bell: Ring = ring_nobody
    if config.mode == "events":
        bell = PubSubNotifier(spool.bucket, partial(find_topic, spool, store, environ), environ)
    return BucketDeadLetters(store, spool.prefix, bell)
