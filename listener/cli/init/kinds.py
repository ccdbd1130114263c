"""The configurations that `init` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from listener.cli.init.answers import BUCKET, DOMAIN, HOST, QUEUE, REGION, TOPIC, USER, InitQuestion
from listener.config.load import EMBEDDED

_VALUE: Final = re.compile("@([a-z]+)@")


@dataclass(frozen=True, slots=True)
class Kind:
    """One configuration. `text` holds `@name@` for each value, `environment` the lines of `.env.example`,
    `extra` the optional packages with one module of theirs, `send` the arguments of a test mail."""

    does: str
    text: str
    questions: tuple[InitQuestion, ...] = ()
    environment: str = ""
    extra: tuple[str, str] | None = None
    send: str = "you@example.com"

    def written(self, values: Mapping[str, object]) -> str:
        """The text with its values."""
        body = _VALUE.sub(lambda found: _value(values[found[1]]), self.text)
        return f"// {self.does}.\n{body}"


def _value(value: object) -> str:
    """A value as JSON; an object on several lines, as deep as it stands in an output."""
    lines = json.dumps(value, ensure_ascii=False, indent=2 if isinstance(value, dict) else None)
    return lines.replace("\n", "\n" + " " * 10)


def _embedded() -> str:
    """The embedded default without the comment at its head."""
    return "{\n" + EMBEDDED.read_text(encoding="utf-8").partition("{\n")[2]


_AWS: Final = ("aws", "boto3")
_GCP: Final = ("gcp", "google.cloud.storage")

_AWS_ENVIRONMENT: Final = """\
# Needed where no role of AWS applies:
#AWS_ACCESS_KEY_ID=replace-me
#AWS_SECRET_ACCESS_KEY=replace-me
"""
_GCP_ENVIRONMENT: Final = """\
# Needed where no service account applies:
#GOOGLE_APPLICATION_CREDENTIALS=/path/to/key.json
"""

_RELAY: Final = """\
{
  "flows": {
    "out": {
      // The networks that may send: this machine. For others, add them here, and "bind" below.
      "filters": [{ "type": "whitelist", "subnets": ["127.0.0.0/8", "::1/128"] }],
      "outputs": [
        OUTPUT
      ]
    }
  },
  "port": 10025,
  // Where to listen: "0.0.0.0" is every address of this machine
  "bind": "127.0.0.1",
  "options": {
    // The network decides who may send, so there is no login
    "authOptional": true,
    "disabledCommands": ["AUTH"],
    // On this machine mail needs no TLS. For other machines, leave this out and give "tls" a certificate
    "hideSTARTTLS": true,
    "disableReverseLookup": true,
    "maxClientsPerIp": 50
  }
}
"""

_INBOUND: Final = """\
{
  "flows": {
    "inbound": {
      // The recipients to take mail for; all others are refused
      "filters": [{ "type": "whitelist", "to": [@recipients@] }],
      "outputs": [
        OUTPUT
      ]
    }
  },
  // To receive from the internet: port 25, "bind": "0.0.0.0", and an MX record that names this machine
  "port": 10025,
  "bind": "127.0.0.1",
  // Mail servers deliver without logging in
  "options": { "authOptional": true, "disabledCommands": ["AUTH"], "maxClientsPerIp": 50 }
}
"""

_PATH: Final = '"${date:%Y/%m/%d}/${iso8601}_${id}.eml"'


def _outbound(output: str) -> str:
    return _RELAY.replace("OUTPUT", output)


def _inbound(*lines: str) -> str:
    output = "{\n          " + ",\n          ".join(lines) + "\n        }"
    return _INBOUND.replace("OUTPUT", output)


_STORAGE: Final = f'"storage": {{ "bucket": @bucket@, "path": {_PATH} }}'
_S3: Final = '"s3client": { "region": @region@ }'

KINDS: Final[Mapping[str, Kind]] = {
    "debug": Kind("A debug server: takes every mail, and keeps it on this machine", _embedded()),
    "ses": Kind(
        "Mail of applications goes out through Amazon SES",
        _outbound('{ "type": "aws", "ses": {}, "sesClient": { "region": @region@ } }'),
        (REGION,),
        _AWS_ENVIRONMENT,
        _AWS,
        "--from me@example.com you@example.com",
    ),
    "smarthost": Kind(
        "Mail of applications goes out through an SMTP smarthost",
        _outbound('{\n          "type": "mailer",\n          "nodemailer": @server@\n        }'),
        (HOST, USER),
        "SMARTHOST_PASSWORD=replace-me\n",
        send="--from me@example.com you@example.com",
    ),
    "mail2s3": Kind(
        "Mail to one domain is stored in S3, by day",
        _inbound('"type": "aws"', _STORAGE, _S3),
        (BUCKET, DOMAIN, REGION),
        _AWS_ENVIRONMENT,
        _AWS,
    ),
    "mail2sqs": Kind(
        "Mail to one domain is stored in S3, and an event that names the object goes to an SQS queue",
        _inbound(
            '"type": "aws"',
            _STORAGE,
            _S3,
            '"pubsub": { "topic": @queue@ }',
            '"sqsclient": { "region": @region@ }',
        ),
        (BUCKET, QUEUE, DOMAIN),
        _AWS_ENVIRONMENT,
        _AWS,
    ),
    "mail2gcs": Kind(
        "Mail to one domain is stored in Cloud Storage, by day",
        _inbound('"type": "gcp"', _STORAGE),
        (BUCKET, DOMAIN),
        _GCP_ENVIRONMENT,
        _GCP,
    ),
    "mail2pubsub": Kind(
        "Mail to one domain is stored in Cloud Storage, and an event that names the object is published",
        _inbound('"type": "gcp"', _STORAGE, '"pubsub": { "topic": @topic@ }'),
        (BUCKET, TOPIC, DOMAIN),
        _GCP_ENVIRONMENT,
        ("gcp", "google.cloud.pubsub_v1"),
    ),
}
"""Each kind by its name on the command line."""
