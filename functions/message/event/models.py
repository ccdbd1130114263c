"""The models of an event, from which cloudevent.schema.json and the type for TypeScript are made.

No delivery imports them: `cloudevent.build` writes plain dictionaries, and tests hold those to the schema.
A field whose default is ABSENT is missing where the mail has no such value; it is never null.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import ConfigDict, Field

from functions.message.event.auth_models import (
    ABSENT,
    ABSENT_FROM,
    Count,
    EventAuth,
    EventPart,
    Sha256,
    Time,
)
from functions.message.event.cloudevent import DATA_SCHEMA

SCHEMA_ID: Final = DATA_SCHEMA.partition("#")[0]


class EventMailbox(EventPart):
    """One mailbox."""

    address: str
    """The address; empty where the mail has only a name."""

    name: str
    """The display name; empty where the mail has none."""


class EventAddresses(EventPart):
    """The mailboxes of one field."""

    value: list[EventMailbox]
    """The mailboxes in the order of the mail."""

    html: str
    """The same as HTML."""

    text: str
    """The same as text."""


class EventHeader(EventPart):
    """One header field."""

    name: str
    """The name as the mail has it."""

    value: str
    """The value on one line, with its encoded words decoded."""


class EventAttachment(EventPart):
    """One part of the mail that is not one of its texts."""

    filename: str
    """The sender's name for it, or a name made from the content type. Not safe as a path."""

    size: Count
    """Size of the decoded content in bytes."""

    content_type: str = ABSENT
    """The media type in lower case, without parameters."""

    content_id: str = ABSENT
    """The Content-ID with its angle brackets; HTML refers to it as `cid:`."""

    disposition: str = ABSENT
    """Mostly `attachment` or `inline`."""

    sha256: Sha256
    """SHA-256 of the decoded content."""

    url: str = ABSENT
    """The object with the decoded content, if the same output stored it."""


class EventEmail(EventPart):
    """The mail as its header and its bodies tell it."""

    from_: EventAddresses = ABSENT_FROM
    """The authors, else the reverse-path; missing if there is neither."""

    to: list[EventAddresses]
    """One object with all addresses, or none. Without a To field: the recipients of the flow."""

    cc: list[EventAddresses]
    """One object with all addresses, or none."""

    bcc: list[EventAddresses]
    """One object with all addresses, or none. Recipients of other flows are left out."""

    reply_to: str = ABSENT
    """The addresses for replies, as text."""

    subject: str = ABSENT
    """The subject, decoded."""

    priority: Literal["high", "normal", "low"] = ABSENT
    """From X-Priority, X-MSMail-Priority, Priority or Importance."""

    date: Time = ABSENT
    """The Date field in UTC."""

    message_id: str = ABSENT
    """The Message-ID with its angle brackets."""

    in_reply_to: str = ABSENT
    """The message ids of In-Reply-To, mostly one, separated by blanks."""

    list_id: str = ABSENT
    """The identifier of the mailing list (RFC 2919), without angle brackets."""

    auto_submitted: str = ABSENT
    """The keyword of Auto-Submitted (RFC 3834): `auto-replied`, `auto-generated`, `no` …"""

    references: list[str]
    """The message ids of References, the oldest first."""

    headers: list[EventHeader]
    """All header fields in the order of the mail, without Bcc and without those of the relay."""

    attachments: list[EventAttachment]
    """Everything that is not text or HTML of the mail, in its order."""

    text: str = ABSENT
    """The text, made from the HTML if the mail has no text."""

    html: str = ABSENT
    """The HTML."""

    reply_text: str = ABSENT
    """The text above the quoted mail, without the signature; missing where that is not sure."""


class EventEnvelope(EventPart):
    """The SMTP envelope."""

    from_: str = Field(alias="from")
    """The reverse-path; empty for the null sender."""

    to: list[str]
    """The recipients that this flow took."""

    parameters: list[str]
    """The parameters of MAIL, such as `SIZE=1234` or `BODY=8BITMIME`."""


class EventServer(EventPart):
    """The connection that the mail came over."""

    client_hostname: str
    """The client's verified name, else its address in brackets."""

    remote_address: str
    """The client's address."""

    remote_port: int
    """The client's port."""

    host_name_appear_as: str
    """The name of HELO or EHLO."""

    id: str
    """The connection's id."""

    secure: bool
    """True if the connection used TLS."""

    transmission_type: str
    """RFC 3848's word: ESMTP, ESMTPS, ESMTPSA …"""

    username: str
    """The authenticated user; empty without AUTH."""


class EventStorage(EventPart):
    """The object that the same output stored: the whole mail, if it stored that."""

    url: str
    """`s3://BUCKET/KEY` or `gs://BUCKET/KEY`."""

    bucket: str
    """The bucket."""

    key: str
    """The object's key."""

    size: Count
    """The object's size in bytes, with the fields that `addRawHeaders` prepends."""

    sha256: Sha256
    """SHA-256 of the object's bytes."""

    manifest: str = ABSENT
    """The URL of the manifest of a mail that is stored in parts."""

    link: str = ABSENT
    """A URL by which the object can be read for a while (`presign` of `webhook`)."""


class EventCut(EventPart):
    """One field of `data` of which only a part is shown."""

    field: str
    """The field's place below `data`, such as `email.text`."""

    unit: Literal["characters", "items"]
    """The unit of both counts."""

    kept: Count
    """How many are shown. The values of one field that are cut add up."""

    total: Count
    """How many the mail has."""

    at_least: bool
    """True if the mail has more than the relay reads; `total` counts what it read."""


class EventTruncation(EventPart):
    """What is not shown in full."""

    fields: list[EventCut]
    """The fields that are cut; empty if the event shows everything."""

    rest: str = ABSENT
    """The URL of the whole mail, if the same output stored it."""


class EventData(EventPart):
    """The mail."""

    flow: str
    """The flow that took the mail."""

    size: Count
    """Size of the mail in bytes."""

    envelope: EventEnvelope
    """The SMTP envelope."""

    email: EventEmail
    """The mail as its header and its bodies tell it."""

    server: EventServer
    """The connection that the mail came over."""

    truncated: EventTruncation
    """What is not shown in full, and where the whole mail is."""

    storage: EventStorage = ABSENT
    """The stored object, if the same output stored the mail."""

    auth: EventAuth = ABSENT
    """The results of the flow's `mail-auth` filter, if it has one."""


class MailEvent(EventPart):
    """The CloudEvent of a mail."""

    model_config = ConfigDict(alias_generator=None)

    specversion: Literal["1.0"]
    """The version of CloudEvents."""

    type: Literal["com.loopingz.smtp-relay.v2"]
    """The kind of event. Later versions of the relay only add to it."""

    source: str
    """The listener's local address."""

    id: str
    """The mail's id, the same in every retry."""

    time: Time
    """When the mail was received."""

    datacontenttype: Literal["application/json"]
    """The media type of `data`."""

    dataschema: str = Field(json_schema_extra={"const": DATA_SCHEMA})
    """The schema of `data`."""

    subject: str = ABSENT
    """The Message-ID."""

    data: EventData
    """The mail."""
