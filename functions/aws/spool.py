"""The S3 side of a spool: its store, and the notifications that start the function for a mail."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from functions.aws.clients import REPEATABLE, plain_client
from functions.aws.faults import fault_of
from functions.aws.store import S3Store
from functions.bucket.access import SpoolAccess
from functions.config import DeliveryConfig
from functions.delivery.build import needs_receipts
from functions.delivery.events import DeliveryEvents
from functions.delivery.receipts import Receipts
from functions.errors import ConfigError, Temporary
from functions.options.environment import variable
from functions.options.secrets import SecretResolver, resolved
from functions.options.spool import SpoolOptions

QUEUE: Final = "SMTP_RELAY_QUEUE_URL"
"""Environment variable with the queue that the function reads."""

EVENT_NAME: Final = "SmtpRelay:Sweep"
"""Replaces the name of S3's event in the relay's own messages."""

_BATCH: Final = 10  # messages of one SendMessageBatch


def open_spool(config: DeliveryConfig, folder: Path, environ: Mapping[str, str]) -> SpoolAccess:
    """The configuration's bucket; `folder` is the working folder. Raises ConfigError."""
    spool = config.spool
    client = open_client(spool, SecretResolver(folder, environ))
    find = partial(find_queue, client, spool.bucket, spool.prefix, environ)
    return SpoolAccess(
        open_store(spool, client),
        spool.prefix,
        SqsNotifier(spool.bucket, find),
        partial(_receipts, config, environ),
    )


def _receipts(
    config: DeliveryConfig, environ: Mapping[str, str], observer: DeliveryEvents, lasting: float
) -> Receipts:
    from functions.aws.receipts import TABLE, DynamoReceipts, NoReceipts

    if not needs_receipts(config):
        return NoReceipts()
    table = variable(environ, TABLE)
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
    receipts.register(_Run(lasting))
    return receipts


class _Run(NamedTuple):
    """Tells Powertools how long a run may take, as Lambda's context does."""

    seconds: float

    def get_remaining_time_in_millis(self) -> int:
        return int(self.seconds * 1000)


def open_client(options: SpoolOptions, resolve: Callable[[str], str]) -> Any:
    """The S3 client that reaches the spool. Raises ConfigError."""

    in_path = options.endpoint is not None if options.force_path_style is None else options.force_path_style
    behaviour = dict(REPEATABLE) | ({"s3": {"addressing_style": "path"}} if in_path else {})
    return plain_client(
        "s3",
        behaviour,
        region_name=options.region,
        endpoint_url=options.endpoint,
        aws_access_key_id=resolved(options.access_key_id, resolve),
        aws_secret_access_key=resolved(options.secret_access_key, resolve),
        aws_session_token=resolved(options.session_token, resolve),
    )


def open_store(options: SpoolOptions, client: Any) -> S3Store:
    """The spool's bucket."""
    encryption: dict[str, Any] = {}
    if options.sse is not None:
        encryption["ServerSideEncryption"] = options.sse
        if options.sse == "aws:kms":
            encryption["BucketKeyEnabled"] = options.bucket_key
        if options.kms_key_id is not None:
            encryption["SSEKMSKeyId"] = options.kms_key_id
    return S3Store(client, options.bucket, encryption)


class SqsNotifier:
    """Notifies the function of mails: a message for each, in the form of S3's own events. It looks for
    the queue at the first call; `find` gives the queue's URL and region."""

    def __init__(self, bucket: str, find: Callable[[], tuple[str, str | None]]) -> None:
        self._bucket = bucket
        self._find = find
        self._queue: tuple[Any, str] | None = None

    def __call__(self, keys: Sequence[str]) -> None:
        """Notify the function of the mails under these keys. Raises DeliveryFault, ConfigError."""
        client, url = self._opened()
        for at in range(0, len(keys), _BATCH):
            entries = [
                {"Id": str(number), "MessageBody": notification_body(self._bucket, key)}
                for number, key in enumerate(keys[at : at + _BATCH])
            ]
            try:
                answer = client.send_message_batch(QueueUrl=url, Entries=entries)
            except Exception as error:
                raise fault_of(error, f"notify at {url}") from error
            if answer.get("Failed"):
                raise Temporary(f"notify at {url}: {answer['Failed'][0].get('Message', 'refused')}")

    def _opened(self) -> tuple[Any, str]:
        if self._queue is None:
            url, region = self._find()
            self._queue = plain_client("sqs", REPEATABLE, region_name=region), url
        return self._queue


def notification_body(bucket: str, key: str) -> str:
    """The body of the message for the mail under a key."""
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventName": EVENT_NAME,
        "s3": {"bucket": {"name": bucket}, "object": {"key": key}},
    }
    return json.dumps({"Records": [record]}, separators=(",", ":"))


def find_queue(client: Any, bucket: str, prefix: str, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """The URL and region of the queue that the spool's events go to: by the environment, else by the
    bucket's notification settings. Raises ConfigError."""
    from functions.aws.output.sqs import place_of

    if url := variable(environ, QUEUE):
        return url, place_of(url)[0]
    try:
        found = client.get_bucket_notification_configuration(Bucket=bucket)
    except Exception as error:
        raise ConfigError(bucket, f"its notifications cannot be read: {error}", f"set {QUEUE}") from error
    for each in found.get("QueueConfigurations", ()):
        rules = each.get("Filter", {}).get("Key", {}).get("FilterRules", ())
        starts = [rule["Value"] for rule in rules if rule["Name"].lower() == "prefix"]
        if all(
            f"{prefix}spool/".startswith(start) or start.startswith(f"{prefix}spool/") for start in starts
        ):
            region, account, name = each["QueueArn"].split(":")[3:6]
            sqs = plain_client("sqs", REPEATABLE, region_name=region)
            url = sqs.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
            return url, region
    raise ConfigError(bucket, "notifies no queue of its spool", f"set {QUEUE}")
