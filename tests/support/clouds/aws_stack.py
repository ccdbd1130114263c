"""The delivery half on AWS as a test deploys it: bucket, queues, function, table, by API calls."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError

from functions.aws.spool import notification_body
from infra.bundle.build import bundle
from infra.bundle.runtime import THIS_PYTHON, Platform
from tests.support.clouds.ministack import ACCOUNT, REGION, Ministack
from tests.support.earlier import THIS, Version
from tests.support.mails.spooled import MAIL, envelope_of, spool_object
from tests.support.net import PATIENCE, wait_until
from tests.support.servers.relay import ROOT

_ROLE: Final = f"arn:aws:iam::{ACCOUNT}:role/test"
_PREFIX: Final = "relay"


MACHINE: Final = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"

_QUEUE: Final = "https://sqs.us-east-1.amazonaws.com/000000000000/q"
_OUTPUT: Final = {
    "type": "aws",
    "storage": {"bucket": "any"},
    "pubsub": {"topic": _QUEUE},
    "ses": True,
    "assumeRole": f"arn:aws:iam::{ACCOUNT}:role/any",
}
_TOPICS: Final = [
    {"type": "aws", "pubsub": {"topic": f"arn:aws:{topic}"}}
    for topic in (f"sns:us-east-1:{ACCOUNT}:any", f"events:us-east-1:{ACCOUNT}:event-bus/any")
]
_MAILERS: Final = [
    {"type": "mailer", "nodemailer": {"host": scheme, "auth": {"user": "any", "pass": f"{scheme}:any"}}}
    for scheme in ("ssm", "secretsmanager")
]
ANY: Final = {
    "spool": "s3://any/any",
    "flows": {"any": {"outputs": [_OUTPUT, *_TOPICS, {"type": "log"}, *_MAILERS]}},
}
"""A configuration that needs everything that these tests' configurations need."""

_ANY_BEFORE: Final = ANY | {"flows": {"any": {"outputs": [_OUTPUT, {"type": "log"}, *_MAILERS]}}}
"""The same for the version before, which published to queues only."""


def bundled(folder: Path) -> Path:
    """The function's zip for ANY; the configuration of a test comes by the environment."""
    config = folder / "any.json"
    config.write_text(json.dumps(ANY))
    return bundle(config, Platform(THIS_PYTHON, arch=MACHINE))


@cache
def archive() -> bytes:
    """The bytes of that zip, made once."""
    with tempfile.TemporaryDirectory() as folder:
        return bundled(Path(folder)).read_bytes()


@cache
def archive_of(version: Version) -> bytes:
    """The zip of a version's code."""
    if version == THIS:
        return archive()
    with tempfile.TemporaryDirectory() as folder:
        config, made = Path(folder) / "any.json", Path(folder) / "function.zip"
        config.write_text(json.dumps(_ANY_BEFORE))
        version.run(
            *("infra.bundle.build", config, "--python", THIS_PYTHON, "--arch", MACHINE, "--out", made)
        )
        return made.read_bytes()


