"""Publishing to SNS and EventBridge: compared with the requests on the wire."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pydantic import ValidationError

from functions.aws.output.event_bus import SOURCE, EventBus
from functions.aws.output.options import AwsOutputOptions
from functions.aws.output.publisher import size_of
from functions.aws.output.sns import SnsTopic
from functions.errors import Permanent, Temporary
from functions.processors.store import CloudProcessor
from tests.support.mails.jobs import Receipts, fault_of, job_of
from tests.support.servers.endpoint import Asked, Endpoint, Says

TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail"
BUS = "arn:aws:events:eu-central-1:123456789012:event-bus/mail"
BOTH = [TOPIC, BUS]

Outputs = Callable[..., CloudProcessor]

HUGE = b"Subject: x\r\n\r\n" + b"word " * 400_000


def published(message: str = "m-1") -> Says:
    text = (
        f"<PublishResponse><PublishResult><MessageId>{message}</MessageId></PublishResult></PublishResponse>"
    )
    return Says(body=text.encode(), headers={"Content-Type": "text/xml"})


def sns_error(code: str, message: str, status: int = 400) -> Says:
    text = f"<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"
    return Says(status, text.encode(), {"Content-Type": "text/xml"})


def put(**entry: Any) -> Says:
    failed = int("ErrorCode" in entry)
    body = {"FailedEntryCount": failed, "Entries": [entry or {"EventId": "e-1"}]}
    return Says(body=json.dumps(body).encode())


def bus_error(code: str, message: str, status: int = 400) -> Says:
    return Says(status, json.dumps({"__type": code, "message": message}).encode())


def answers(api: Endpoint, *first: Says) -> None:
    left = list(first)

    def answer(asked: Asked) -> Says:
        if left:
            return left.pop(0)
        return published() if b"Action=Publish" in asked.body else put()

    api.answer = answer


def messages(api: Endpoint) -> list[dict[str, str]]:
    return [dict(parse_qsl(asked.body.decode())) for asked in api.asked]


def entries(api: Endpoint) -> list[dict[str, Any]]:
    return [json.loads(asked.body)["Entries"][0] for asked in api.asked]


def body_of(asked: Asked) -> str:
    if b"Action=Publish" in asked.body:
        return dict(parse_qsl(asked.body.decode()))["Message"]
    return str(json.loads(asked.body)["Entries"][0]["Detail"])


def attributes_in(message: dict[str, str]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for key, value in message.items():
        if place := re.fullmatch(r"MessageAttributes\.entry\.(\d+)\.Name", key):
            start = f"MessageAttributes.entry.{place[1]}.Value."
            found[value] = {name: message[start + name] for name in ("DataType", "StringValue")}
    return found


def test_a_topic_gets_the_event_with_attributes(api: Endpoint, output: Outputs) -> None:
    answers(api)
    job = job_of()
    output(pubsub={"topic": TOPIC}).process(job)
    (message,) = messages(api)
    assert message["TopicArn"] == TOPIC
    assert json.loads(message["Message"])["id"] == job.mail.id
    found = attributes_in(message)
    assert found["smtp-relay-flow"] == {"DataType": "String", "StringValue": "in"}
    assert found["smtp-relay-id"]["StringValue"] == job.mail.id
    assert "MessageGroupId" not in message


def test_a_bus_gets_the_event_as_its_detail(api: Endpoint, output: Outputs) -> None:
    answers(api)
    job = job_of()
    output(pubsub={"topic": BUS}).process(job)
    (entry,) = entries(api)
    assert (entry["EventBusName"], entry["Source"]) == (BUS, SOURCE)
    event = json.loads(entry["Detail"])
    assert entry["DetailType"] == event["type"] == "com.loopingz.smtp-relay.v2"
    assert event["id"] == job.mail.id
    assert entry["Time"] == job.mail.envelope.received / 1000
    assert b"eu-central-1" in api.asked[0].headers["authorization"].encode(), "the region of the ARN"


@pytest.mark.parametrize("topic", BOTH)
def test_the_json_of_ses(api: Endpoint, output: Outputs, topic: str) -> None:
    answers(api)
    output(pubsub={"topic": topic, "format": "ses"}).process(job_of())
    assert json.loads(body_of(api.asked[0]))["notificationType"] == "Received"
    if topic == BUS:
        assert entries(api)[0]["DetailType"] == "Received"


def test_fifo_topics_get_a_group_and_the_same_id_at_every_attempt(api: Endpoint, output: Outputs) -> None:
    answers(api, sns_error("ServiceUnavailable", "no", 503))
    job = job_of()
    processor = output(pubsub={"topic": TOPIC + ".fifo"})
    assert isinstance(fault_of(lambda: processor.process(job)), Temporary)
    processor.process(job)
    first, second = messages(api)
    assert first["MessageGroupId"] == "in"
    assert first["MessageDeduplicationId"] == second["MessageDeduplicationId"]


@pytest.mark.parametrize(("topic", "receipt"), [(TOPIC, {"sns": "m-1"}), (BUS, {"events": "e-1"})])
def test_once(api: Endpoint, output: Outputs, topic: str, receipt: dict[str, str]) -> None:
    answers(api)
    receipts = Receipts()
    job = job_of(once=receipts)
    processor = output(pubsub={"topic": topic})
    processor.process(job)
    processor.process(job)
    assert len(api.asked) == 1
    assert receipts.done == receipt


@pytest.mark.parametrize("format_", ["cloudevent", "ses"])
@pytest.mark.parametrize("topic", BOTH)
def test_always_fits(api: Endpoint, output: Outputs, topic: str, format_: str) -> None:
    answers(api)
    head = b"".join(b"X-Filler-%d: %s\r\n" % (n, b"y" * 900) for n in range(900))
    html = b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>" + "é\x01".encode() * 1_000_000
    output(pubsub={"topic": topic, "truncate": 100_000_000, "format": format_}).process(job_of(head + html))
    body = body_of(api.asked[0])
    json.loads(body)
    if topic == TOPIC:
        assert len(body.encode()) + size_of(attributes_in(messages(api)[0])) <= SnsTopic.most == 262_144
    else:
        (entry,) = entries(api)
        size = 14 + sum(len(entry[name].encode()) for name in ("Source", "DetailType", "Detail"))
        assert size <= EventBus.most < 262_144


@pytest.mark.parametrize(
    ("topic", "refusal"),
    [
        (TOPIC, sns_error("InvalidParameter", "Invalid parameter: Message too long")),
        (
            BUS,
            bus_error("ValidationException", "Total size of the entries is over the limit."),
        ),
    ],
)
def test_a_target_that_takes_less_is_heeded(
    api: Endpoint, output: Outputs, topic: str, refusal: Says
) -> None:
    answers(api, refusal)
    processor = output(pubsub={"topic": topic, "truncate": 10_000_000})
    processor.process(job_of(HUGE))
    processor.process(job_of(HUGE))
    sizes = [len(body_of(asked)) for asked in api.asked]
    assert sizes[0] > 131_072
    assert len(sizes) == 3, "learnt once"
    assert all(size <= 131_072 for size in sizes[1:])


def test_refusals_at_the_same_time_are_learnt_once(api: Endpoint, output: Outputs) -> None:
    both = threading.Barrier(2)

    def answer(asked: Asked) -> Says:
        if len(body_of(asked)) <= 131_072:
            return published()
        both.wait(30)
        return sns_error("InvalidParameter", "Invalid parameter: Message too long")

    api.answer = answer
    processor = output(pubsub={"topic": TOPIC, "truncate": 10_000_000})
    threads = [threading.Thread(target=processor.process, args=(job_of(HUGE),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(api.asked) == 4
    processor.process(job_of(HUGE))
    assert len(body_of(api.asked[-1])) > 100_000


def test_a_target_that_takes_next_to_nothing(api: Endpoint, output: Outputs) -> None:
    answers(api, *[sns_error("InvalidParameter", "Invalid parameter: Message too long")] * 9)
    fault = fault_of(lambda: output(pubsub={"topic": TOPIC}).process(job_of(HUGE)))
    assert isinstance(fault, Permanent)
    assert fault.enhanced == "5.3.4"
    assert 1 < len(api.asked) < 5


@pytest.mark.parametrize(
    ("topic", "answer", "kind", "enhanced"),
    [
        (TOPIC, sns_error("NotFound", "Topic does not exist", 404), Permanent, "5.1.2"),
        (TOPIC, sns_error("InvalidParameter", "no"), Permanent, "5.3.0"),
        (TOPIC, sns_error("AuthorizationError", "no", 403), Temporary, "4.3.0"),
        (TOPIC, sns_error("Throttled", "no", 429), Temporary, "4.4.5"),
        (TOPIC, sns_error("KMSAccessDenied", "no"), Temporary, "4.3.0"),
        (TOPIC, sns_error("KMSThrottling", "no"), Temporary, "4.3.0"),
        (TOPIC, sns_error("InternalError", "no", 500), Temporary, "4.3.0"),
        (BUS, put(ErrorCode="ThrottlingException", ErrorMessage="Rate exceeded"), Temporary, "4.4.5"),
        (BUS, put(ErrorCode="InternalFailure"), Temporary, "4.3.0"),
        (BUS, put(ErrorCode="InternalException"), Temporary, "4.3.0"),
        (BUS, put(ErrorCode="NotAuthorizedForSourceException"), Permanent, "5.3.0"),
        (BUS, put(ErrorCode="ResourceNotFoundException", ErrorMessage="no bus"), Permanent, "5.1.2"),
        (BUS, put(ErrorCode="MalformedDetail"), Permanent, "5.3.0"),
        (BUS, Says(body=b'{"FailedEntryCount":1,"Entries":[]}'), Temporary, "4.3.0"),
        (BUS, bus_error("AccessDeniedException", "no", 400), Temporary, "4.3.0"),
        (BUS, bus_error("InternalException", "no", 500), Temporary, "4.3.0"),
    ],
)
def test_refusals(
    api: Endpoint, output: Outputs, topic: str, answer: Says, kind: type, enhanced: str
) -> None:
    """A failed entry is a failure, although the request has status 200."""
    answers(api, answer)
    fault = fault_of(lambda: output(pubsub={"topic": topic}).process(job_of()))
    assert (type(fault), fault.enhanced) == (kind, enhanced)
    assert not getattr(fault, "in_doubt", False)
    assert len(api.asked) == 1, "one attempt"


@pytest.mark.parametrize("topic", BOTH)
def test_an_answer_that_never_came_is_in_doubt(api: Endpoint, output: Outputs, topic: str) -> None:
    answers(api, Says(raw=b""))
    fault = fault_of(lambda: output(pubsub={"topic": topic}).process(job_of()))
    assert isinstance(fault, Temporary)
    assert fault.in_doubt
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("topic", "answer"),
    [
        (TOPIC, Says(body=b"")),
        (TOPIC, Says(body=b"<html></html>")),
        (BUS, Says(body=b"")),
        (BUS, Says(body=b"{}")),
        (BUS, Says(body=b'{"FailedEntryCount":0,"Entries":[{}]}')),
        ("http://sqs.example/000000000000/q", Says(body=b"")),
        ("http://sqs.example/000000000000/q", Says(body=b"{}")),
    ],
)
def test_an_answer_without_the_message_s_id_is_in_doubt(
    api: Endpoint, output: Outputs, topic: str, answer: Says
) -> None:
    """It broke off, or comes from another server: neither success nor failure is known."""
    answers(api, answer)
    fault = fault_of(lambda: output(pubsub={"topic": topic}).process(job_of()))
    assert isinstance(fault, Temporary)
    assert fault.in_doubt
    assert len(api.asked) == 1


def options(**given: Any) -> AwsOutputOptions:
    return AwsOutputOptions.model_validate({"type": "aws", **given}, by_alias=True, by_name=False)


@pytest.mark.parametrize(
    "topic",
    [
        "arn:aws:sqs:eu-west-1:123456789012:mail",
        "arn:aws:sns:eu-west-1:123456789012:mail:0fbe8e2a-1b2c-4d5e-8f90-123456789012",
        "arn:aws:sns::123456789012:mail",
        "arn:aws:events:eu-west-1:123456789012:rule/mail",
        "arn:aws:events:eu-west-1:1234:event-bus/mail",
        "arn:aws:lambda:eu-west-1:123456789012:function:mail",
        "arn:",
        "mail",
    ],
)
def test_what_is_no_target(topic: str) -> None:
    with pytest.raises(ValidationError, match=r"https://sqs\."):
        options(pubsub={"topic": topic})


@pytest.mark.parametrize(
    "topic",
    [
        "arn:aws-cn:sns:cn-north-1:123456789012:mail.fifo",
        "arn:aws-us-gov:events:us-gov-east-1:123456789012:event-bus/default",
    ],
)
def test_other_partitions(topic: str) -> None:
    made = options(pubsub={"topic": topic})
    assert made.pubsub is not None
    assert made.identity().startswith(f"aws {made.pubsub.service}:{topic}#")


@pytest.mark.parametrize("topic", BOTH)
def test_parameters_of_sqs_are_for_a_queue(topic: str) -> None:
    with pytest.raises(ValidationError, match="sendMessageOptions are for a queue"):
        options(pubsub={"topic": topic}, sendMessageOptions={"DelaySeconds": 5})
