"""One pass over an S3 spool, for `smtp-relay sweep`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from functions.aws.spool import SqsNotifier, find_queue, open_client, open_store
from functions.backends import Swept
from functions.bucket.sweep import Ring, ring_nobody, sweep
from functions.config import DeliveryConfig
from functions.options.secrets import SecretResolver


def sweep_once(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> Swept:
    """Count what the bucket holds, and ring for every mail that is older than the first step: a person
    asks for a pass when the regular ones are not enough. A server that delivers in-process cannot be
    rung: it is only counted. Raises ConfigError, DeliveryFault."""
    spool = config.spool
    client = open_client(spool, SecretResolver(folder, environ))
    now = time.time()
    bell: Ring = ring_nobody
    if config.mode == "events":
        bell = SqsNotifier(spool.bucket, partial(find_queue, client, spool.bucket, spool.prefix, environ))
    return sweep(
        open_store(spool, client),
        spool.prefix,
        bell,
        now=now,
        since=-math.inf if config.mode == "events" else now,
        seconds_left=lambda: math.inf,
    )
