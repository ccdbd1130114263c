"""A Cloud Storage spool whose mails are delivered by the process that took them, not by a function."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from functions.bucket.in_process import RUN
from functions.bucket.runner import Home
from functions.config import DeliveryConfig
from functions.delivery.engine import Delivery
from functions.delivery.events import Observer
from functions.gcp.receipts import GcsReceipts
from functions.gcp.spool import open_store
from functions.options.secrets import SecretResolver


def open_home(
    config: DeliveryConfig, delivery: Delivery, folder: Path, environ: Mapping[str, str], observer: Observer
) -> Home:
    """The bucket, which holds the receipts as well. Raises ConfigError."""
    spool = config.spool
    store = open_store(spool, SecretResolver(folder, environ))
    receipts = GcsReceipts(
        store,
        spool.prefix,
        lasting=RUN,
        give_up_doubts=config.delivery.on_doubt == "dead-letter",
        observer=observer,
    )
    return Home(store, spool.prefix, delivery, receipts, keep=config.keep_cache, observer=observer)
