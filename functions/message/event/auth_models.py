"""The models of mail-auth's results in an event, and what all models of an event share."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

ABSENT: Final[Any] = Field(default=None)

ABSENT_FROM: Final[Any] = Field(default=None, alias="from")

Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Count = Annotated[int, Field(ge=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class EventPart(BaseModel):
    """Keys are camelCase; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, alias_generator=to_camel)


class EventSpf(EventPart):
    """SPF (RFC 7208)."""

    result: str
    """The result in the words of RFC 8601."""

    domain: str = ABSENT
    """The domain that was checked."""

    identity: str = ABSENT
    """`mailfrom` or `helo`."""

    mechanism: str = ABSENT
    """The mechanism that matched."""

    comment: str = ABSENT
    """The reason in words."""

    explanation: str = ABSENT
    """The domain's explanation of a failure."""

    lookups: int = ABSENT
    """DNS lookups that the record took."""


class EventSignature(EventPart):
    """One DKIM signature (RFC 6376)."""

    result: str
    """The result in the words of RFC 8601."""

    comment: str = ABSENT
    """The reason in words."""

    domain: str = ABSENT
    """The signing domain."""

    selector: str = ABSENT
    """The key's selector."""

    identity: str = ABSENT
    """The identity of the signer."""

    algorithm: str = ABSENT
    """The algorithm, such as `rsa-sha256`."""

    signature: str = ABSENT
    """The first characters of the signature (RFC 6008)."""

    canonicalization: str = ABSENT
    """The canonicalization of header and body."""

    key_bits: int = ABSENT
    """Length of an RSA key."""

    testing: bool = ABSENT
    """True if the key is for tests."""

    unsigned_octets: int = ABSENT
    """Bytes of the body that the signature does not cover."""


class EventDkim(EventPart):
    """DKIM (RFC 6376)."""

    result: str
    """The best result of all signatures."""

    signatures: list[EventSignature]
    """The signatures that were checked."""

    ignored: int = ABSENT
    """Signatures that were not checked, because the mail has too many."""


class EventAlignment(EventPart):
    """The closest alignments of identifiers that passed."""

    spf: Literal["none", "relaxed", "strict"]
    """By SPF."""

    dkim: Literal["none", "relaxed", "strict"]
    """By DKIM."""


class EventDmarc(EventPart):
    """DMARC (RFC 9989) of one author domain."""

    result: str
    """The result in the words of RFC 8601."""

    domain: str = ABSENT
    """The author domain."""

    policy: str = ABSENT
    """The policy that applies: `none`, `quarantine` or `reject`."""

    policy_domain: str = ABSENT
    """The domain of the record."""

    organizational_domain: str = ABSENT
    """The organizational domain."""

    alignment: EventAlignment = ABSENT
    """The alignments by method."""

    testing: bool = ABSENT
    """True if the record is for tests."""

    enforced: bool = ABSENT
    """True if the policy is that of the relay's configuration."""

    comment: str = ABSENT
    """The reason in words."""

    others: list[EventDmarc] = ABSENT
    """The results of further author domains."""


class EventArc(EventPart):
    """ARC (RFC 8617)."""

    result: str
    """The result in the words of RFC 8601."""

    comment: str = ABSENT
    """The reason in words."""

    instances: int = ABSENT
    """Length of the chain."""

    domain: str = ABSENT
    """The domain of the last seal."""

    selector: str = ABSENT
    """The selector of the last seal's key."""

    oldest_pass: int = ABSENT
    """The oldest instance whose signature still verifies; 0 for all."""


class EventAuth(EventPart):
    """The results of the flow's `mail-auth` filter."""

    spf: EventSpf = ABSENT
    """SPF."""

    dkim: EventDkim = ABSENT
    """DKIM."""

    dmarc: EventDmarc = ABSENT
    """DMARC."""

    arc: EventArc = ABSENT
    """ARC."""
