"""One pass over a spool in Cloud Storage, for `smtp-relay sweep`."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from functions.backends import Swept
from functions.bucket.sweep import Ring, ring_nobody, sweep
from functions.config import DeliveryConfig
from functions.gcp.spool import PubSubNotifier, find_topic, open_store
from functions.options.secrets import SecretResolver


def sweep_once(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> Swept:
    """Count what the bucket holds, and ring for every mail that is older than the first step: a person
    asks for a pass when the regular ones are not enough. A server that delivers in-process cannot be
    rung: it is only counted. Raises ConfigError, DeliveryFault."""
    spool = config.spool
    store = open_store(spool, SecretResolver(folder, environ))
    now = time.time()
    bell: Ring = ring_nobody
    if config.mode == "events":
        bell = PubSubNotifier(spool.bucket, partial(find_topic, spool, store, environ), environ)
    return sweep(
        store,
        spool.prefix,
        bell,
        now=now,
        since=-math.inf if config.mode == "events" else now,
        seconds_left=lambda: math.inf,
    )
