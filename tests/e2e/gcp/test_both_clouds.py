"""One configuration, both clouds: in local mode it works, a function of either cloud refuses it."""

from __future__ import annotations

import json
import os
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.clouds.gcp_stack import Stack
from tests.support.clouds.ministack import Ministack
from tests.support.net import HOST
from tests.support.servers.relay import ROOT, Relay


@pytest.fixture
def aws(tmp_path: Path) -> Iterator[Ministack]:
    server = Ministack(tmp_path / "aws")
    try:
        yield server.start()
    finally:
        server.stop()


def test_both_at_once(
    stack_for: Callable[..., Stack], aws: Ministack, new_relay: Callable[..., Relay]
) -> None:
    aws.client("s3").create_bucket(Bucket="both-clouds")
    queue = aws.client("sqs").create_queue(QueueName="both-clouds")["QueueUrl"]
    gcp = {"type": "gcp", "storage": {"bucket": "{bucket}"}, "pubsub": {"topic": "{topic:out}"}}
    stack = stack_for({"in": [gcp]}, notify=False)
    outputs = [
        *stack.raw["flows"]["in"]["outputs"],
        {"type": "aws", "storage": {"bucket": "both-clouds"}, "pubsub": {"topic": queue}},
    ]
    flows = {"in": {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": outputs}}
    environment = {name: value for name, value in stack.environment.items() if "SPOOL" not in name}
    relay = new_relay(
        {"flows": flows, "delivery": {"waitFor": "all", "wait": 30_000}},
        env={**environment, **aws.environment},
    ).start()
    with smtplib.SMTP(HOST, relay.port) as client:
        client.sendmail("ada@example.com", ["bob@example.com"], b"Subject: hello\r\n\r\nhi\r\n")
    (there,) = aws.client("s3").list_objects_v2(Bucket="both-clouds")["Contents"]
    (here,) = stack.stored()
    assert there["Key"] == here
    (message,) = stack.messages("out")
    (other,) = aws.client("sqs").receive_message(QueueUrl=queue)["Messages"]
    one, two = json.loads(message["data"]), json.loads(other["Body"])
    assert one["id"] == two["id"]
    assert one["data"]["storage"]["url"] == f"gs://{stack.target}/{here}"
    assert two["data"]["storage"]["url"] == f"s3://both-clouds/{here}"

    for spool, refused in (("gs://mails/relay", "aws"), ("s3://mails/relay", "gcp")):
        path = relay.folder / f"{refused}.json"
        path.write_text(json.dumps({"flows": flows, "spool": spool}))
        done = subprocess.run(
            [sys.executable, "-m", "listener.cli.main", "check", str(path)],
            cwd=relay.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 2
        assert f"the function beside {spool} runs no {refused} outputs" in done.stdout + done.stderr
