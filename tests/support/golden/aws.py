"""The golden recording of S3 and DynamoDB, by and for the function's code against a local AWS."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from functions.aws.function import LambdaFunction
from functions.aws.receipts import TABLE
from functions.aws.spool import notification_body
from functions.backends import open_dead_letters
from functions.bucket.deadletters import BucketDeadLetters
from functions.config import DeliveryConfig
from tests.support.clouds.ministack import ACCOUNT, REGION, Ministack
from tests.support.golden.bucket import EVENTS, NEXT, SPOOL, TARGET, Site, record
from tests.support.golden.recording import answer
from tests.support.servers.smarthost import Smarthost, smarthost

RECEIPTS: Final = "golden-receipts"
RAW: Final[dict[str, Any]] = {
    "spool": f"s3://{SPOOL}/relay",
    "keepCache": True,
    "flows": {
        "in": {
            "outputs": [
                {
                    "type": "aws",
                    "storage": {"bucket": TARGET, "path": "mail/"},
                    "pubsub": {"topic": f"https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{EVENTS}"},
                },
                {"type": "aws", "ses": {"maxSendRate": 1000}},
                *NEXT,
            ]
        }
    },
}
LEFT: Final = 600_000
"""Milliseconds that a run has: a claim is respected for as long."""


class Context:
    """Lambda's."""

    aws_request_id = "golden"

    def get_remaining_time_in_millis(self) -> int:
        return LEFT


class AwsSite(Site):
    """Buckets, queue and table of their own in a local AWS, which the process's environment names."""

    own = ("event", "ses")

    def __init__(self, aws: Ministack, raw: Mapping[str, Any], hosts: Mapping[str, Smarthost]) -> None:
        super().__init__(raw, hosts)
        self._aws = aws
        self._s3, self._sqs, self._dynamo = (aws.client(name) for name in ("s3", "sqs", "dynamodb"))
        for bucket in (SPOOL, TARGET):
            self._s3.create_bucket(Bucket=bucket)
        self._queue = self._sqs.create_queue(QueueName=EVENTS)["QueueUrl"]
        aws.client("sesv2").create_email_identity(EmailIdentity="example.com")
        self._dynamo.create_table(
            TableName=RECEIPTS,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        self._sent_before = self._sent()
        self._events: Counter[tuple[str, ...]] = Counter()

    def make_function(self, config: DeliveryConfig, age: float) -> LambdaFunction:
        return LambdaFunction(config, {TABLE: RECEIPTS}, clock=lambda: time.time() - age)

    def deliver(self, key: str) -> None:
        record = {
            "messageId": key,
            "receiptHandle": "handle",
            "body": notification_body(SPOOL, key),
            "attributes": {"ApproximateReceiveCount": "1"},
            "messageAttributes": {},
            "md5OfBody": "",
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:{REGION}:{ACCOUNT}:{EVENTS}",
            "awsRegion": REGION,
        }
        self.function.handle({"Records": [record]}, Context())

    def letters(self) -> BucketDeadLetters:
        config = DeliveryConfig.model_validate(dict(self.raw), by_alias=True, by_name=False)
        return open_dead_letters(config, Path(), {})

    def objects(self, bucket: str) -> list[dict[str, Any]]:
        found = []
        for entry in self._s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
            one = self._s3.get_object(Bucket=bucket, Key=entry["Key"])
            about = {"key": entry["Key"], "type": one["ContentType"], "metadata": one["Metadata"]}
            found.append(about | {"text": one["Body"].read().decode()})
        return found

    def put(self, bucket: str, found: Mapping[str, Any]) -> None:
        self._s3.put_object(
            Bucket=bucket,
            Key=found["key"],
            Body=found["text"].encode(),
            ContentType=found["type"],
            Metadata=found["metadata"],
        )

    def table(self) -> list[dict[str, Any]]:
        items = self._dynamo.scan(TableName=RECEIPTS)["Items"]
        return sorted(items, key=lambda item: str(item["id"]["S"]))

    def fill_table(self, items: Sequence[Mapping[str, Any]], age: float) -> None:
        # Powertools asks the system for the time: the items are made younger in its stead.
        for item in items:
            moved = dict(item)
            for name, unit in (("expiration", 1), ("in_progress_expiration", 1000)):
                if name in item:
                    moved[name] = {"N": str(int(item[name]["N"]) + int(age * unit))}
            self._dynamo.put_item(TableName=RECEIPTS, Item=moved)

    def events(self) -> Counter[tuple[str, ...]]:
        ask = {"QueueUrl": self._queue, "MaxNumberOfMessages": 10}
        while messages := self._sqs.receive_message(**ask).get("Messages"):
            for message in messages:
                self._events["event", json.loads(message["Body"])["data"]["email"]["subject"]] += 1
                self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        return self._events + (self._sent() - self._sent_before)

    def close(self) -> None:
        super().close()
        for bucket in (SPOOL, TARGET):
            for one in self.objects(bucket):
                self._s3.delete_object(Bucket=bucket, Key=one["key"])
            self._s3.delete_bucket(Bucket=bucket)
        self._sqs.delete_queue(QueueUrl=self._queue)
        self._dynamo.delete_table(TableName=RECEIPTS)

    def _sent(self) -> Counter[tuple[str, ...]]:
        """SES's mails: everything since the local AWS started."""
        with urllib.request.urlopen(f"{self._aws.url}/_ministack/ses/messages", timeout=30) as answer:
            found = [one for account in json.load(answer)["messages"].values() for one in account]
        return Counter(("ses", one["Subject"]) for one in found)


def recorded_aws(recording: Path, folder: Path, environ: Any) -> None:
    """Record `aws.json`; `environ` is this process's environment."""
    aws = Ministack(folder).start()
    environ.update(aws.environment)
    try:
        with smarthost(answer("first")) as first, smarthost(answer("second")) as second:
            record(recording / "aws.json", AwsSite(aws, RAW, {"first": first, "second": second}))
    finally:
        aws.stop()
