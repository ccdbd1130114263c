"""A real client, the real listener, and the zip as a function: mails arrive as the flows say."""

from __future__ import annotations

import smtplib
from collections.abc import Callable

from aws_lambda_powertools.utilities.data_classes import SESEvent

from tests.support.clouds.aws_stack import Stack
from tests.support.mails.life import lines_of, told
from tests.support.mails.stored import strip_added_fields, with_everything
from tests.support.net import HOST
from tests.support.servers.relay import Relay

Stacks = Callable[..., Stack]
Listeners = Callable[..., Relay]


def send(relay: Relay, mail: bytes, *recipients: str) -> None:
    with smtplib.SMTP(HOST, relay.port) as client:
        client.sendmail("ada@example.com", recipients or ("bob@example.com",), mail, ["BODY=8BITMIME"])


def test_everything_an_aws_output_does(stack_for: Stacks, listener_for: Listeners) -> None:
    store = {"type": "aws"}
    stack = stack_for(
        {
            "raw": [
                {
                    **store,
                    "storage": {"bucket": "{bucket}", "path": "raw/${id}.eml"},
                    "pubsub": {"topic": "{queue:events}"},
                    "ses": {"maxSendRate": 50},
                },
                {
                    **store,
                    "name": "as-ses",
                    "storage": {"bucket": "{bucket}", "path": "ses/${id}"},
                    "pubsub": {"topic": "{queue:ses}", "format": "ses"},
                },
            ],
            "parts": [
                {**store, "storage": {"bucket": "{bucket}", "path": f"{kind}/", "type": kind}}
                for kind in ("attachments", "text", "html")
            ]
            + [{"type": "log"}],
        }
    )
    stack.aws.client("sesv2").create_email_identity(EmailIdentity="example.com")
    relay = listener_for(stack)
    mail = with_everything()
    send(relay, mail, "bob@example.com", "carol@example.com")
    stack.settled()

    stored = stack.stored()
    by_folder = {key.partition("/")[0]: data for key, data in stored.items()}
    assert sorted(by_folder) == ["attachments", "html", "raw", "ses", "text"]
    raw = by_folder["raw"]
    assert raw.startswith(b"X-smtp-relay-RCPT_TO: bob@example.com\r\nX-smtp-relay-RCPT_TO: carol@")
    below = raw[raw.index(b"x-smtp-relay:") :]
    assert strip_added_fields(below) == mail
    assert by_folder["attachments"] == b"PDF"
    assert by_folder["text"] == b"plain text\n\n" or by_folder["text"].startswith(b"plain text")
    assert by_folder["html"].startswith(b"<p>html</p>")

    (event,) = stack.messages("events")
    key = next(key for key in stored if key.startswith("raw/"))
    assert event["data"]["storage"]["url"] == f"s3://{stack.target}/{key}"
    assert event["data"]["email"]["subject"] == "Grüße"
    (notification,) = stack.messages("ses")
    ses = SESEvent({"Records": [{"eventSource": "aws:ses", "eventVersion": "1.0", "ses": notification}]})
    assert ses.record.ses.receipt.recipients == ["bob@example.com", "carol@example.com"]
    assert ses.record.ses.receipt.action["objectKey"] == next(k for k in stored if k.startswith("ses/"))
    assert stack.sends() == 1
    assert stack.dead_records() == []


def test_large_and_eight_bit_mails_arrive_as_they_were_sent(
    stack_for: Stacks, listener_for: Listeners
) -> None:
    storage = {"bucket": "{bucket}", "addRawHeaders": False}
    stack = stack_for({"all": [{"type": "aws", "storage": storage}]}, settings={"mailHeaders": {}})
    relay = listener_for(stack, received=False)
    lines = b"Subject: \xe9\r\n\r\n" + bytes(range(1, 10)) + bytes(range(14, 256)) + b"\r\n"
    mails = [lines, lines + b"0123456789abcdef\r\n" * 1_400_000]
    for mail in mails:
        send(relay, mail)
    stack.settled()
    assert sorted(map(len, stack.stored().values())) == sorted(map(len, mails))
    assert set(stack.stored().values()) == set(mails)


