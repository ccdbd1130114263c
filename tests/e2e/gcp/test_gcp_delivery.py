"""A real client, the real listener, and the source zip as a function: mails arrive as the flows say."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Callable

from cloudevents.http import from_json

from functions.message.event.cloudevent import MOST_TEXT
from functions.options.jsonc import parse
from tests.support.clouds.gcp_stack import Stack
from tests.support.mails.life import lines_of, told
from tests.support.mails.stored import strip_added_fields, with_everything
from tests.support.net import HOST
from tests.support.servers.relay import ROOT, Relay

Stacks = Callable[..., Stack]
Listeners = Callable[..., Relay]


def send(relay: Relay, mail: bytes, *recipients: str) -> None:
    with smtplib.SMTP(HOST, relay.port) as client:
        client.sendmail("ada@example.com", recipients or ("bob@example.com",), mail, ["BODY=8BITMIME"])


def test_everything_a_gcp_output_does(stack_for: Stacks, listener_for: Listeners) -> None:
    stack = stack_for(
        {
            "raw": [
                {
                    "type": "gcp",
                    "storage": {"bucket": "{bucket}", "path": "raw/${id}.eml"},
                    "pubsub": {"topic": "{topic:events}"},
                },
                {"type": "gcp", "storage": {"bucket": "{bucket}", "path": "plain/", "addRawHeaders": False}},
            ],
            "parts": [
                {"type": "gcp", "storage": {"bucket": "{bucket}", "path": f"{kind}/", "type": kind}}
                for kind in ("attachments", "text", "html")
            ]
            + [{"type": "gcp", "pubsub": {"topic": "{topic:bare}", "truncate": 5}}, {"type": "log"}],
        },
        settings={"keepCache": True},
    )
    relay = listener_for(stack)
    mail = with_everything()
    send(relay, mail, "bob@example.com", "carol@example.com")
    stack.settled()

    stored = stack.stored()
    by_folder = {key.partition("/")[0]: data for key, data in stored.items()}
    assert sorted(by_folder) == ["attachments", "html", "plain", "raw", "text"]
    raw = by_folder["raw"]
    assert raw.startswith(b"X-smtp-relay-RCPT_TO: bob@example.com\r\nX-smtp-relay-RCPT_TO: carol@")
    assert strip_added_fields(raw[raw.index(b"x-smtp-relay:") :]) == mail
    assert strip_added_fields(by_folder["plain"]) == mail
    assert by_folder["attachments"] == b"PDF"
    assert by_folder["text"].startswith(b"plain text")
    assert by_folder["html"].startswith(b"<p>html</p>")
    pdf = stack.gcs.about(stack.target, next(key for key in stored if key.startswith("attachments/")))
    assert pdf["contentType"] == "application/pdf"

    (message,) = stack.messages("events")
    event = from_json(message["data"])
    key = next(key for key in stored if key.startswith("raw/"))
    assert event["type"] == "com.loopingz.smtp-relay.v2"
    assert event.data["storage"]["url"] == f"gs://{stack.target}/{key}"
    assert event.data["email"]["subject"] == "Grüße"
    assert message["attributes"]["smtp-relay-id"] == event["id"]
    assert message["attributes"]["content-type"].startswith("application/cloudevents+json")
    (bare,) = stack.messages("bare")
    assert json.loads(bare["data"])["data"]["email"]["text"] == "plain"
    assert "storage" not in json.loads(bare["data"])["data"]

    (kept,) = stack.keys("kept/")
    assert kept.endswith(f"{event['id']}.eml")
    assert stack.dead_records() == []
    of_mail = [entry for entry in stack.function.entries() if entry.get("id") == event["id"]]
    assert {"stored", "output done", "delivered", "finished"} <= {entry["message"] for entry in of_mail}
    assert {entry["severity"] for entry in of_mail} == {"INFO"}


def test_large_and_eight_bit_mails_arrive_as_they_were_sent(
    stack_for: Stacks, listener_for: Listeners
) -> None:
    stack = stack_for(
        {
            "in": [
                {
                    "type": "gcp",
                    "storage": {"bucket": "{bucket}", "addRawHeaders": False},
                    "pubsub": {"topic": "{topic:out}", "truncate": 50_000_000},
                }
            ]
        }
    )
    relay = listener_for(stack)
    line = "Grüße aus dem Großen ".encode() * 40 + b"\r\n"
    large = b"Subject: large\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n" + line * 30_000
    assert len(large) > 25_000_000
    small = "Subject: Grüße\r\n\r\nGrüße\r\n".encode()
    for mail in (large, small):
        send(relay, mail)
    stack.settled()
    assert sorted(map(strip_added_fields, stack.stored().values()), key=len) == [small, large]
    few, much = sorted((message["data"] for message in stack.messages("out", least=2)), key=len)
    assert len(few) < 10_000
    # Eight such mails at once must not take the memory of eight events of 10 MB.
    assert MOST_TEXT <= len(much) <= 10_000_000
    (cut,) = json.loads(much)["data"]["truncated"]["fields"]
    assert (cut["field"], cut["atLeast"]) == ("email.text", True)


def test_the_examples_deliver(stack_for: Stacks, listener_for: Listeners) -> None:
    """The reference's own configuration, and the one with a topic."""
    flows = {}
    for name in ("mail2gcp", "mail2gcppubsub"):
        text = (ROOT / "configs" / f"{name}.jsonc").read_text()
        text = text.replace("projects/my-project/topics/inbound-mail", "{topic:inbound}")
        config = parse(text.replace("myemail", "{bucket}"))
        flows[name] = config["flows"]["inbound"]["outputs"]
    stack = stack_for(flows)
    relay = listener_for(stack)
    send(relay, b"Subject: hello\r\n\r\nhi\r\n", "bob@mydomain.com")
    stack.settled()
    first, second = sorted(stack.stored(), key=lambda key: key.count("/"))
    assert first.endswith(".eml")
    assert second.count("/") == 3
    (message,) = stack.messages("inbound")
    assert json.loads(message["data"])["data"]["storage"]["url"] == f"gs://{stack.target}/{second}"


