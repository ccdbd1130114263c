"""The `gcp` output: its options, its events, and their topics."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from functions.errors import ConfigError, Temporary
from functions.gcp.clients import publisher_client, storage_client, topic_path
from functions.gcp.output.options import GcpOutputOptions, TopicOptions
from functions.gcp.output.pubsub import MAX_REQUEST, Topic
from functions.message.event.objects import StoredMail, StoredObject
from functions.message.mail import BytesContent, Mail
from functions.processors.base import Job
from functions.processors.context import BuildContext
from functions.processors.registry import build_processor
from tests.support.clouds.gcp import FakeGcs
from tests.support.mails.spooled import MAIL, envelope_of
from tests.support.net import HOST, free_port

STORED = StoredMail({"raw": StoredObject("gs://b/k", "b", "k")})


class Publisher:
    """Keeps the messages to publish, as the SDK's message; raises `fault` instead if it is set."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.fault: Exception | None = None

    def publish(self, **arguments: Any) -> Any:
        from google.pubsub_v1.types import PublishRequest

        assert arguments.pop("retry") is None  # one attempt
        assert 0 < arguments.pop("timeout") < 35
        if self.fault is not None:
            raise self.fault
        self.requests.append(PublishRequest(**arguments))
        return SimpleNamespace(message_ids=["4711"])


def job_of(content: bytes = MAIL, **about: Any) -> tuple[Job, list[str | None]]:
    told: list[str | None] = []

    def once(part: str, effect: Callable[[], str | None]) -> str | None:
        told.append(effect())
        return told[-1]

    mail = Mail(envelope_of(content, **about), BytesContent(content))
    return Job(mail, "in", ("bob@example.com",), once, lambda: 300.0), told


def options(**given: Any) -> GcpOutputOptions:
    return GcpOutputOptions.model_validate({"type": "gcp", **given}, by_alias=True, by_name=False)


def test_a_message() -> None:
    publisher = Publisher()
    job, told = job_of()
    Topic(publisher, "projects/p/topics/t", TopicOptions(topic="t")).publish(job, STORED)
    assert told == ["4711"]
    (request,) = publisher.requests
    assert request.topic == "projects/p/topics/t"
    (message,) = request.messages
    event = json.loads(message.data)
    assert event["id"] == job.mail.id
    assert event["data"]["storage"] == {"url": "gs://b/k", "bucket": "b", "key": "k"}
    assert dict(message.attributes) == {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "smtp-relay-flow": "in",
        "smtp-relay-from-domain": "example.com",
        "smtp-relay-to-domain": "example.com",
        "smtp-relay-id": job.mail.id,
    }


def test_a_message_in_the_format_of_ses() -> None:
    publisher = Publisher()
    job, _ = job_of()
    Topic(publisher, "projects/p/topics/t", TopicOptions(topic="t", format="ses")).publish(job, STORED)
    (message,) = publisher.requests[0].messages
    notification = json.loads(message.data)
    assert notification["notificationType"] == "Received"
    assert notification["mail"]["messageId"] == job.mail.id
    action = notification["receipt"]["action"]
    assert (action["bucketName"], action["objectKey"]) == ("b", "k")
    assert message.attributes["content-type"] == "application/json"
    assert message.attributes["smtp-relay-id"] == job.mail.id


def test_a_message_without_header_fields() -> None:
    publisher = Publisher()
    job, _ = job_of()
    Topic(publisher, "projects/p/topics/t", TopicOptions(topic="t", headers=False)).publish(job, None)
    assert json.loads(publisher.requests[0].messages[0].data)["data"]["email"]["headers"] == []


@pytest.mark.parametrize("letter", ["a", "ä", "\U0001f600", '"', "\\"])
def test_the_largest_event_fits_a_request(letter: str) -> None:
    publisher = Publisher()
    text = (letter * 60 + "\r\n").encode() * 200_000
    job, _ = job_of(
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + text, recipients=["b@example.com"] * 900
    )
    Topic(publisher, f"projects/p/topics/{'t' * 255}", TopicOptions(topic="t", truncate=10**9)).publish(
        job, None
    )
    (request,) = publisher.requests
    size = len(type(request).serialize(request))
    assert MAX_REQUEST - 100_000 < size <= MAX_REQUEST


