"""Parameters that the file may add to requests to S3, SQS and SES, under their AWS names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from functions.options.types import OptionsModel

PASCAL = ConfigDict(alias_generator=to_pascal, defer_build=True)


def given(options: OptionsModel) -> dict[str, Any]:
    """The parameters of the file, under AWS's names. Builds nothing if the file has none."""
    return options.model_dump(by_alias=True, exclude_none=True) if options.model_fields_set else {}


class PutOptions(OptionsModel):
    """Parameters of S3's PutObject. The output sets bucket, key, body and preconditions."""

    model_config = PASCAL

    acl: str | None = Field(default=None, alias="ACL")
    """A canned ACL."""

    bucket_key_enabled: bool | None = None
    """With SSE-KMS."""

    cache_control: str | None = None
    """Header of the object."""

    checksum_algorithm: Literal["CRC32", "SHA1", "SHA256"] | None = None
    """Others need a library that is not installed."""

    content_disposition: str | None = None
    """Header of the object."""

    content_encoding: str | None = None
    """Header of the object."""

    content_language: str | None = None
    """Header of the object."""

    content_type: str | None = None
    """Instead of the stored part's type."""

    expected_bucket_owner: str | None = None
    """The account that must own the bucket."""

    grant_full_control: str | None = None
    """Grantees."""

    grant_read: str | None = None
    """Grantees."""

    grant_read_acp: str | None = Field(default=None, alias="GrantReadACP")
    """Grantees."""

    grant_write_acp: str | None = Field(default=None, alias="GrantWriteACP")
    """Grantees."""

    metadata: dict[str, str] | None = None
    """User metadata."""

    object_lock_legal_hold_status: Literal["ON", "OFF"] | None = None
    """Object Lock."""

    object_lock_mode: Literal["GOVERNANCE", "COMPLIANCE"] | None = None
    """Object Lock."""

    object_lock_retain_until_date: str | None = None
    """An ISO 8601 time."""

    request_payer: Literal["requester"] | None = None
    """The party that pays."""

    server_side_encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    """Server-side encryption. Default: the bucket's."""

    sse_kms_encryption_context: str | None = Field(default=None, alias="SSEKMSEncryptionContext")
    """JSON in base64."""

    sse_kms_key_id: str | None = Field(default=None, alias="SSEKMSKeyId")
    """The KMS key."""

    storage_class: str | None = None
    """The storage class."""

    tagging: str | None = None
    """Tags, as URL query parameters."""

    website_redirect_location: str | None = None
    """An address."""


class SendMessageOptions(OptionsModel):
    """Parameters of SQS's SendMessage. The output sets queue and body."""

    model_config = PASCAL

    delay_seconds: int | None = Field(default=None, ge=0, le=900)
    """Seconds that the message stays invisible."""

    message_attributes: dict[str, dict[str, str]] | None = None
    """Message attributes."""

    message_group_id: str | None = None
    """For a FIFO queue."""

    message_deduplication_id: str | None = None
    """For a FIFO queue, instead of the output's own, which is the same at every attempt."""


class Tag(OptionsModel):
    """One message tag."""

    model_config = PASCAL

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,256}$")
    """1 to 256 of A to Z, a to z, 0 to 9, `_` and `-`."""

    value: str = Field(pattern=r"^[A-Za-z0-9_-]{1,256}$")
    """1 to 256 of A to Z, a to z, 0 to 9, `_` and `-`."""


def _no_breaks(text: str) -> str:
    if any(ord(c) < 32 for c in text):
        raise ValueError("cannot hold control characters")
    return text


Address = Annotated[str, Field(min_length=3), AfterValidator(_no_breaks)]


class SendRawEmailOptions(OptionsModel):
    """Parameters of SES's SendEmail."""

    model_config = PASCAL

    configuration_set_name: str | None = None
    """The configuration set."""

    tags: tuple[Tag, ...] = ()
    """Message tags."""

    from_arn: str | None = None
    """An identity whose policy permits this."""

    source_arn: str | None = None
    """An identity whose policy permits this."""

    return_path_arn: str | None = None
    """An identity whose policy permits this."""

    source: Address | None = None
    """The From address. Default: the mail's own."""

    destinations: tuple[Address, ...] | None = Field(default=None, min_length=1)
    """Replaces the recipients."""
