"""The golden recording of output identities: options of every type, and their names in receipts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from functions.delivery.engine import output_key
from functions.message.envelope import Envelope
from functions.processors.registry import OUTPUTS
from tests.support.golden.recording import read_json, write_json
from tests.support.mails.spooled import envelope_of

_QUEUE: Final = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"
_ROLE: Final = "arn:aws:iam::123456789012:role/mail"
_PASSWORD: Final = "env:NEXT_HOP_PASSWORD"

OPTIONS: Final[tuple[dict[str, Any], ...]] = (
    {"type": "file", "path": "received"},
    {"type": "file", "path": "/var/mail/in", "filename": "${domain}/${id}.eml"},
    {"type": "file", "path": "received", "filename": "./a/./${iso8601}.eml"},
    {"type": "file", "path": "received", "name": "archive"},
    {"type": "log"},
    {"type": "log", "fields": []},
    {"type": "log", "fields": ["subject", "from"]},
    {"type": "log", "name": "audit"},
    {"type": "mailer"},
    {"type": "nodemailer"},
    {"type": "mailer", "nodemailer": {"host": "mx.example.net"}},
    {"type": "mailer", "nodemailer": {"host": "mx.example.net", "secure": True}},
    {"type": "mailer", "nodemailer": {"host": "mx.example.net", "port": 2525, "pool": True}},
    {"type": "mailer", "nodemailer": {"service": "gmail", "auth": {"user": "ada", "pass": _PASSWORD}}},
    {
        "type": "mailer",
        "nodemailer": {"host": "mx.example.net", "auth": {"user": "a", "accessToken": _PASSWORD}},
    },
    {"type": "mailer", "nodemailer": "smtp://ada:env%3ANEXT_HOP_PASSWORD@mx.example.net:26/?pool=true"},
    {"type": "mailer", "nodemailer": "smtps://mx.example.net"},
    {"type": "mailer", "override": {"to": "a@example.org"}},
    {"type": "mailer", "override": {"to": ["Ann <a@example.org>", "b@example.org"], "cc": "c@example.org"}},
    {
        "type": "mailer",
        "override": {"bcc": {"name": "Ann", "address": "a@example.org"}, "from": "f@example.org"},
    },
    {"type": "mailer", "override": {"subject": "other", "headers": {"X-A": "b"}}},
    {"type": "mailer", "name": "next-hop", "nodemailer": {"host": "mx.example.net"}},
    {"type": "webhook", "url": "https://example.net/in?token=1"},
    {"type": "webhook", "url": "env:HOOK_URL", "format": "raw"},
    {"type": "webhook", "name": "crm", "url": "https://example.net/in"},
    {"type": "aws", "storage": {"bucket": "mail"}},
    {"type": "aws", "storage": {"bucket": "mail", "path": "in/"}},
    {"type": "aws", "storage": {"bucket": "mail", "path": "/in/${id}.eml", "addRawHeaders": False}},
    {"type": "aws", "storage": {"bucket": "mail", "type": "attachments"}},
    {"type": "aws", "storage": {"bucket": "mail", "path": "in/${id}/${attachment}", "type": "attachments"}},
    {"type": "aws", "storage": {"bucket": "mail", "path": "${id}.txt", "type": "text"}},
    {"type": "aws", "storage": {"bucket": "mail", "path": "${id}.html", "type": "html"}},
    {"type": "aws", "pubsub": {"topic": _QUEUE}},
    {"type": "aws", "pubsub": {"topic": _QUEUE, "format": "ses", "truncate": 100}},
    {"type": "aws", "pubsub": {"topic": f"{_QUEUE}.fifo"}},
    {"type": "aws", "ses": True},
    {"type": "aws", "ses": {"maxSendRate": 5}, "sesClient": {"region": "eu-west-1"}},
    {"type": "aws", "ses": {}, "sesClient": {"endpoint": "https://ses.example.net"}},
    {
        "type": "aws",
        "ses": True,
        "sendRawEmailOptions": {
            "Destinations": ["a@example.org", "b@example.org"],
            "Source": "f@example.org",
        },
    },
    {"type": "aws", "storage": {"bucket": "mail"}, "pubsub": {"topic": _QUEUE}, "ses": True},
    {"type": "aws", "pubsub": {"topic": _QUEUE}, "assumeRole": _ROLE},
    {"type": "aws", "pubsub": {"topic": _QUEUE}, "assumeRole": {"roleArn": _ROLE, "sessionName": "relay"}},
    {"type": "aws", "name": "events", "pubsub": {"topic": _QUEUE}},
    {"type": "gcp", "storage": {"bucket": "mail"}},
    {"type": "gcp", "path": "gs://mail/in/"},
    {"type": "gcp", "path": "gs://mail"},
    {"type": "gcp", "storage": {"bucket": "mail", "path": "in/${id}.eml", "type": "raw"}},
    {"type": "gcp", "storage": {"bucket": "mail", "type": "attachments"}},
    {"type": "gcp", "pubsub": "mail"},
    {"type": "gcp", "pubsub": {"topic": "mail", "truncate": 100}, "project": "example"},
    {"type": "gcp", "pubsub": "projects/example/topics/mail"},
    {"type": "gcp", "path": "gs://mail/in/", "pubsub": "mail", "project": "example"},
    {"type": "gcp", "name": "events", "pubsub": "mail"},
)

PARTS: Final = ("", "whole", "0")


def golden_envelope(replay: int) -> Envelope:
    """The envelope that the recorded keys are of."""
    return envelope_of(id="01890a5d-ac96-774b-bcce-b302099a8057", replay=replay)


def keys_of(identity: str) -> dict[str, str]:
    """The keys of an output's effects, by flow, replay and part."""
    return {
        f"{flow} {replay} {part}".rstrip(): output_key(golden_envelope(replay), flow, identity, part)
        for flow in ("in", "außen")
        for replay in (0, 1)
        for part in PARTS
    }


def record(recording: Path) -> None:
    """Record the identities of this version."""
    found = []
    for options in OPTIONS:
        identity = OUTPUTS.parse(options).identity()
        found.append({"options": options, "identity": identity, "keys": keys_of(identity)})
    write_json(recording / "identities.json", found)


def recorded(path: Path) -> list[dict[str, Any]]:
    """The content of a recording."""
    found: list[dict[str, Any]] = read_json(path)
    return found
