"""Dead letters of an S3 spool, for `smtp-relay deadletter`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from functions.aws.spool import SqsNotifier, find_queue, open_client, open_store
from functions.bucket.deadletters import BucketDeadLetters
from functions.bucket.sweep import Ring, ring_nobody
from functions.config import DeliveryConfig
from functions.options.secrets import SecretResolver


def open_dead_letters(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> BucketDeadLetters:
    """The dead letters of the configuration's bucket. Raises ConfigError."""
    spool = config.spool
    client = open_client(spool, SecretResolver(folder, environ))
    bell: Ring = ring_nobody
    if config.mode == "events":
        bell = SqsNotifier(spool.bucket, partial(find_queue, client, spool.bucket, spool.prefix, environ))
    return BucketDeadLetters(open_store(spool, client), spool.prefix, bell)
