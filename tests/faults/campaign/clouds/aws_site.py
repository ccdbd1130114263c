"""The campaign's site on a local AWS: S3, SQS, a Lambda function really run from its zip, DynamoDB, SES."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Final

from functions.aws.receipts import PREFIX as RECEIPTS
from functions.config import DeliveryConfig
from functions.delivery.engine import output_key
from tests.faults.campaign.clouds import site as cloud
from tests.faults.campaign.clouds.observation import plant
from tests.faults.campaign.clouds.proxy import ANSWERING
from tests.faults.campaign.clouds.site import FILED_FLOW, PUBLISHED_FLOW, SMTP, Around, Site
from tests.faults.campaign.numbered_mails import SENDER
from tests.faults.campaign.targets import Targets
from tests.support import process
from tests.support.clouds.aws_stack import Stack
from tests.support.clouds.ministack import Ministack
from tests.support.net import HOST

TIMEOUT: Final = 60
"""Seconds of a run; no effect starts with less than 35 s left."""

_PARTS: Final = {
    "tell": (FILED_FLOW, "sqs"),
    "send": (FILED_FLOW, "ses-0"),
    "queue": (PUBLISHED_FLOW, "sqs"),
    "topic": (PUBLISHED_FLOW, "sns"),
    "bus": (PUBLISHED_FLOW, "events"),
}
"""Output to its flow, and the part of its receipt's key."""

_QUEUE_COPIES: Final = "a standard queue of SQS takes the same message twice"
_WORKER: Final = b"worker"


