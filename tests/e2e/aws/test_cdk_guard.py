"""The guard of a stack, which answers CloudFormation. (The emulator continues to delete after a
refusal, so `cdk destroy` cannot show it.)"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from infra.cdk.guard import index
from tests.support.clouds.ministack import Ministack
from tests.support.net import HOST, PATIENCE

Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def bucket(aws: Ministack, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    name = f"guarded-{os.urandom(4).hex()}"
    aws.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def ask(bucket: str) -> Iterator[Ask]:
    """Sends a request as CloudFormation does; returns the answer."""
    answers: queue.Queue[dict[str, Any]] = queue.Queue()

    class CloudFormation(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = HTTPServer((HOST, 0), CloudFormation)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()

    def request(
        kind: str, *, of: str | None = None, old: dict[str, str] | None = None, **new: str
    ) -> dict[str, Any]:
        properties = {"Bucket": of or bucket, "Prefix": "mail/", "Ephemeral": "false", **new}
        event = {
            "RequestType": kind,
            "ResponseURL": f"http://{HOST}:{server.server_port}/answer?signed",
            "StackId": "stack",
            "RequestId": "request",
            "LogicalResourceId": "Guard",
            "ResourceProperties": properties,
        }
        if old is not None:
            event["OldResourceProperties"] = {**properties, **old}
        index.handler(event, None)
        return answers.get(timeout=PATIENCE)

    yield request
    server.shutdown()
    thread.join(10)
    server.server_close()


def test_a_stack_goes_when_no_mail_is_unfinished(ask: Ask, aws: Ministack, bucket: str) -> None:
    s3 = aws.client("s3")
    # Objects that are neither unfinished nor dead mails of this spool.
    for key in ("dead/0/x/y.json", "mail/kept/x.eml", "mail/spool/probe", "spool/x.eml"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    answer = ask("Delete")
    assert answer["Status"] == "SUCCESS"
    assert {answer[name] for name in ("StackId", "RequestId", "LogicalResourceId")} == {
        *("stack", "request", "Guard")
    }


def test_a_stack_stays_while_mail_is_unfinished(ask: Ask, aws: Ministack, bucket: str) -> None:
    key = "mail/spool/0/2026/01/02/03/x.eml"
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")
    answer = ask("Delete")
    assert answer["Status"] == "FAILED"
    assert key in answer["Reason"]
    assert bucket in answer["Reason"]


@pytest.fixture
def dead(aws: Ministack, bucket: str) -> str:
    key = "mail/dead/0/x/y.json"
    aws.client("s3").put_object(Bucket=bucket, Key=key, Body=b"")
    return key


def test_a_stack_stays_while_mail_is_dead(ask: Ask, dead: str) -> None:
    answer = ask("Delete")
    assert answer["Status"] == "FAILED"
    assert f"is dead: {dead}" in answer["Reason"]
    assert ask("Delete", Ephemeral="true")["Status"] == "SUCCESS"


def test_marks_hide_no_dead_mail(ask: Ask, aws: Ministack, bucket: str) -> None:
    names = ("0/w/a.dropped", "0/w/b.dropped", "0/w/parked-0123456789abcdef", "1/x/y.json")
    for name in names:
        aws.client("s3").put_object(Bucket=bucket, Key=f"mail/dead/{name}", Body=b"")
    assert f"is dead: mail/dead/{names[-1]}" in ask("Delete")["Reason"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"Ephemeral": "false"}, {"Ephemeral": "true"}),
        ({"Prefix": "mail/"}, {"Prefix": "other/"}),
        ({}, {"Bucket": "another"}),
    ],
)
def test_a_spool_with_mail_is_not_left(
    ask: Ask, dead: str, bucket: str, old: dict[str, str], new: dict[str, str]
) -> None:
    answer = ask("Update", old={"Bucket": bucket, **old}, **new)
    assert answer["Status"] == "FAILED"
    assert dead in answer["Reason"]


def test_the_prefix_of_an_older_version_is_the_same_spool(ask: Ask, dead: str) -> None:
    assert ask("Update", old={"Prefix": "mail/spool/"})["Status"] == "SUCCESS"


def test_a_stack_stays_when_the_spool_cannot_be_read(ask: Ask) -> None:
    answer = ask("Delete", of="no-such-bucket")
    assert answer["Status"] == "FAILED"
    assert "NoSuchBucket" in answer["Reason"]


@pytest.mark.parametrize("kind", ["Create", "Update"])
def test_it_blocks_no_client_before(ask: Ask, kind: str) -> None:
    assert ask(kind, of="no-such-bucket")["Status"] == "SUCCESS"
