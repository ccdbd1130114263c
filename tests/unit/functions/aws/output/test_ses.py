"""Sending through SES v2: compared with the requests on the wire."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from functions.aws.output.ses import addressed
from functions.aws.output.ses_account import CLOSED_FOR, Account, SesClosed, instances
from functions.errors import Permanent, Temporary
from functions.message.envelope import FlowNotes
from functions.processors.store import CloudProcessor
from tests.support.mails.jobs import Receipts, fault_of, job_of
from tests.support.mails.spooled import MAIL, envelope_of
from tests.support.servers.endpoint import Asked, Endpoint, Says

SEND = "/v2/email/outbound-emails"
SENT = Says(body=b'{"MessageId":"m-1"}', headers={"Content-Type": "application/json"})

Outputs = Callable[..., CloudProcessor]


def quota(rate: float = 1000.0) -> Says:
    return Says(body=json.dumps({"SendQuota": {"MaxSendRate": rate, "Max24HourSend": 1e6}}).encode())


def refusal(code: str, message: str = "no", status: int = 400) -> Says:
    headers = {"x-amzn-ErrorType": code, "Content-Type": "application/json"}
    return Says(status, json.dumps({"message": message}).encode(), headers)


def answers(api: Endpoint, *sends: Says, rate: float = 1000.0) -> None:
    """The first sends are answered so, all further ones well."""
    left = list(sends)

    def answer(asked: Asked) -> Says:
        if asked.path == "/v2/email/account":
            return quota(rate)
        return left.pop(0) if left else SENT

    api.answer = answer


def requests(api: Endpoint) -> list[dict[str, Any]]:
    return [json.loads(asked.body) for asked in api.asked if asked.path == SEND]


def raw(request: dict[str, Any]) -> bytes:
    return base64.b64decode(request["Content"]["Raw"]["Data"])


def test_mail_and_envelope_go_unchanged(api: Endpoint, output: Outputs) -> None:
    answers(api)
    output(ses=True).process(job_of(recipients=("bob@example.com", "carol@example.net")))
    (request,) = requests(api)
    assert raw(request) == MAIL
    assert request["Destination"] == {"ToAddresses": ["bob@example.com", "carol@example.net"]}
    assert "FromEmailAddress" not in request, "From comes from the mail, never from the reverse-path"
    (tag,) = request["EmailTags"]
    assert tag["Name"] == "smtp-relay-id"


def test_every_byte_survives(api: Endpoint, output: Outputs) -> None:
    answers(api)
    mail = (
        b"From: a@example.com\r\nSubject: \xe9\xff\r\n\r\n" + bytes(range(1, 256)) * 40 + b"\r\n.\r\n..\r\n"
    )
    output(ses=True).process(job_of(mail))
    assert raw(requests(api)[0]) == mail


def test_a_mail_of_25_megabytes(api: Endpoint, output: Outputs) -> None:
    answers(api)
    mail = MAIL + b"0123456789abcdef" * (25 * 65_536)
    output(ses=True).process(job_of(mail))
    assert raw(requests(api)[0]) == mail


def test_larger_than_ses_takes_is_permanent(api: Endpoint, output: Outputs) -> None:
    job = job_of(MAIL + b"x" * 41_943_040)
    fault = fault_of(lambda: output(ses=True).process(job))
    assert isinstance(fault, Permanent)
    assert fault.enhanced == "5.3.4"
    assert not requests(api)


@pytest.mark.parametrize(
    "field", [b"Bcc: x@example.com\r\n", b"bcc:\r\n x@example.com,\r\n\ty@example.com\r\n"]
)
def test_bcc_is_removed(api: Endpoint, output: Outputs, field: bytes) -> None:
    answers(api)
    mail = b"From: a@example.com\r\n" + field + b"Subject: Bcc: stays\r\n\r\nBcc: this too\r\n"
    output(ses=True).process(job_of(mail))
    assert raw(requests(api)[0]) == mail.replace(field, b"")


def test_fields_of_the_flow_stand_on_top(api: Endpoint, output: Outputs) -> None:
    answers(api)
    notes = {"in": FlowNotes(headers=(("Authentication-Results", "us; spf=pass"),))}
    mail = b"Bcc: x@example.com\r\n" + MAIL
    output(ses=True).process(job_of(mail, envelope=envelope_of(mail, notes=notes)))
    assert raw(requests(api)[0]) == b"Authentication-Results: us; spf=pass\r\n" + MAIL


def test_every_option_of_send_raw_email_is_carried_over(api: Endpoint, output: Outputs) -> None:
    answers(api)
    arn = "arn:aws:ses:eu-west-1:123456789012:identity/"
    options = {
        "Source": "Relay <relay@example.com>",
        "Destinations": ["catch-all@example.com"],
        "ConfigurationSetName": "set",
        "Tags": [{"Name": "team", "Value": "mail"}],
        "FromArn": f"{arn}from",
        "SourceArn": f"{arn}source",
        "ReturnPathArn": f"{arn}path",
    }
    output(ses={}, sendRawEmailOptions=options).process(job_of())
    (request,) = requests(api)
    assert request["FromEmailAddress"] == "Relay <relay@example.com>"
    assert request["Destination"] == {"ToAddresses": ["catch-all@example.com"]}
    assert request["ConfigurationSetName"] == "set"
    assert {"Name": "team", "Value": "mail"} in request["EmailTags"]
    assert request["FromEmailAddressIdentityArn"] == f"{arn}source"
    assert request["FeedbackForwardingEmailAddressIdentityArn"] == f"{arn}path"


def test_the_identity_of_the_mails_own_from(api: Endpoint, output: Outputs) -> None:
    answers(api)
    options = {"FromArn": "arn:from", "SourceArn": "arn:source"}
    output(ses={}, sendRawEmailOptions=options).process(job_of())
    assert requests(api)[0]["FromEmailAddressIdentityArn"] == "arn:from"


def test_more_than_fifty_recipients_are_split_and_each_part_sent_once(api: Endpoint, output: Outputs) -> None:
    recipients = tuple(f"r{number}@example.com" for number in range(120))
    answers(api, SENT, refusal("InternalServiceErrorException", status=500))
    job = job_of(recipients=recipients)
    processor = output(ses=True)
    assert isinstance(fault_of(lambda: processor.process(job)), Temporary)
    processor.process(job)
    sent = [request["Destination"]["ToAddresses"] for request in requests(api)]
    assert [len(part) for part in sent] == [50, 50, 50, 20]
    assert sent[1] == sent[2], "the part that failed, and no other, was sent again"
    assert [*sent[0], *sent[2], *sent[3]] == list(recipients)


def test_a_part_refused_for_good_does_not_hold_up_the_others(api: Endpoint, output: Outputs) -> None:
    recipients = tuple(f"r{number}@example.com" for number in range(70))
    answers(api, refusal("MessageRejected", "Email address is not verified."))
    fault = fault_of(lambda: output(ses=True).process(job_of(recipients=recipients)))
    assert isinstance(fault, Permanent)
    assert fault.recipients == recipients[:50]
    assert len(requests(api)) == 2


def test_no_part_starts_with_too_little_of_the_run_left(api: Endpoint, output: Outputs) -> None:
    answers(api)
    recipients = tuple(f"r{number}@example.com" for number in range(70))
    fault = fault_of(lambda: output(ses=True).process(job_of(recipients=recipients, seconds_left=20)))
    assert fault.enhanced == "4.4.7"
    assert len(requests(api)) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "enhanced"),
    [
        (refusal("MessageRejected", "Email address is not verified."), Permanent, "5.7.1"),
        (refusal("MailFromDomainNotVerifiedException"), Permanent, "5.7.1"),
        (refusal("BadRequestException", "Illegal address"), Permanent, "5.3.0"),
        (refusal("NotFoundException", "Configuration set <x> does not exist", 404), Permanent, "5.1.2"),
        (refusal("AccessDeniedException", "not authorized on identity/x", 403), Permanent, "5.7.1"),
        (refusal("InternalServiceErrorException", status=500), Temporary, "4.3.0"),
        (refusal("ExpiredTokenException", status=403), Temporary, "4.3.0"),
        (Says(403, b"<html>a proxy that lets nobody through</html>"), Temporary, "4.3.0"),
    ],
)
def test_refusals(api: Endpoint, output: Outputs, answer: Says, kind: type, enhanced: str) -> None:
    answers(api, answer)
    fault = fault_of(lambda: output(ses=True).process(job_of()))
    assert type(fault) is kind
    assert fault.enhanced == enhanced
    assert len(requests(api)) == 1, "one attempt"
    assert not getattr(fault, "in_doubt", False), "a refusal is an answer"


@pytest.mark.parametrize(
    "answer", [Says(raw=b""), Says(body=b""), Says(body=b"{}")], ids=["none", "empty", "without an id"]
)
def test_an_answer_that_never_came_is_in_doubt(api: Endpoint, output: Outputs, answer: Says) -> None:
    answers(api, answer)
    fault = fault_of(lambda: output(ses=True).process(job_of()))
    assert isinstance(fault, Temporary)
    assert fault.in_doubt
    assert len(requests(api)) == 1, "botocore must not send again"


def test_a_read_timeout_is_in_doubt(api: Endpoint, output: Outputs) -> None:
    release = threading.Event()
    answers(api, Says(hang=release))
    processor = output(ses=True, sesClient={"endpoint": api.url, "config": {"read_timeout": 0.2}})
    fault = fault_of(lambda: processor.process(job_of()))
    release.set()
    assert isinstance(fault, Temporary)
    assert fault.in_doubt
    assert len(requests(api)) == 1


def test_no_server_there_is_not_a_doubt(output: Outputs) -> None:
    processor = output(ses={"maxSendRate": 10}, sesClient={"endpoint": "http://127.0.0.1:1"})
    fault = fault_of(lambda: processor.process(job_of()))
    assert isinstance(fault, Temporary)
    assert not fault.in_doubt


def test_a_rate_refusal_is_waited_out_in_place(api: Endpoint, output: Outputs) -> None:
    limit = refusal("TooManyRequestsException", "Maximum sending rate exceeded.", 429)
    answers(api, limit, limit)
    receipts = Receipts()
    output(ses=True).process(job_of(once=receipts))
    assert len(requests(api)) == 3
    assert receipts.done == {"ses-0": "m-1"}


@pytest.mark.parametrize(
    "answer",
    [
        refusal("TooManyRequestsException", "Daily message quota exceeded.", 429),
        refusal("LimitExceededException"),
        refusal("SendingPausedException"),
        refusal("AccountSuspendedException"),
    ],
)
def test_closed_for_a_quarter_of_an_hour(api: Endpoint, output: Outputs, answer: Says) -> None:
    answers(api, answer)
    processor = output(ses=True)
    first = fault_of(lambda: processor.process(job_of()))
    second = fault_of(lambda: processor.process(job_of()))
    for fault in (first, second):
        assert isinstance(fault, SesClosed)
        assert fault.retry_after == pytest.approx(CLOSED_FOR, abs=5)
    assert len(requests(api)) == 1, "while closed SES is not asked"


def test_rate_is_the_accounts_own_and_asked_for_once(api: Endpoint, output: Outputs) -> None:
    answers(api)
    processor = output(ses=True)
    processor.process(job_of())
    processor.process(job_of())
    assert [asked.path for asked in api.asked].count("/v2/email/account") == 1


def test_a_rate_in_the_file_is_not_asked_for(api: Endpoint, output: Outputs) -> None:
    answers(api)
    output(ses={"maxSendRate": 14}).process(job_of())
    assert [asked.path for asked in api.asked] == [SEND]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_pacing_is_by_recipients() -> None:
    clock = Clock()
    account = Account(lambda: 10.0, clock=lambda: clock.now, sleep=clock.sleep)
    begun = clock.now
    for _ in range(6):
        account.wait(50, lambda: 1000.0)
    # 300 recipients, of which the last 50 need no waiting, less one second's burst.
    assert clock.now - begun == pytest.approx(24.0)


def test_pacing_returns_mails_that_would_wait_too_long() -> None:
    clock = Clock()
    account = Account(lambda: 1.0, clock=lambda: clock.now, sleep=clock.sleep)
    account.wait(50, lambda: 100.0)
    fault = fault_of(lambda: account.wait(1, lambda: 60.0))
    assert isinstance(fault, Temporary)
    assert fault.retry_after == pytest.approx(49.0)
    assert clock.now == 1000.0


def test_a_refused_rate_is_halved_and_recovers_slowly() -> None:
    clock = Clock()
    account = Account(lambda: 16.0, clock=lambda: clock.now, sleep=clock.sleep)
    account.wait(1, lambda: 100.0)
    account.refused()
    account.refused()
    assert account.rate == 4.0
    account.accepted()
    assert 4.0 < account.rate < 5.0
    for _ in range(100):
        account.accepted()
    assert account.rate == 16.0


@pytest.mark.parametrize(("rate", "expected"), [(1.0, 2), (14.0, 4), (100.0, 25)])
def test_instances_of_a_function(rate: float, expected: int) -> None:
    assert instances(rate, {"AWS_LAMBDA_FUNCTION_NAME": "f"}) == expected
    assert instances(rate, {"AWS_LAMBDA_FUNCTION_NAME": "f", "SMTP_RELAY_SES_CONCURRENCY": "7"}) == 7
    assert instances(rate, {}) == 1


def test_domains_go_in_their_ascii_form() -> None:
    assert addressed(("bob@bücher.example", "bob@example.com", "bob@example.com")) == [
        "bob@xn--bcher-kva.example",
        "bob@example.com",
    ]


@pytest.mark.parametrize(
    ("recipient", "sent"),
    [
        ("kunde@faß.example", "kunde@xn--fa-hia.example"),
        ("kunde@FAẞ.example", "kunde@xn--fa-hia.example"),
        ("kunde@βόλος.example", "kunde@xn--nxasmm1c.example"),
        ("kunde@mu\u0308nchen\u3002example", "kunde@xn--mnchen-3ya.example"),
        ("kunde@fass.example", "kunde@fass.example"),
        ("kunde@a_b.example", "kunde@a_b.example"),
        ("kunde@[192.0.2.1]", "kunde@[192.0.2.1]"),
    ],
)
def test_a_domain_never_becomes_another_one(recipient: str, sent: str) -> None:
    """IDNA 2008 keeps names apart that IDNA 2003 took for one."""
    assert addressed((recipient,)) == [sent]


def test_two_ways_to_write_a_domain_are_one_recipient() -> None:
    assert addressed(("bob@münchen.example", "bob@xn--mnchen-3ya.example")) == ["bob@xn--mnchen-3ya.example"]


@pytest.mark.parametrize(
    "recipient",
    ["bøb@example.com", "bøb", "bob@💩.example", "bob@a_ü.example", "bob@" + "ü" * 60 + ".example", "ü@💩"],
)
def test_an_address_without_an_ascii_form_is_permanent(recipient: str) -> None:
    fault = fault_of(lambda: addressed((recipient,)))
    assert isinstance(fault, Permanent)
    assert fault.enhanced == "5.6.7"


def test_the_role_is_assumed_with_its_external_id(
    api: Endpoint, output: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", api.url)
    credentials = (
        "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASSUMED</AccessKeyId>"
        "<SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
        "<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"
    )

    def answer(asked: Asked) -> Says:
        if asked.path == "/":
            return Says(body=credentials.encode(), headers={"Content-Type": "text/xml"})
        return SENT

    api.answer = answer
    role = {"roleArn": "arn:aws:iam::123456789012:role/mail", "externalId": "x-1"}
    output(ses={"maxSendRate": 10}, assumeRole=role).process(job_of())
    assume, send = api.asked
    assert b"ExternalId=x-1" in assume.body
    assert b"role%2Fmail" in assume.body
    assert "Credential=ASSUMED/" in send.headers["authorization"]
    assert send.headers["x-amz-security-token"] == "t"
