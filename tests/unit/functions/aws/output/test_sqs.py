"""Publishing to SQS: compared with the requests on the wire."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from functions.aws.output.sqs import Queue, place_of
from functions.errors import Permanent, Temporary
from functions.processors.store import CloudProcessor
from tests.support.mails.jobs import Receipts, fault_of, job_of
from tests.support.servers.endpoint import Asked, Endpoint, Says

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"

Outputs = Callable[..., CloudProcessor]


def answers(api: Endpoint, *first: Says) -> None:
    left = list(first)

    def answer(asked: Asked) -> Says:
        if left:
            return left.pop(0)
        body = json.loads(asked.body)["MessageBody"]
        digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
        return Says(body=json.dumps({"MessageId": "m-1", "MD5OfMessageBody": digest}).encode())

    api.answer = answer


def refusal(code: str, message: str = "no", status: int = 400) -> Says:
    return Says(status, json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": message}).encode())


def sent(api: Endpoint) -> list[dict[str, Any]]:
    return [json.loads(asked.body) for asked in api.asked]


def test_sends_a_cloudevent(api: Endpoint, output: Outputs) -> None:
    answers(api)
    job = job_of()
    output(pubsub={"topic": QUEUE}).process(job)
    (request,) = sent(api)
    assert request["QueueUrl"] == QUEUE
    event = json.loads(request["MessageBody"])
    assert event["type"] == "com.loopingz.smtp-relay.v2"
    assert event["id"] == job.mail.id
    assert event["data"]["email"]["subject"] == "hello"
    assert "storage" not in event["data"]


def test_once(api: Endpoint, output: Outputs) -> None:
    answers(api)
    receipts = Receipts()
    job = job_of(once=receipts)
    processor = output(pubsub={"topic": QUEUE})
    processor.process(job)
    processor.process(job)
    assert len(sent(api)) == 1
    assert receipts.done == {"sqs": "m-1"}


@pytest.mark.parametrize("format_", ["cloudevent", "ses"])
def test_always_fits(api: Endpoint, output: Outputs, format_: str) -> None:
    answers(api)
    head = b"".join(b"X-Filler-%d: %s\r\n" % (n, b"y" * 900) for n in range(900))
    html = b"Content-Type: text/html; charset=utf-8\r\n\r\n<p>" + "é\x01".encode() * 2_000_000
    attributes = {"team": {"DataType": "String", "StringValue": "mail"}}
    pubsub = {"topic": QUEUE, "truncate": 100_000_000, "format": format_}
    output(pubsub=pubsub, sendMessageOptions={"MessageAttributes": attributes}).process(job_of(head + html))
    (request,) = sent(api)
    assert request["MessageAttributes"].keys() > attributes.keys()
    extra = sum(
        len(name) + len(each["DataType"]) + len(each["StringValue"])
        for name, each in request["MessageAttributes"].items()
    )
    assert len(request["MessageBody"].encode()) + extra <= Queue.most
    json.loads(request["MessageBody"])


def test_a_queue_that_takes_less_says_so_and_is_heeded(api: Endpoint, output: Outputs) -> None:
    text = "One or more parameters are invalid. Reason: Message must be shorter than 262144 bytes."
    answers(api, refusal("InvalidParameterValue", text))
    pubsub = {"topic": QUEUE, "truncate": 10_000_000}
    processor = output(pubsub=pubsub)
    mail = b"Subject: x\r\n\r\n" + b"word " * 200_000
    processor.process(job_of(mail))
    processor.process(job_of(mail))
    sizes = [len(request["MessageBody"]) for request in sent(api)]
    assert sizes[0] > 262_144
    assert all(size <= 262_144 for size in sizes[1:])
    assert len(sizes) == 3, "learnt once"


def test_fifo_queues_get_a_group_and_the_same_id_at_every_attempt(api: Endpoint, output: Outputs) -> None:
    answers(api, refusal("ServiceUnavailable", status=503))
    job = job_of()
    processor = output(pubsub={"topic": QUEUE + ".fifo"})
    assert isinstance(fault_of(lambda: processor.process(job)), Temporary)
    processor.process(job)
    first, second = sent(api)
    assert first["MessageGroupId"] == "in"
    assert first["MessageDeduplicationId"] == second["MessageDeduplicationId"]


def test_parameters_of_the_file(api: Endpoint, output: Outputs) -> None:
    answers(api)
    output(pubsub={"topic": QUEUE}, sendMessageOptions={"DelaySeconds": 5}).process(job_of())
    assert sent(api)[0]["DelaySeconds"] == 5


OURS = [
    "smtp-relay-flow",
    "smtp-relay-from-domain",
    "smtp-relay-to-domain",
    "smtp-relay-dmarc",
    "smtp-relay-id",
]


@pytest.mark.parametrize(("own", "ours"), [(0, 5), (4, 5), (5, 5), (6, 4), (9, 1), (10, 0)])
def test_attributes_of_the_file_go_first_and_sqs_takes_ten(
    api: Endpoint, output: Outputs, own: int, ours: int
) -> None:
    answers(api)
    given = {f"own-{n}": {"DataType": "String", "StringValue": "x"} for n in range(own)}
    job = job_of(results={"dmarc": {"result": "pass"}})
    output(pubsub={"topic": QUEUE}, sendMessageOptions={"MessageAttributes": given}).process(job)
    (request,) = sent(api)
    found = request["MessageAttributes"]
    assert {name: found[name] for name in given} == given
    assert [name for name in found if name not in given] == OURS[:ours]
    assert all(each == {"DataType": "String", "StringValue": each["StringValue"]} for each in found.values())


def test_an_attribute_of_the_file_replaces_the_relays(api: Endpoint, output: Outputs) -> None:
    answers(api)
    given = {"smtp-relay-flow": {"DataType": "Number", "StringValue": "7"}}
    output(pubsub={"topic": QUEUE}, sendMessageOptions={"MessageAttributes": given}).process(job_of())
    found = sent(api)[0]["MessageAttributes"]
    assert found["smtp-relay-flow"] == given["smtp-relay-flow"]
    assert found["smtp-relay-from-domain"]["StringValue"] == "example.com"


def test_a_strangers_odd_domain_is_left_out(api: Endpoint, output: Outputs) -> None:
    answers(api)
    mail = "From: <ann@\u202e\ufffe.example>\r\n\r\nhi\r\n".encode()
    output(pubsub={"topic": QUEUE}).process(job_of(mail, recipients=("bob@[192.0.2.1]",)))
    assert set(sent(api)[0]["MessageAttributes"]) == {"smtp-relay-flow", "smtp-relay-id"}


@pytest.mark.parametrize(
    ("answer", "kind", "enhanced"),
    [
        (refusal("QueueDoesNotExist"), Permanent, "5.1.2"),
        (refusal("InvalidMessageContents"), Permanent, "5.3.0"),
        (refusal("RequestThrottled", status=403), Temporary, "4.4.5"),
        (refusal("AccessDenied", status=403), Temporary, "4.3.0"),
        (Says(403, b"<html>a proxy that lets nobody through</html>"), Temporary, "4.3.0"),
        (Says(407, b""), Temporary, "4.3.0"),
        (refusal("KMS.DisabledException"), Temporary, "4.3.0"),
        (refusal("ServiceUnavailable", status=503), Temporary, "4.3.0"),
    ],
)
def test_refusals(api: Endpoint, output: Outputs, answer: Says, kind: type, enhanced: str) -> None:
    answers(api, answer)
    fault = fault_of(lambda: output(pubsub={"topic": QUEUE}).process(job_of()))
    assert type(fault) is kind
    assert fault.enhanced == enhanced
    assert len(api.asked) == 1, "one attempt"


def test_an_answer_that_never_came_is_in_doubt(api: Endpoint, output: Outputs) -> None:
    answers(api, Says(raw=b""))
    fault = fault_of(lambda: output(pubsub={"topic": QUEUE}).process(job_of()))
    assert isinstance(fault, Temporary)
    assert fault.in_doubt
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (QUEUE, ("eu-west-1", None)),
        ("https://eu-west-1.queue.amazonaws.com/1/q", ("eu-west-1", None)),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", ("cn-north-1", None)),
        ("http://127.0.0.1:4566/0/q", (None, "http://127.0.0.1:4566")),
    ],
)
def test_where_a_queue_is(url: str, place: tuple[str | None, str | None]) -> None:
    assert place_of(url) == place
