"""Options of the `aws` output: store to S3, publish to SQS, send through SES (docs/outputs/aws.md)."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from functions.aws.output.client_options import ClientOptions
from functions.aws.output.request_options import PutOptions, SendMessageOptions, SendRawEmailOptions
from functions.message.text import listed
from functions.options.storage import PublishOptions, StorageOptions
from functions.options.types import CAMEL, Deferred, OptionsModel, PlainText
from functions.processors.base import OutputOptions

_FORM: Final = "https://sqs.REGION.amazonaws.com/ACCOUNT/NAME"
_FORMS: Final = f"{_FORM}, arn:aws:sns:REGION:ACCOUNT:NAME or arn:aws:events:REGION:ACCOUNT:event-bus/NAME"
_REGION: Final = re.compile(r"[a-z]{2,5}(?:-[a-z]+)+-[0-9]{1,2}|aws-global|auto")
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]|arn:.*")
_ARN: Final = re.compile(
    r"arn:aws(?:-[a-z-]+)?:(?:"
    r"(?P<sns>sns):[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}(?:\.fifo)?"
    r"|(?P<events>events):[a-z0-9-]+:[0-9]{12}:event-bus/[A-Za-z0-9._/-]{1,256})"
)


def _target(text: str) -> str:
    if text.startswith("arn:"):
        if _ARN.fullmatch(text):
            return text
        _, _, service, region, account, name = [*text.split(":", 5), *["…"] * 6][:6]
        if service == "sqs":
            raise ValueError(
                f"{text!r} is the ARN of a queue, not its URL "
                f"(write https://sqs.{region}.amazonaws.com/{account}/{name})"
            )
        raise ValueError(f"{text!r} is no ARN of an SNS topic or an EventBridge bus ({_FORMS})")
    place = urlsplit(text)
    at_aws = (place.hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
    if not text.startswith(("https://", "http://")) or (at_aws and place.path.count("/") < 2):
        raise ValueError(f"{text!r} is not the URL of a queue, or an ARN ({_FORMS})")
    return text


class PublishTarget(PublishOptions):
    """Send an event to an SQS queue, an SNS topic or an EventBridge bus."""

    topic: Annotated[PlainText, AfterValidator(_target)]
    """The queue's URL, or the ARN of the topic or bus."""

    @property
    def service(self) -> Literal["sqs", "sns", "events"]:
        """The service of the target."""
        return "events" if ":events:" in self.topic else "sns" if self.topic.startswith("arn:") else "sqs"

    @property
    def region(self) -> str | None:
        """The region that an ARN names."""
        return self.topic.split(":")[3] if self.topic.startswith("arn:") else None


class SesOptions(OptionsModel):
    """Options for sending through SES."""

    max_send_rate: float | None = Field(default=None, gt=0)
    """Recipients a second over all instances. Default: the account's own rate."""

    identities: tuple[PlainText, ...] = ()
    """Domains and addresses to send from."""


class AssumeRole(OptionsModel):
    """A role that the output's clients assume."""

    role_arn: str = Field(pattern=r"^arn:[a-z-]+:iam::[0-9]{12}:role/.+$")
    """The role."""

    external_id: str | None = None
    """The external id that the role's trust policy asks for."""

    session_name: str = Field(default="smtp-relay", pattern=r"^[A-Za-z0-9_+=,.@-]{2,64}$")
    """The session's name in the audit log."""


def _ses(value: Any) -> Any:
    return ({} if value else None) if isinstance(value, bool) else value


def _role(value: Any) -> Any:
    return {"roleArn": value} if isinstance(value, str) else value


