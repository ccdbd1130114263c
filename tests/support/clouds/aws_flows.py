"""A configuration that uses all features of an AWS output, and checks of the deliveries."""

from __future__ import annotations

import json
import os
import smtplib
import socket
import struct
import urllib.request
from collections.abc import Callable, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

from tests.support.clouds.aws_topics import Bus, Topic
from tests.support.clouds.ministack import Ministack
from tests.support.net import HOST, PATIENCE, free_port, wait_until
from tests.support.servers.relay import Relay

SENDER: Final = "ada@example.com"


class Targets:
    """A bucket, two queues, a topic and a bus that outputs write to."""

    def __init__(self, aws: Ministack) -> None:
        self.aws = aws
        self.s3, self.sqs = aws.client("s3"), aws.client("sqs")
        mark = os.urandom(4).hex()
        name = f"targets-{mark}"
        self.recipient = f"bob-{mark}@example.com"
        self.bucket = name
        self.s3.create_bucket(Bucket=name)
        self.events, self.notifications = (
            self.sqs.create_queue(QueueName=f"{name}-{kind}")["QueueUrl"] for kind in ("events", "ses")
        )
        topic = Topic(aws, f"{name}-topic", {"smtp-relay-to-domain": ["example.com"]})
        bus = Bus(aws, f"{name}-bus", {"data": {"flow": ["all"]}})
        self.topic, self.subscribed = topic.arn, topic.queue
        self.bus, self.matched = bus.arn, bus.queue
        aws.client("sesv2").create_email_identity(EmailIdentity="example.com")

    def config(self) -> dict[str, Any]:
        """All four kinds of objects, both kinds of messages to three services, and SES."""
        kinds = [
            {"type": "aws", "storage": {"bucket": self.bucket, "path": f"{kind}/", "type": kind}}
            for kind in ("attachments", "text", "html")
        ]
        everything = {
            "type": "aws",
            "storage": {"bucket": self.bucket, "path": "raw/${id}.eml"},
            "pubsub": {"topic": self.events},
            "ses": {"maxSendRate": 50, "identities": ["example.com"]},
        }
        as_ses = {"type": "aws", "name": "as-ses", "pubsub": {"topic": self.notifications, "format": "ses"}}
        also = [{"type": "aws", "pubsub": {"topic": topic}} for topic in (self.topic, self.bus)]
        flow = {
            "filters": [{"type": "whitelist", "to": ["regexp:.*@example\\.com"], "ips": [HOST]}],
            "outputs": [everything, as_ses, *also, *kinds],
        }
        return {"flows": {"all": flow}, "options": {"authOptional": True, "disableReverseLookup": True}}

    def check_one(self) -> None:
        """Exactly one mail arrived everywhere. Raises AssertionError."""
        entries = self.s3.list_objects_v2(Bucket=self.bucket).get("Contents", [])
        keys = sorted(entry["Key"].partition("/")[0] for entry in entries)
        assert keys == ["attachments", "html", "raw", "text"], keys
        (event,) = self._messages(self.events)
        assert event["data"]["email"]["subject"] == "Grüße"
        (notification,) = self._messages(self.notifications)
        assert notification["receipt"]["recipients"] == [self.recipient]
        assert notification["mail"]["source"] == SENDER
        (event,) = self._messages(self.subscribed)
        assert event["data"]["email"]["subject"] == "Grüße"
        (event,) = self._messages(self.matched)
        assert event["detail-type"] == event["detail"]["type"]
        assert event["detail"]["data"]["email"]["subject"] == "Grüße"
        assert len([one for one in self._sent() if self.recipient in json.dumps(one)]) == 1

    def _messages(self, queue: str) -> list[Any]:
        answer = self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10, WaitTimeSeconds=1)
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

    def _sent(self) -> list[Any]:
        with urllib.request.urlopen(f"{self.aws.url}/_ministack/ses/messages", timeout=PATIENCE) as answer:
            return [one for account in json.load(answer)["messages"].values() for one in account]


def mail(recipient: str) -> bytes:
    """Text, HTML, an attachment, and a subject that is not ASCII."""
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = f"Ada <{SENDER}>", recipient, "Grüße"
    made.set_content("plain text\n")
    made.add_alternative("<p>html</p>\n", subtype="html")
    made.add_attachment(b"PDF", maintype="application", subtype="pdf", filename="a.pdf")
    return made.as_bytes().replace(b"\n", b"\r\n")


class BehindBalancer(smtplib.SMTP):
    """A client whose connection comes through the load balancer, which names it in a PROXY v2 header."""

    def _get_socket(self, host: str, port: int, timeout: Any) -> socket.socket:
        connection = socket.create_connection((host, port), timeout)
        near, far = connection.getsockname(), connection.getpeername()
        addresses = socket.inet_aton(near[0]) + socket.inet_aton(far[0])
        ports = struct.pack("!HH", near[1], far[1])
        connection.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + addresses + ports)
        return connection


class DeployedListener(Relay):
    """The listener as a task definition says, except for ports and addresses that are free here."""

    def __init__(self, folder: Path, aws: Ministack, variables: Mapping[str, str]) -> None:
        super().__init__(folder)
        listeners = json.loads(variables["SMTP_RELAY_LISTENERS"])
        for one in listeners:
            one |= {"bind": HOST, "port": self.port if one["name"] == "25" else free_port()}
        here = {
            "SMTP_RELAY_LISTENERS": json.dumps(listeners),
            "SMTP_RELAY_HEALTH_PORT": str(free_port()),
        }
        self._env = {**variables, **aws.environment, **here}

    def command(self) -> list[str]:
        return self.command_for()

    def send(self, recipient: str) -> None:
        """Send the mail with a real client, as through the load balancer."""
        with BehindBalancer(HOST, self.port, timeout=30) as client:
            client.sendmail(SENDER, [recipient], mail(recipient))


def variables_of(aws: Ministack, family: str) -> dict[str, str]:
    """The environment in the newest task definition whose family begins so."""
    ecs = aws.client("ecs")
    arns = [arn for arn in ecs.list_task_definitions()["taskDefinitionArns"] if f"/{family}" in arn]
    found = ecs.describe_task_definition(taskDefinition=arns[-1])["taskDefinition"]
    (container,) = found["containerDefinitions"]
    return {one["name"]: one["value"] for one in container["environment"]}


def until(condition: Callable[[], bool], what: str, aws: Ministack, seconds: float = PATIENCE) -> None:
    """Wait. Raises TimeoutError with the end of AWS's log."""
    try:
        wait_until(condition, seconds=seconds, what=what, every=0.05)
    except TimeoutError as error:
        raise TimeoutError(f"{error}:\n{aws.log()[-6000:]}") from None
