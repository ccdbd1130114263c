"""The JSON of SES's inbound notifications: Amazon's field list, and Powertools' event classes."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from aws_lambda_powertools.utilities.data_classes import SESEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.message.event.ses_notification import build
from functions.message.mime import read_parts
from tests.support.mails.jobs import job_of
from tests.support.mails.spooled import MAIL

# "Contents of notifications for Amazon SES email receiving": field -> type, by object. Fields that
# Amazon gives only sometimes are in `_SOMETIMES`.
_FIELDS: Final[dict[str, dict[str, type]]] = {
    "": {"notificationType": str, "receipt": dict, "mail": dict},
    "receipt": {
        "action": dict,
        "dkimVerdict": dict,
        "dmarcVerdict": dict,
        "processingTimeMillis": int,
        "recipients": list,
        "spamVerdict": dict,
        "spfVerdict": dict,
        "timestamp": str,
        "virusVerdict": dict,
    },
    "receipt.action": {"type": str, "bucketName": str, "objectKey": str, "objectKeyPrefix": str},
    "mail": {
        "destination": list,
        "messageId": str,
        "source": str,
        "timestamp": str,
        "headers": list,
        "commonHeaders": dict,
        "headersTruncated": bool,
    },
    "mail.commonHeaders": {
        "returnPath": str,
        "from": list,
        "date": str,
        "to": list,
        "messageId": str,
        "subject": str,
    },
}
_SOMETIMES: Final = {
    "receipt": {"dmarcPolicy"},
    "mail.commonHeaders": {"cc", "bcc", "sender", "replyTo"},
}
_VERDICTS: Final = {"PASS", "FAIL", "GRAY", "PROCESSING_FAILED"}


def event_of(mail: bytes = MAIL, url: str | None = "s3://bucket/in/key.eml", **about: Any) -> dict[str, Any]:
    job = job_of(mail, **about)
    parts = read_parts(job.mail, job.flow)
    body = build(job.mail.envelope, parts, flow=job.flow, storage_url=url, max_bytes=1_048_576)
    found: dict[str, Any] = json.loads(body)
    check(found)
    return found


def check(event: dict[str, Any]) -> None:
    """The event has Amazon's fields, with their types, and no others."""
    for path, fields in _FIELDS.items():
        there: Any = event
        for name in filter(None, path.split(".")):
            there = there[name]
        assert set(fields) <= set(there) <= set(fields) | _SOMETIMES.get(path, set()), path
        for name, kind in fields.items():
            assert type(there[name]) is kind, f"{path}.{name}"
    for name, value in event["receipt"].items():
        if name.endswith("Verdict"):
            assert set(value) == {"status"}
            assert value["status"] in _VERDICTS
    for header in event["mail"]["headers"]:
        assert set(header) == {"name", "value"}


def test_fields() -> None:
    event = event_of()
    assert event["notificationType"] == "Received"
    assert event["receipt"]["recipients"] == event["mail"]["destination"] == ["bob@example.com"]
    assert event["mail"]["source"] == "ada@example.com"
    assert event["mail"]["commonHeaders"]["from"] == ["Ada <ada@example.com>"]
    assert event["mail"]["headers"][2] == {"name": "Subject", "value": "hello"}
    assert event["receipt"]["action"] == {
        "type": "S3",
        "bucketName": "bucket",
        "objectKeyPrefix": "in",
        "objectKey": "in/key.eml",
    }


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ("pass", "PASS"),
        ("fail", "FAIL"),
        ("softfail", "FAIL"),
        ("none", "GRAY"),
        ("temperror", "PROCESSING_FAILED"),
    ],
)
def test_verdicts(result: str, status: str) -> None:
    results = {
        "spf": {"result": result},
        "dkim": {"result": result},
        "dmarc": {"result": result, "policy": "reject"},
    }
    receipt = event_of(results=results)["receipt"]
    assert receipt["spfVerdict"] == receipt["dkimVerdict"] == receipt["dmarcVerdict"] == {"status": status}
    assert receipt.get("dmarcPolicy") == ("REJECT" if status == "FAIL" else None)
    assert receipt["spamVerdict"] == receipt["virusVerdict"] == {"status": "GRAY"}


def test_not_checked_is_gray() -> None:
    assert event_of()["receipt"]["dkimVerdict"] == {"status": "GRAY"}


def test_headers_end_at_ten_kilobytes() -> None:
    event = event_of(b"".join(b"X-%d: %s\r\n" % (n, b"y" * 500) for n in range(50)) + b"\r\n")
    assert event["mail"]["headersTruncated"] is True
    assert len(event["mail"]["headers"]) < 50


def handler(event: SESEvent) -> tuple[str, str, list[str], str]:
    """As people write them for SES receipt rules with Powertools."""
    record = event.record.ses
    if record.receipt.spf_verdict.status == "FAIL" or record.receipt.virus_verdict.status == "FAIL":
        raise ValueError("rejected")
    headers = {header.name: header.value for header in record.mail.headers}
    action = record.receipt.action
    return headers["Subject"], record.mail.source, record.receipt.recipients, action["objectKey"]


def test_a_handler_for_receipt_rules_runs_on_it() -> None:
    record = {"eventSource": "aws:ses", "eventVersion": "1.0", "ses": event_of()}
    subject, source, recipients, key = handler(SESEvent({"Records": [record]}))
    assert (subject, source, recipients) == ("hello", "ada@example.com", ["bob@example.com"])
    assert key == "in/key.eml"


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000), st.integers(65_536, 200_000))
def test_any_mail_gives_an_event_that_fits(mail: bytes, most: int) -> None:
    job = job_of(mail)
    parts = read_parts(job.mail, job.flow)
    body = build(job.mail.envelope, parts, flow=job.flow, storage_url=None, max_bytes=most)
    assert len(body) <= most
    check(json.loads(body))