def test_no_answer_is_a_doubt() -> None:
    publisher = Publisher()
    publisher.fault = ConnectionResetError("gone")
    job, _ = job_of()
    with pytest.raises(Temporary, match="publish to projects/p/topics/t") as caught:
        Topic(publisher, "projects/p/topics/t", TopicOptions(topic="t")).publish(job, None)
    assert caught.value.in_doubt


def test_where_a_topic_is() -> None:
    assert topic_path("projects/x/topics/t", "other", {}) == "projects/x/topics/t"
    assert topic_path("t", "given", {"GOOGLE_CLOUD_PROJECT": "own"}) == "projects/given/topics/t"
    assert topic_path("t", None, {"GOOGLE_CLOUD_PROJECT": "own"}) == "projects/own/topics/t"
    with pytest.raises(ConfigError, match="its project is not known"):
        topic_path("t", None, {"PUBSUB_EMULATOR_HOST": "x"})


def test_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    for make in (storage_client, lambda: publisher_client({}), lambda: topic_path("t", None, {})):
        with pytest.raises(ConfigError, match="service account"):
            make()


def test_a_key_that_is_none_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        storage_client(key="very secret")
    assert "very secret" not in str(caught.value)


def test_it_stores_and_sends_no_credentials_over_plain_http(
    gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"{HOST}:{free_port()}")
    context = BuildContext.of(tmp_path, {}, durable=False)
    given = options(path="gs://bucket/in/", pubsub="t", project="p")
    processor = build_processor(given, "gcp_0", context)
    job, told = job_of()
    for _ in range(2):
        with pytest.raises(Temporary, match="publish to projects/p/topics/t") as caught:
            processor.process(job)
        assert not caught.value.in_doubt  # it never left
    assert told == []
    (key,) = gcs.keys("bucket")
    assert key.startswith("in/")
    assert key.endswith(f"_{job.mail.id}.eml")
    about = gcs.about("bucket", key)
    assert about["contentType"] == "message/rfc822"
    assert about["metadata"]["smtp-relay-id"] == job.mail.id
    processor.close()


@pytest.mark.parametrize(
    ("given", "identity"),
    [
        ({"path": "gs://b/", "pubsub": ""}, "gcp gs://b/${iso8601}_${id}.eml#raw"),
        ({"path": "gs://b"}, "gcp gs://b/${iso8601}_${id}.eml#raw"),
        ({"path": "gs://b/x.eml"}, "gcp gs://b/x.eml#raw"),
        ({"pubsub": "t"}, "gcp pubsub:/t"),
        ({"pubsub": {"topic": "t"}, "project": "p"}, "gcp pubsub:p/t"),
        ({"pubsub": {"topic": "t", "format": "ses"}}, "gcp pubsub:/t#ses"),
        ({"storage": {"bucket": "b", "type": "parts"}}, "gcp gs://b/${id}/#parts"),
        ({"name": "n", "pubsub": "t"}, "n"),
    ],
)
def test_short_forms(given: dict[str, Any], identity: str) -> None:
    assert options(**given).identity() == identity


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "does nothing"),
        ({"pubsub": ""}, "does nothing"),
        ({"path": "s3://b/"}, "is not gs://BUCKET/PREFIX"),
        ({"path": "gs://"}, "is not gs://BUCKET/PREFIX"),
        ({"path": "gs://b", "storage": {"bucket": "b"}}, "give one of them"),
        ({"storage": {"bucket": "${domain}"}}, "no template variables"),
        ({"pubsub": {"topic": "t-${flow}"}}, "no template variables"),
    ],
)
def test_mistakes(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        options(**given)
