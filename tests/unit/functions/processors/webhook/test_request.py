"""The body of each format."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest

from functions.errors import Permanent
from functions.message.event import cloudevent
from functions.message.event.objects import StoredMail, StoredObject
from functions.processors.base import Job
from functions.processors.registry import OUTPUTS
from functions.processors.store import Contents
from functions.processors.webhook.options import WebhookOptions
from functions.processors.webhook.request import Request, make
from tests.support.mails.event_schema import mistakes
from tests.support.mails.jobs import job_of
from tests.support.mails.spooled import MAIL

LARGE = MAIL + b"x" * 200_000 + b"\r\n"
STORED = StoredMail(
    {"raw": StoredObject("s3://mails/k.eml", "mails", "k.eml", None, "https://link.example/?sig")}
)


def request(job: Job, stored: StoredMail | None = None, **given: Any) -> Request:
    options = OUTPUTS.parse({"type": "webhook", "url": "https://h.example.com/", **given})
    assert isinstance(options, WebhookOptions)
    return make(options, job, Contents(job, cloudevent.limits_for(options.most)), stored)


def body(made: Request) -> bytes:
    data = b"".join(made.pieces())
    assert len(data) == made.size
    return data


def test_a_cloudevent_in_json_keeps_the_schema() -> None:
    job = job_of()
    made = request(job)
    event = json.loads(body(made))
    assert made.headers["Content-Type"].startswith("application/cloudevents+json")
    assert event["id"] == job.mail.id
    assert event["data"]["email"]["text"] == "hi\n"
    assert mistakes([event]) == [""]


def test_a_cloudevent_in_headers_is_the_same_event() -> None:
    job = job_of()
    event = json.loads(body(request(job)))
    made = request(job, format="cloudevent-binary")
    assert json.loads(body(made)) == event.pop("data")
    assert made.headers["Content-Type"] == event.pop("datacontenttype") == "application/json"
    found = {name[3:]: unquote(value) for name, value in made.headers.items() if name.startswith("ce-")}
    assert found == event


def test_cloudevents_of_headers_are_read_by_another_implementation() -> None:
    from cloudevents.http import from_http

    made = request(job_of(), format="cloudevent-binary")
    event = from_http({name.lower(): value for name, value in made.headers.items()}, body(made))
    assert event["type"] == cloudevent.TYPE
    assert event.data["email"]["subject"] == "hello"


def test_the_raw_mail_with_its_envelope() -> None:
    recipients = ("bob@example.com", "zoë,x@example.com")
    made = request(job_of(recipients=recipients, reverse_path=""), format="raw")
    assert body(made) == MAIL
    assert made.headers["Content-Type"] == "message/rfc822"
    assert made.headers["smtp-relay-mail-from"] == ""
    assert [unquote(one) for one in made.headers["smtp-relay-rcpt-to"].split(",")] == list(recipients)
    assert all(value.isascii() and value.isprintable() for value in made.headers.values())


def test_headers_stay_small_with_many_recipients() -> None:
    made = request(job_of(recipients=[f"user{n}@example.com" for n in range(1000)]), format="raw")
    assert len(made.headers["smtp-relay-rcpt-to"]) <= 4096
    assert made.headers["smtp-relay-rcpt-count"] == "1000"


def test_the_notification_of_ses() -> None:
    found = json.loads(body(request(job_of(), STORED, format="ses")))
    assert found["notificationType"] == "Received"
    assert found["receipt"]["action"]["objectKey"] == "k.eml"


def test_the_summary_of_mailpit() -> None:
    job = job_of()
    found = json.loads(body(request(job, format="mailpit")))
    assert found["From"] == {"Name": "Ada", "Address": "ada@example.com"}
    assert found["To"] == [{"Name": "", "Address": "bob@example.com"}]
    assert (found["ID"], found["Subject"], found["Snippet"]) == (job.mail.id, "hello", "hi")
    assert set(found) == {
        *("ID", "MessageID", "Read", "From", "To", "Cc", "Bcc", "ReplyTo", "Subject", "Created"),
        *("Username", "Tags", "Size", "Attachments", "Snippet"),
    }


@pytest.mark.parametrize("format_", ["cloudevent", "cloudevent-binary", "raw"])
def test_a_body_that_is_too_large_is_cut_or_given_up(format_: str) -> None:
    given = {"format": format_, "maxBytes": 65_536}
    cut = request(job_of(LARGE), **given)
    assert cut.size <= 65_536
    if format_ == "raw":
        assert cut.headers["smtp-relay-truncated"] == "true"
        assert body(cut) == LARGE[:65_536]
    else:
        assert b'"field":"email.text"' in body(cut)
    with pytest.raises(Permanent, match="larger than 65536 bytes"):
        request(job_of(LARGE), onTooLarge="dead-letter", **given)
    request(job_of(MAIL), onTooLarge="dead-letter", **given)


@pytest.mark.parametrize("format_", ["cloudevent", "raw", "mailpit"])
def test_a_stored_mail_is_named_and_its_body_may_be_cut(format_: str) -> None:
    made = request(job_of(LARGE), STORED, format=format_, maxBytes=65_536, onTooLarge="dead-letter")
    if format_ == "cloudevent":
        there = json.loads(body(made))["data"]["storage"]
        assert (there["url"], there["link"]) == ("s3://mails/k.eml", "https://link.example/?sig")
    else:
        assert made.headers["smtp-relay-storage-url"] == "s3://mails/k.eml"
        assert made.headers["smtp-relay-storage-link"] == "https://link.example/?sig"


def test_a_text_cannot_pretend_that_nothing_was_cut() -> None:
    trick = MAIL + b'"truncated":{"fields":[]' * 10_000
    with pytest.raises(Permanent):
        request(job_of(trick), maxBytes=65_536, onTooLarge="dead-letter")
