"""The cost of the function's cold start, beside importing everything eagerly.

    python -m bench.coldstart [CONFIG] [--rounds 7]

Both run in processes of their own, out of the same bundle, with byte-code and nothing else on the
path:

- *function*: import the handler and handle one event whose mail is gone (one GET, answered 404 on
  loopback), its parts made as at a start of Lambda's;
- *eager*: import boto3, make clients for S3, SQS and SES v2, and import Powertools' Logger, Batch
  and Idempotency with the DynamoDB layer.

Seconds are of CPU time, because other work on the machine disturbs it least. The eager half needs
packages and service models that the bundle omits; it gets them from this environment, compiled as
well.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from infra.bundle.build import bundle
from infra.bundle.runtime import THIS_PYTHON, Platform
from tests.support.servers.endpoint import Says, endpoint

ROOT: Final = Path(__file__).resolve().parents[1]

_CLOCK: Final = "import time; begun = time.process_time(); "

_FUNCTION: Final = (
    _CLOCK
    + """
import sys; sys.path.insert(0, TREE)
from functions.aws import handler
class Context:
    aws_request_id = "r"
    def get_remaining_time_in_millis(self): return 60_000
answer = handler.handler(EVENT, Context())
print(time.process_time() - begun)
assert answer == {"batchItemFailures": []}, answer
"""
)

_EAGER: Final = (
    _CLOCK
    + """
import sys; sys.path.insert(0, TREE)
import boto3
clients = [boto3.client(name) for name in ("s3", "sqs", "sesv2")]
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, idempotent_function
Logger(); BatchProcessor(event_type=EventType.SQS)
print(time.process_time() - begun)
"""
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.coldstart")
    parser.add_argument("config", nargs="?", type=Path, default=ROOT / "configs" / "mail2s3.jsonc")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    archive = bundle(options.config, Platform(THIS_PYTHON, arch=_arch()))
    print(f"{options.config.name}: zip of {archive.stat().st_size / 1e6:.1f} MB")
    with tempfile.TemporaryDirectory() as folder, endpoint() as api:
        api.answer = Says(404, b"<Error><Code>NoSuchKey</Code></Error>")
        tree = Path(folder)
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(tree)
        url = api.url.partition("/ask")[0]
        times: dict[str, list[float]] = {"function": [], "eager": []}
        for number in range(options.rounds + 1):
            for name, code, place in (
                ("function", _FUNCTION, tree),
                ("eager", _EAGER, Path(sys.prefix, "lib", f"python{THIS_PYTHON}", "site-packages")),
            ):
                seconds = run(code, place, url, tree)
                if number:  # the first round fills the page cache
                    times[name].append(seconds)
    for name, found in times.items():
        print(f"{name:9} {1000 * statistics.median(found):6.0f} ms   (least {1000 * min(found):.0f})")
    ratio = statistics.median(times["function"]) / statistics.median(times["eager"])
    print(f"ratio {ratio:.2f}")


def run(code: str, place: Path, url: str, tree: Path) -> float:
    """Seconds that a fresh interpreter takes."""
    bucket = "spool"
    key = "relay/spool/b/2026/01/01/00/01a2037e-0ecf-7600-b2c1-0c663d57cd8b.eml"
    thing = {"bucket": {"name": bucket}, "object": {"key": key, "size": 1}}
    record = {
        "messageId": "1",
        "receiptHandle": "h",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:1:q",
        "attributes": {"ApproximateReceiveCount": "1"},
        "body": json.dumps(
            {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": thing}]}
        ),
    }
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"TREE = {str(place)!r}; EVENT = { ({'Records': [record]})!r}; " + code,
        ],
        env={
            "PATH": os.environ.get("PATH", ""),
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "eu-west-1",
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": url,
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1",
            "LAMBDA_TASK_ROOT": str(tree),
            "SMTP_RELAY_SPOOL": f"s3://{bucket}/relay",
            "SMTP_RELAY_RECEIPTS_TABLE": "receipts",
            "SMTP_RELAY_QUEUE_URL": f"{url}/1/q",
            "PYDANTIC_DISABLE_PLUGINS": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    return float(next(line for line in done.stdout.splitlines() if line.replace(".", "").isdecimal()))


def _arch() -> str:
    return "arm64" if os.uname().machine in ("aarch64", "arm64") else "x86_64"


if __name__ == "__main__":
    main()