def test_recipients_that_ses_cannot_reach_are_refused_at_rcpt(
    stack_for: Stacks, listener_for: Listeners
) -> None:
    stack = stack_for({"all": [{"type": "aws", "ses": {"maxSendRate": 10}}]}, notify=False)
    relay = listener_for(stack)
    with smtplib.SMTP(HOST, relay.port) as client:
        client.ehlo()
        client.mail("ada@example.com", ["SMTPUTF8"])
        assert client.docmd("RCPT", "TO:<bøb@example.com>".encode().decode("latin-1"))[0] in (553, 501)
        client.command_encoding = "utf-8"
        code, text = client.docmd("RCPT", "TO:<bøb@example.com>")
        assert (code, text[:5]) == (553, b"5.6.7")
        assert client.rcpt("bob@example.com")[0] == 250


def test_a_missing_bucket_defers_and_kills_nothing(stack_for: Stacks, listener_for: Listeners) -> None:
    stack = stack_for({"all": [{"type": "log"}]}, notify=False)
    stack.raw["spool"] = "s3://no-such-bucket-here/x"
    relay = listener_for(stack)
    with smtplib.SMTP(HOST, relay.port) as client:
        client.ehlo()
        client.mail("a@example.com")
        client.rcpt("b@example.com")
        code, text = client.data(b"Subject: x\r\n\r\n")
        assert code == 451
        assert b"bucket" not in text.lower()
        assert client.noop()[0] == 250


def test_partly_refused_recipients_travel_with_the_mail(stack_for: Stacks) -> None:
    stack = stack_for({"in": [{"type": "aws", "storage": {"bucket": "{bucket}"}}]})
    from functions.message.envelope import Refused

    stack.put(refused=(Refused(address="no@example.com", reason="550 5.7.1 no", code="5.7.1"),))
    stack.settled()
    (record,) = stack.dead_records()
    assert record["recipients"] == ["no@example.com"]


def test_kept_mail_is_kept(stack_for: Stacks) -> None:
    stack = stack_for(
        {"in": [{"type": "aws", "storage": {"bucket": "{bucket}"}}]}, settings={"keepCache": True}
    )
    key = stack.put()
    stack.settled()
    (kept,) = stack.keys(prefix=f"{stack.prefix}kept/")
    assert kept.rpartition("/")[2] == key.rpartition("/")[2]


def test_one_id_finds_the_whole_life_of_a_mail(stack_for: Stacks, listener_for: Listeners) -> None:
    """From the listener's 250 to a dead letter, its replay and the end, in the logs of both halves."""
    missing = {"type": "aws", "name": "archive", "storage": {"bucket": "not-yet-{bucket}"}}
    outputs = [{"type": "aws", "name": "tell", "pubsub": {"topic": "{queue:out}"}}, missing, {"type": "log"}]
    loggers = [{"type": "CONSOLE", "format": "json"}]
    stack = stack_for({"all": outputs}, settings={"loggers": loggers})
    relay = listener_for(stack)
    send(relay, b"Subject: x\r\n\r\nhello\r\n")
    (event,) = stack.messages("out")
    mail_id = event["id"]
    stack.until(lambda: "parked" in told(stack.aws.log(), mail_id), "the mail to be parked")

    (accepted,) = lines_of(relay.log(), mail_id)
    assert (accepted["message"], accepted["flows"], accepted["ip"]) == ("mail accepted", "all", HOST)
    lines = lines_of(stack.aws.log(), mail_id)
    assert [line["output"] for line in lines if line["message"] == "output done"] == ["tell", "log_2"]
    (given_up,) = [line for line in lines if line["message"] == "given up"]
    assert (given_up["flow"], given_up["output"], given_up["code"]) == ("all", "archive", "5.1.2")
    assert "NoSuchBucket" in given_up["reason"]

    stack.s3.create_bucket(Bucket=f"not-yet-{stack.target}")
    stack.command("deadletter", "replay", mail_id, "--now")
    stack.until(lambda: "finished" in told(stack.aws.log(), mail_id), "the mail to be finished")
    lines = lines_of(stack.aws.log(), mail_id)
    assert {line["output"] for line in lines if line["message"] == "delivered"} == {
        "tell",
        "archive",
        "log_2",
    }