class AwsSite(Site):
    """The listener and the function on one ministack."""

    repeating: ClassVar[Mapping[str, str]] = {
        **SMTP,
        "tell": _QUEUE_COPIES,
        "queue": _QUEUE_COPIES,
        "topic": "a standard topic of SNS takes the same message twice",
        "bus": "EventBridge takes the same event twice",
        "send": "SES has no idempotent send",
    }
    published = Targets.names

    def __init__(self, aws: Ministack, folder: Path, seed: str, on_doubt: str, stack: ExitStack) -> None:
        super().__init__(folder, seed, on_doubt, stack)
        self.aws = aws
        self.store = self.proxy(stack, aws.port, f"{seed} store")
        self.home = self.proxy(stack, aws.port, f"{seed} home")
        self.calls = self.proxy(stack, aws.port, f"{seed} calls")
        self.targets = Targets(aws, self.proxy(stack, aws.port, f"{seed} targets"), "campaign")
        self.around.append(Around("topics", self.targets.proxy, ANSWERING, "down"))
        self.copies |= self.targets.copies
        self._sent: Counter[str] = Counter()
        plant(folder / "site", self.function_clock, self.log)
        for name in (SENDER.partition("@")[2], "server.example"):
            aws.client("sesv2").create_email_identity(EmailIdentity=name)
        outputs: list[dict[str, Any]] = [
            {
                "type": "aws", "name": "store",
                "storage": {"bucket": "{bucket}", "path": "${id}.eml", "addRawHeaders": False},
            },
            {"type": "aws", "name": "tell", "pubsub": {"topic": "{queue:out}"}},
            {"type": "aws", "name": "send", "ses": {"maxSendRate": 1_000, "identities": ["client.example"]}},
        ]  # fmt: skip
        loopback = {"type": "whitelist", "ips": [HOST], "to": [r"regexp:.*@topic\.example"]}
        flows = self.flows(outputs)
        flows[PUBLISHED_FLOW] = {"filters": [loopback], "outputs": self.targets.outputs()}
        config = {"flows": flows, "delivery": {"onDoubt": on_doubt}}
        self.stack = Stack(
            aws,
            folder,
            config,
            visibility=TIMEOUT + 5,
            timeout=TIMEOUT,
            environment={
                "AWS_ENDPOINT_URL": self.calls.url,
                "AWS_ENDPOINT_URL_S3": self.home.url,
                "PYTHONPATH": str(folder / "site"),
            },
        )
        environ = aws.environment | {
            "AWS_ENDPOINT_URL": self.store.url,
            "AWS_ENDPOINT_URL_S3": self.store.url,
        }
        self.listen(self.stack.raw, {"url": self.spool_url}, environ)

    @property
    def spool_url(self) -> str:
        url: str = self.stack.raw["spool"]
        return url

    @property
    def plain(self) -> Mapping[str, str]:
        return self.aws.environment | {
            "SMTP_RELAY_SPOOL": self.spool_url,
            "SMTP_RELAY_QUEUE_URL": self.stack.queue,
        }

    def output(self) -> str:
        return self.aws.log()

    def keys(self, below: str) -> list[str]:
        return self.stack.keys(prefix=cloud.PREFIX + below)

    def read_spooled(self, key: str) -> bytes | None:
        try:
            return self.stack.read(key)
        except self.stack.s3.exceptions.NoSuchKey:
            return None

    def write_spooled(self, key: str, data: bytes) -> None:
        self.stack.s3.put_object(Bucket=self.stack.bucket, Key=key, Body=data)

    def stored(self) -> dict[str, bytes]:
        return self.stack.stored()

    def collect(self) -> None:
        while self.stack.waits("out")[0]:
            for event in self.stack.messages("out", least=1, seconds=2):
                self.copies["tell"][event["id"]] += 1
        self.targets.collect()
        self.entries_failed = self.targets.proxy.failed_entries
        with urllib.request.urlopen(f"{self.aws.url}/_ministack/ses/messages", timeout=30) as answer:
            mails = [one for some in json.load(answer)["messages"].values() for one in some]
        self._sent = Counter(one["Subject"] for one in mails)

    def finish(self) -> None:
        super().finish()
        # SES reports subjects, which are numbers; the store knows the ids.
        numbers = {
            stored.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode(): key.removesuffix(".eml")
            for key, stored in self.stored().items()
        }
        numbers |= {f"number {one.number}": mail_id for mail_id, one in self.spoiled.items()}
        self.copies["send"] = Counter(
            {numbers.get(subject, subject): times for subject, times in self._sent.items()}
        )

    def notify(self, keys: Sequence[str]) -> None:
        self.stack.notify(*keys)

    def ring_late(self, keys: Sequence[str], moments: random.Random) -> str:
        for key in keys:
            thing = {"bucket": {"name": self.stack.bucket}, "object": {"key": key, "size": 1}}
            record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": thing}
            self.stack.sqs.send_message(
                QueueUrl=self.stack.queue,
                MessageBody=json.dumps({"Records": [record]}),
                DelaySeconds=moments.randrange(1, 180),
            )
        return f"{len(keys)} events up to 3 minutes late"

    def silence(self, seconds: float) -> None:
        self.stack.notify_on_upload(on=False)
        time.sleep(seconds)
        self.stack.notify_on_upload()

    def _function_processes(self) -> list[int]:
        """Lambda's workers: Python processes that ministack started for a function."""
        return [pid for pid in process.tree(self.aws.pid)[1:] if _WORKER in process.command_line(pid)]

    def kill_function(self, moments: random.Random) -> str:
        return self._end(moments, signal.SIGKILL)

    def stop_function(self, moments: random.Random) -> str:
        return self._end(moments, signal.SIGTERM)

    def _end(self, moments: random.Random, number: signal.Signals) -> str:
        """To one of Lambda's own processes, and to one of this test's that runs the same handler."""
        self.at_once(self.see()[:5], 1, moments, wait=False)
        time.sleep(moments.uniform(0.6, 2.5))
        victims = self._function_processes()
        run = self._apart[-1]
        for victim in (*victims[:1], run.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, number)
        run.wait()
        return f"{number.name} to {len(victims[:1])} of Lambda's processes and to a run apart"

    def at_once(self, keys: Sequence[str], runs: int, moments: random.Random, *, wait: bool = True) -> None:
        event = json.dumps({"Records": [self.stack.message(key) for key in keys]})
        started = [
            self.apart("tests.faults.campaign.clouds.aws_run", event, environ=self.stack.environment())
            for _ in range(runs)
        ]
        for run in started if wait else ():
            run.wait(100)

    def receipts(self, ids: Sequence[str]) -> set[tuple[str, str]]:
        from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig
        from aws_lambda_powertools.utilities.idempotency.exceptions import IdempotencyItemNotFoundError

        layer = DynamoDBPersistenceLayer(table_name=self.stack.table, boto3_client=self.stack.dynamo)
        layer.configure(IdempotencyConfig(), key_prefix=RECEIPTS)
        config = DeliveryConfig.model_validate(json.loads(self.stack.config.read_text()))
        identities = {
            label: options.identity() for flow in config.flows.values() for label, options in flow.labelled()
        }
        found = set()
        for mail_id in ids:
            for output, (flow, part) in _PARTS.items():
                mail: Any = SimpleNamespace(id=mail_id, replay=0)
                key: Any = output_key(mail, flow, identities[output], part)
                with contextlib.suppress(IdempotencyItemNotFoundError):
                    record = layer.get_record(data=key)
                    if record is not None and record.status == "COMPLETED":
                        found.add((mail_id, output))
        return found


@contextmanager
def site(folder: Path, seed: str, on_doubt: str) -> Iterator[Site]:
    """A site; afterwards nothing of it is left running."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        aws = Ministack(folder / "aws")
        stack.callback(aws.stop)
        aws.start()
        yield AwsSite(aws, folder, seed, on_doubt, stack)