class Stack:
    """One spool with its function. `config` holds the outputs; `{bucket}` and `{queue:NAME}` in its
    strings stand for this stack's own. `environment` is added to the function's, whose code is that of
    `version`."""

    def __init__(
        self,
        aws: Ministack,
        folder: Path,
        config: Mapping[str, Any],
        *,
        notify: bool = True,
        visibility: int = 720,
        timeout: int = 120,
        deployed: bool = True,
        environment: Mapping[str, str] | None = None,
        version: Version = THIS,
    ) -> None:
        self.aws = aws
        self.version = version
        self._environment = dict(environment or {})
        self.folder = folder
        self.name = f"relay-{os.urandom(4).hex()}"
        self.bucket = f"{self.name}-spool"
        self.target = f"{self.name}-target"
        self.s3, self.sqs = aws.client("s3"), aws.client("sqs")
        self.functions, self.dynamo = aws.client("lambda"), aws.client("dynamodb")
        self.queues: dict[str, str] = {}
        for bucket in (self.bucket, self.target):
            self.s3.create_bucket(Bucket=bucket)
        self.dead = self.make_queue("dead")
        policy = {"deadLetterTargetArn": self.arn_of("dead"), "maxReceiveCount": 10}
        self.queue = self.make_queue(
            "doorbells", VisibilityTimeout=str(visibility), RedrivePolicy=json.dumps(policy)
        )
        self.table = f"{self.name}-receipts"
        self._make_table()
        text = json.dumps(config).replace("{bucket}", self.target)
        self.config = folder / f"{self.name}.json"
        self.raw = json.loads(self._with_queues(text))
        self.raw["spool"] = f"s3://{self.bucket}/{_PREFIX}"
        self.config.write_text(json.dumps(self.raw))
        self._timeout = timeout
        self.function = self.deploy(self.name) if deployed else ""
        if notify:
            self.notify_on_upload()

    @property
    def prefix(self) -> str:
        """The prefix of the spool's keys."""
        return f"{_PREFIX}/"

    def make_queue(self, name: str, **attributes: str) -> str:
        """A queue's URL."""
        self.queues[name] = self.sqs.create_queue(QueueName=f"{self.name}-{name}", Attributes=attributes)[
            "QueueUrl"
        ]
        return self.queues[name]

    def arn_of(self, queue: str) -> str:
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{self.name}-{queue}"

    def deploy(self, function: str) -> str:
        """Deploy the function under a name, reading the queue."""
        self.functions.create_function(
            FunctionName=function,
            Runtime=f"python{THIS_PYTHON}",
            Role=_ROLE,
            Handler="functions.aws.handler.handler",
            Code={"ZipFile": archive_of(self.version)},
            Timeout=self._timeout,
            MemorySize=1024,
            Environment={"Variables": self.environment()},
        )
        self.mapping = self.functions.create_event_source_mapping(
            EventSourceArn=self.arn_of("doorbells"),
            FunctionName=function,
            BatchSize=10,
            FunctionResponseTypes=["ReportBatchItemFailures"],
        )["UUID"]
        return function

    def undeploy(self) -> None:
        """Take the function away."""
        self.functions.delete_event_source_mapping(UUID=self.mapping)
        self.functions.delete_function(FunctionName=self.function)

    def environment(self) -> dict[str, str]:
        """The function's own environment."""
        return {
            "SMTP_RELAY_CONFIG_JSON": self.config.read_text(),
            "SMTP_RELAY_SPOOL": f"s3://{self.bucket}/{_PREFIX}",
            "SMTP_RELAY_QUEUE_URL": self.queue,
            "SMTP_RELAY_RECEIPTS_TABLE": self.table,
            "PYDANTIC_DISABLE_PLUGINS": "1",
            **self.aws.environment,
            **self._environment,
        }

    def notify_on_upload(self, *, on: bool = True) -> None:
        """Turn the notifications of uploads on or off."""
        rules = [{"Name": "prefix", "Value": f"{_PREFIX}/spool/"}]
        one = {
            "QueueArn": self.arn_of("doorbells"),
            "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": rules}},
        }
        self.s3.put_bucket_notification_configuration(
            Bucket=self.bucket, NotificationConfiguration={"QueueConfigurations": [one]} if on else {}
        )

    def invoke(self, event: Any) -> Any:
        """Invoke the function and return its answer."""
        answer = self.functions.invoke(FunctionName=self.function, Payload=json.dumps(event).encode())
        found = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, found
        return found

    def put(self, content: bytes = MAIL, **about: Any) -> str:
        """Spool a mail as the listener would; returns its key."""
        envelope = envelope_of(content, **about)
        key, data = spool_object(envelope, content, self.prefix)
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=data, IfNoneMatch="*")
        return key

    def message(self, key: str, receives: int = 1) -> dict[str, Any]:
        """A record of a batch that notifies of a key, as Lambda hands it over."""
        return {
            "messageId": key,
            "receiptHandle": f"handle-{key}",
            "body": notification_body(self.bucket, key),
            "attributes": {"ApproximateReceiveCount": str(receives)},
            "messageAttributes": {},
            "md5OfBody": "",
            "eventSource": "aws:sqs",
            "eventSourceARN": self.arn_of("doorbells"),
            "awsRegion": REGION,
        }

    def sends(self) -> int:
        """The number of this stack's mails, by their ids, that went through SES."""
        statistics = self.aws.client("ses").get_send_quota()
        return int(statistics["SentLast24Hours"])

    def notify(self, *keys: str, bucket: str | None = None) -> None:
        """Send S3's event for each of these keys, as S3 itself would."""
        for key in keys:
            thing = {"bucket": {"name": bucket or self.bucket}, "object": {"key": key, "size": 1}}
            record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": thing}
            self.sqs.send_message(QueueUrl=self.queue, MessageBody=json.dumps({"Records": [record]}))

    def run_apart(self, event: Any) -> subprocess.Popen[bytes]:
        """Start the function's code on an event in a process of its own."""
        code = (
            "import json, sys; from pathlib import Path; from functions.aws.function import LambdaFunction;"
            "from functions.config import load_delivery; import os;"
            "context = type('Context', (), {'get_remaining_time_in_millis': lambda self: 60_000})();"
            "LambdaFunction(load_delivery(Path(sys.argv[1]), os.environ), os.environ)"
            ".handle(json.loads(sys.argv[2]), context)"
        )
        return subprocess.Popen(
            [sys.executable, "-c", code, str(self.config), json.dumps(event)],
            env={**os.environ, **self.environment(), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
        )

    def expire_claims(self) -> None:
        """Let the claims of dead runs expire."""
        for item in self.dynamo.scan(TableName=self.table)["Items"]:
            if item["status"]["S"] == "INPROGRESS":
                self.dynamo.update_item(
                    TableName=self.table,
                    Key={"id": item["id"]},
                    UpdateExpression="SET in_progress_expiration = :past",
                    ExpressionAttributeValues={":past": {"N": "1"}},
                )

    def command(self, *arguments: str) -> str:
        """Run `smtp-relay` of this stack's version on its configuration; returns its output."""
        done = subprocess.run(
            [sys.executable, "-m", "listener.cli.main", *arguments, *self._config_argument(arguments[0])],
            env={**os.environ, **self.environment(), "PYTHONPATH": str(self.version.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _config_argument(self, command: str) -> list[str]:
        return ["--config", str(self.config)] if command == "deadletter" else [str(self.config)]

    def keys(self, bucket: str | None = None, prefix: str = "") -> list[str]:
        """The keys of a bucket, the spool's by default."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket or self.bucket, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def spooled(self) -> list[str]:
        """Keys of unfinished mails."""
        return self.keys(prefix=f"{_PREFIX}/spool/")

    def stored(self) -> dict[str, bytes]:
        """The outputs' stored objects, by key."""
        return {key: self.read(key, self.target) for key in self.keys(self.target)}

    def read(self, key: str, bucket: str | None = None) -> bytes:
        found: bytes = self.s3.get_object(Bucket=bucket or self.bucket, Key=key)["Body"].read()
        return found

    def messages(self, queue: str, least: int = 1, seconds: float = PATIENCE) -> list[Any]:
        """The bodies in a queue, taken out, once there are so many."""
        return [json.loads(message["Body"]) for message in self.taken(queue, least, seconds)]

    def taken(self, queue: str, least: int = 1, seconds: float = PATIENCE) -> list[dict[str, Any]]:
        """The messages in a queue with their attributes, taken out, once there are so many."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            answer = self.sqs.receive_message(
                QueueUrl=self.queues[queue],
                MaxNumberOfMessages=10,
                WaitTimeSeconds=0,
                MessageAttributeNames=["All"],
            )
            for message in answer.get("Messages", ()):
                found.append(message)
                self.sqs.delete_message(QueueUrl=self.queues[queue], ReceiptHandle=message["ReceiptHandle"])
            if len(found) >= least and not answer.get("Messages"):
                return found
            time.sleep(0.05)
        return found

    def waits(self, queue: str = "doorbells") -> tuple[int, int]:
        """How many messages of a queue are visible, and how many are not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.queues[queue], AttributeNames=names)
        visible, hidden = (int(found["Attributes"][name]) for name in names)
        return visible, hidden

    def settled(self, seconds: float = PATIENCE) -> None:
        """Wait until all mails are finished and no message is left except those that are hidden for a
        while."""
        self.until(lambda: not self.spooled() and not self.waits()[0], "the spool to be empty", seconds)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait for a condition. Raises TimeoutError with the log's end."""
        try:
            wait_until(condition, seconds=seconds, what=what, every=0.05)
        except TimeoutError as error:
            raise TimeoutError(f"{error}:\n{self.aws.log()[-6000:]}") from None

    def missing(self, queue: str) -> None:
        """Delete a queue of the outputs."""
        self.sqs.delete_queue(QueueUrl=self.queues[queue])

    def dead_records(self) -> list[dict[str, Any]]:
        """The dead records."""
        return [json.loads(self.read(key)) for key in self.dead_keys()]

    def dead_keys(self) -> list[str]:
        """The keys of the dead records."""
        return [key for key in self.keys(prefix=f"{_PREFIX}/dead/") if key.endswith(".json")]

    def close(self) -> None:
        """Stop the function's reading."""
        if self.function:
            with contextlib.suppress(ClientError):
                self.undeploy()

    def _with_queues(self, text: str) -> str:
        while "{queue:" in text:
            before, _, rest = text.partition("{queue:")
            name, _, after = rest.partition("}")
            url = self.queues.get(name) or self.make_queue(name)
            text = before + url + after
        return text

    def _make_table(self) -> None:
        self.dynamo.create_table(
            TableName=self.table,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )


__all__: Sequence[str] = ("Stack",)
