"""The outputs there are: one line each. SDKs are imported only when one is built."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from functions.options.registry import Chosen, Kind, Registry, kind
from functions.processors.base import OutputOptions, Processor
from functions.processors.context import BuildContext

_MAILER: Final = Kind(
    "functions.processors.mailer.options:MailerOutputOptions",
    "functions.processors.mailer.output:build",
    "mailer",
)

KINDS: Final[Mapping[str, Kind]] = {
    "file": kind("functions.processors.file.output", "FileOutputOptions"),
    "log": kind("functions.processors.log", "LogOutputOptions"),
    "mailer": _MAILER,
    "nodemailer": _MAILER,
    "webhook": Kind(
        "functions.processors.webhook.options:WebhookOptions",
        "functions.processors.webhook.output:build",
    ),
    "aws": Kind(
        "functions.aws.output.options:AwsOutputOptions", "functions.aws.output.processor:build", "aws"
    ),
    "gcp": Kind(
        "functions.gcp.output.options:GcpOutputOptions", "functions.gcp.output.processor:build", "gcp"
    ),
}

_SYNONYMS: Final = {
    **dict.fromkeys(("s3", "ses", "sqs", "amazon"), "aws"),
    **dict.fromkeys(("gcs", "gs", "pubsub", "google", "cloud-storage"), "gcp"),
    **dict.fromkeys(("smtp", "smarthost", "forward", "relay", "sendmail", "smtps", "email"), "mailer"),
    **dict.fromkeys(("http", "https", "post", "http-post", "url", "slack", "callback"), "webhook"),
    **dict.fromkeys(("console", "stdout", "print"), "log"),
    **dict.fromkeys(("folder", "directory", "disk", "eml", "maildir", "local"), "file"),
}

OUTPUTS: Final = Registry("output", OutputOptions, "smtp_relay.outputs", KINDS, _SYNONYMS)

AnyOutput = Annotated[OutputOptions, Chosen(OUTPUTS)]
"""The options of one output, read by the model of its `type`."""


def build_processor(options: OutputOptions, name: str, context: BuildContext) -> Processor:
    """The processor of one output; `name` is its label. Raises ConfigError if its secrets are not
    available, NotAvailable if a package that it needs is not installed."""
    processor: Processor = OUTPUTS.build(options, name, context)
    return processor