class AwsOutputOptions(OutputOptions):
    """Store the mail to S3, send an event to SQS, SNS or EventBridge, and send the mail through SES: any
    of the three, in this order."""

    model_config = CAMEL

    type: Literal["aws"]
    """The output's type."""

    storage: StorageOptions | None = None
    """Store the mail to S3."""

    put_options: Annotated[PutOptions, Deferred(PutOptions)] = PutOptions.model_construct()
    """Parameters added to PutObject."""

    s3_client: Annotated[ClientOptions, Deferred(ClientOptions)] = Field(
        default=ClientOptions.model_construct(), alias="s3client"
    )
    """Options of the S3 client."""

    pubsub: PublishTarget | None = None
    """Send an event to SQS, SNS or EventBridge."""

    send_message_options: Annotated[SendMessageOptions, Deferred(SendMessageOptions)] = (
        SendMessageOptions.model_construct()
    )
    """Parameters added to SQS's SendMessage."""

    sqs_client: Annotated[ClientOptions, Deferred(ClientOptions)] = Field(
        default=ClientOptions.model_construct(), alias="sqsclient"
    )
    """Options of the client of `pubsub`: SQS, SNS or EventBridge."""

    ses: Annotated[
        SesOptions | None, BeforeValidator(_ses, json_schema_input_type=SesOptions | bool | None)
    ] = None
    """Send through SES; true means `{}`."""

    send_raw_email_options: Annotated[SendRawEmailOptions, Deferred(SendRawEmailOptions)] = (
        SendRawEmailOptions.model_construct()
    )
    """Parameters added to SES's SendEmail."""

    ses_client: Annotated[ClientOptions, Deferred(ClientOptions)] = ClientOptions.model_construct()
    """Options of the SES client."""

    assume_role: Annotated[
        AssumeRole | None, BeforeValidator(_role, json_schema_input_type=AssumeRole | str | None)
    ] = None
    """A role for all three clients; text is its ARN."""

    @model_validator(mode="after")
    def _does_something(self) -> AwsOutputOptions:
        if self.storage is None and self.pubsub is None and self.ses is None:
            raise ValueError("does nothing: give storage, pubsub or ses")
        queue = self.pubsub is not None and self.pubsub.service == "sqs"
        if self.pubsub is not None and not queue and self.send_message_options.model_fields_set:
            raise ValueError("sendMessageOptions are for a queue, and pubsub.topic is none (remove them)")
        return self

    runs_in = frozenset({"aws"})

    @property
    def needs_receipts(self) -> bool:
        return self.publishes or self.ses is not None

    @property
    def stores(self) -> bool:
        return self.storage is not None

    @property
    def makes_links(self) -> bool:
        return self.stores

    @property
    def publishes(self) -> bool:
        return self.pubsub is not None

    @property
    def sends_on(self) -> str:
        return "" if self.ses is None else "SES"

    @property
    def sends_as_anybody(self) -> bool:
        return self.ses is not None and not self.ses.identities

    @property
    def aws_services(self) -> frozenset[str]:
        asked = {"sesv2": self.ses, "sts": self.assume_role}
        found = {name for name, given in asked.items() if given is not None}
        return frozenset(found | ({self.pubsub.service} if self.pubsub is not None else set()))

    @property
    def ascii_recipients(self) -> bool:
        """True if mail goes to the envelope's recipients through SES, which does not support SMTPUTF8."""
        return self.ses is not None and self.send_raw_email_options.destinations is None

    def advice(self, ports: Container[int]) -> Iterable[tuple[str, str]]:
        if self.storage is not None and not _BUCKET.fullmatch(self.storage.bucket):
            text = f"S3 makes no bucket of the name {self.storage.bucket!r} today"
            yield "storage.bucket", f"{text} (3 to 63 lower-case letters, digits, dots and dashes)"
        for key, client in (
            ("s3client", self.s3_client),
            ("sqsclient", self.sqs_client),
            ("sesClient", self.ses_client),
        ):
            elsewhere = client.endpoint_url or client.endpoint
            for name, region in (("region", client.region), ("region_name", client.region_name)):
                if region is not None and not elsewhere and not _REGION.fullmatch(region):
                    text = f"{region!r} is no region of AWS"
                    yield f"{key}.{name}", f"{text} (one is eu-west-1; eu-west-1a is a zone in it)"

    @property
    def effect(self) -> str:
        return listed([*self._effects()], joint="and")

    def _effects(self) -> Iterator[str]:
        if self.storage is not None:
            yield f"stores it as s3://{self.storage.bucket}/{self.storage.key}"
        if self.pubsub is not None:
            kind = {"sqs": "queue", "sns": "topic", "events": "bus"}[self.pubsub.service]
            yield f"sends an event to the {kind} {self.pubsub.topic}"
        if self.ses is not None:
            yield "sends it on through SES"

    def identity(self) -> str:
        """The name, else the destinations: bucket and key, queue, and the identities that SES sends for."""
        if self.name is not None:
            return self.name
        parts = ["aws"]
        if self.storage is not None:
            parts.append(f"s3://{self.storage.bucket}/{self.storage.key}#{self.storage.type}")
        if self.pubsub is not None:
            parts.append(f"{self.pubsub.service}:{self.pubsub.topic}#{self.pubsub.format}")
        if self.ses is not None:
            sends = self.send_raw_email_options
            to = ",".join(sends.destinations or ())
            parts.append(f"ses:{self._region()}/{sends.source or ''}/{to}")
        if self.assume_role is not None:
            parts.append(self.assume_role.role_arn)
        return " ".join(parts)

    def _region(self) -> str:
        client = self.ses_client
        return client.region_name or client.region or client.endpoint_url or client.endpoint or ""
