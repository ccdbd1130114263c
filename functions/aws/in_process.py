"""An S3 spool whose mails are delivered by the process that took them, not by a function."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from functions.aws.clients import REPEATABLE, plain_client
from functions.aws.receipts import TABLE, DynamoReceipts, NoReceipts
from functions.aws.spool import open_client, open_store
from functions.bucket.in_process import RUN
from functions.bucket.runner import Home
from functions.config import DeliveryConfig
from functions.delivery.build import needs_receipts
from functions.delivery.engine import Delivery
from functions.delivery.events import Observer
from functions.errors import ConfigError
from functions.options.secrets import SecretResolver


class _Run:
    """What a run may take, for who asks as in Lambda."""

    def get_remaining_time_in_millis(self) -> int:
        return int(RUN * 1000)


def open_home(
    config: DeliveryConfig, delivery: Delivery, folder: Path, environ: Mapping[str, str], observer: Observer
) -> Home:
    """The bucket with its receipts. Raises ConfigError where outputs need a table that is not named."""
    spool = config.spool
    client = open_client(spool, SecretResolver(folder, environ))
    receipts: DynamoReceipts | NoReceipts = NoReceipts()
    if needs_receipts(config):
        table = environ.get(TABLE)
        if not table:
            raise ConfigError(
                "delivery.mode",
                "in-process delivery out of S3 keeps the receipts of these outputs in a DynamoDB table",
                f"name it in {TABLE}",
            )
        receipts = DynamoReceipts(
            table,
            plain_client("dynamodb", REPEATABLE),
            give_up_doubts=config.delivery.on_doubt == "dead-letter",
            observer=observer,
        )
        receipts.register(_Run())
    return Home(
        open_store(spool, client),
        spool.prefix,
        delivery,
        receipts,
        keep=config.keep_cache,
        observer=observer,
    )