def test_local_mode(stack_for: Stacks, new_relay: Callable[..., Relay]) -> None:
    """One container, no function: the same output, in-process."""
    stack = stack_for(
        {
            "in": [
                {
                    "type": "gcp",
                    "storage": {"bucket": "{bucket}"},
                    "pubsub": {"topic": "{topic:out}"},
                }
            ]
        },
        notify=False,
    )
    flows = {"in": {"filters": [{"type": "whitelist", "ips": [HOST]}], **stack.raw["flows"]["in"]}}
    environment = {name: value for name, value in stack.environment.items() if "SPOOL" not in name}
    relay = new_relay({"flows": flows, "delivery": {"waitFor": "all"}}, env=environment).start()
    send(relay, b"Subject: hello\r\n\r\nhi\r\n")
    assert len(stack.stored()) == 1
    assert len(stack.messages("out")) == 1
    assert relay.stop() == 0


def test_out_of_a_bucket_in_process(stack_for: Stacks, listener_for: Listeners) -> None:
    """`delivery.mode: "in-process"` with a spool in Cloud Storage: no topic of events, no function."""
    outputs = [
        {"type": "gcp", "storage": {"bucket": "{bucket}", "addRawHeaders": False}},
        {"type": "gcp", "name": "topic", "pubsub": {"topic": "{topic:out}"}},
    ]
    stack = stack_for({"in": outputs}, settings={"delivery": {"mode": "in-process"}}, notify=False)
    relay = listener_for(stack)
    mail = b"Subject: hello\r\n\r\nhi\r\n"
    send(relay, mail)
    stack.settled()
    assert list(map(strip_added_fields, stack.stored().values())) == [mail]
    assert len(stack.messages("out")) == 1
    assert relay.stop() == 0
    assert "Traceback" not in relay.log()


def test_one_id_finds_the_whole_life_of_a_mail(stack_for: Stacks, listener_for: Listeners) -> None:
    """From the listener's 250 to a dead letter, in the logs of both halves."""
    missing = {"type": "gcp", "name": "archive", "storage": {"bucket": "not-yet"}}
    outputs = [{"type": "gcp", "name": "tell", "pubsub": {"topic": "{topic:out}"}}, missing, {"type": "log"}]
    stack = stack_for({"all": outputs}, settings={"loggers": [{"type": "CONSOLE", "format": "json"}]})
    relay = listener_for(stack)
    send(relay, b"Subject: x\r\n\r\nhello\r\n")
    (message,) = stack.messages("out")
    mail_id = message["attributes"]["smtp-relay-id"]
    stack.until(lambda: "parked" in told(stack.function.log(), mail_id), "the mail to be parked")

    (accepted,) = lines_of(relay.log(), mail_id)
    assert (accepted["message"], accepted["flows"], accepted["ip"]) == ("mail accepted", "all", HOST)
    lines = lines_of(stack.function.log(), mail_id)
    assert [line["output"] for line in lines if line["message"] == "output done"] == ["tell", "log_2"]
    assert {line["output"] for line in lines if line["message"] == "delivered"} == {"tell", "log_2"}
    (given_up,) = [line for line in lines if line["message"] == "given up"]
    assert (given_up["flow"], given_up["output"], given_up["code"]) == ("all", "archive", "5.1.2")
    assert lines[-1]["message"] == "parked"
