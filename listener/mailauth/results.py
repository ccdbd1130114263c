"""Results of the checks: one class for each method, with the JSON for the envelope.

They are not frozen, because that doubles the cost of construction; nothing changes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, ClassVar, Final, Literal

SpfVerdict = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
"""RFC 7208 section 2.6, named as in RFC 8601 section 2.7.2."""

DkimVerdict = Literal["none", "pass", "fail", "policy", "neutral", "temperror", "permerror"]
"""RFC 8601 section 2.7.1. `fail` is a signature that does not verify, `neutral` an unreadable one,
`policy` one that the relay does not accept, `permerror` one without a usable key."""

ArcVerdict = Literal["none", "pass", "fail", "temperror"]
"""RFC 8617 section 4.4; `temperror` while a key cannot be fetched."""

DmarcVerdict = Literal["none", "pass", "fail", "temperror", "permerror"]
"""RFC 9989 section 9.2."""

BimiVerdict = Literal["none", "pass", "fail", "temperror", "declined", "skipped"]

Policy = Literal["none", "quarantine", "reject"]

Alignment = Literal["none", "relaxed", "strict"]

_KEYS: Final = {
    "verdict": "result",
    "reason": "comment",
    "key_bits": "keyBits",
    "unsigned_octets": "unsignedOctets",
    "policy_domain": "policyDomain",
    "organizational_domain": "organizationalDomain",
}
"""Keys of the JSON that differ from the attribute's name."""


class _Result:
    """A result; `shown` names its attributes in the JSON, which leaves out empty ones."""

    __slots__ = ("_json",)
    _json: dict[str, Any]
    shown: ClassVar[str]
    _keys: ClassVar[tuple[str, ...]]
    _values: ClassVar[attrgetter[tuple[Any, ...]]]

    def __init_subclass__(cls) -> None:
        names = cls.shown.split()
        cls._keys = tuple([_KEYS.get(name, name) for name in names])
        cls._values = attrgetter(*names)

    def to_json(self) -> dict[str, Any]:
        """Plain data, made once: mails share results."""
        try:
            return self._json
        except AttributeError:
            self._json = self._made()
            return self._json

    def _made(self) -> dict[str, Any]:
        return {key: value for key, value in zip(self._keys, self._values(self), strict=True) if value}

    def _share_json(self, other: _Result) -> None:
        other._json = self.to_json()


@dataclass(slots=True)
class SpfResult(_Result):
    """`domain` is the checked domain, `identity` the source of its name; `sender` is the reverse-path
    ("" for the null sender)."""

    verdict: SpfVerdict
    domain: str = ""
    identity: Literal["mailfrom", "helo"] = "mailfrom"
    sender: str = ""
    helo: str = ""
    ip: str = ""
    mechanism: str = ""
    reason: str = ""
    explanation: str = ""
    lookups: int = 0
    shown: ClassVar[str] = "verdict domain identity mechanism reason explanation lookups"

    def of_another(self, reverse_path: str, helo: str, ip: str) -> SpfResult:
        """The same result for another mail, which the JSON does not show."""
        if reverse_path == self.sender and helo == self.helo and ip == self.ip:
            return self
        found = SpfResult(
            self.verdict,
            self.domain,
            self.identity,
            reverse_path,
            helo,
            ip,
            self.mechanism,
            self.reason,
            self.explanation,
            self.lookups,
        )
        self._share_json(found)
        return found


@dataclass(slots=True)
class SignatureResult(_Result):
    """One DKIM signature. `identity` is i=, `signature` the first bytes of b= (RFC 6008)."""

    verdict: DkimVerdict
    reason: str = ""
    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    signature: str = ""
    canonicalization: str = ""
    key_bits: int = 0
    testing: bool = False
    """The key has t=y, so a failure counts as no signature (RFC 6376 section 3.6.1)."""
    unsigned_octets: int = 0
    """Bytes of the body that l= omits."""
    shown: ClassVar[str] = (
        "verdict reason domain selector identity algorithm signature "
        "canonicalization key_bits testing unsigned_octets"
    )

    def to_json(self) -> dict[str, Any]:
        """Plain data. No mails share it, so nothing is kept."""
        return self._made()


@dataclass(slots=True)
class ArcResult(_Result):
    """The chain. `oldest_pass` is RFC 8617 section 5.2 step 4: the oldest instance whose message
    signature still verifies, 0 for all; None when unknown. `domain` added the last seal."""

    verdict: ArcVerdict
    reason: str = ""
    instances: int = 0
    oldest_pass: int | None = None
    domain: str = ""
    selector: str = ""
    shown: ClassVar[str] = "verdict reason instances domain selector"

    def to_json(self) -> dict[str, Any]:
        oldest = {} if self.oldest_pass is None else {"oldestPass": self.oldest_pass}
        return _Result.to_json(self) | oldest


@dataclass(slots=True)
class DmarcResult(_Result):
    """One author domain. `policy` is the policy after sp, np and t; None when unknown.

    `policy_domain` is the domain of the record, "" for a record of the configuration. `spf` and `dkim`
    are the closest alignments of identifiers that passed.
    """

    verdict: DmarcVerdict
    domain: str = ""
    policy: Policy | None = None
    worst: Policy = "none"
    """The strictest policy that the mail fails, or may fail once DNS answers; "none" if it cannot
    fail."""
    policy_domain: str = ""
    organizational_domain: str = ""
    spf: Alignment = "none"
    dkim: Alignment = "none"
    testing: bool = False
    enforced: bool = False
    reason: str = ""

    @property
    def alignment(self) -> dict[str, Alignment]:
        """The alignments by method."""
        return {"spf": self.spf, "dkim": self.dkim}

    shown: ClassVar[str] = (
        "verdict domain policy policy_domain organizational_domain alignment testing enforced reason"
    )


@dataclass(slots=True)
class BimiResult(_Result):
    """The indicator that the author domain asserts; nothing is fetched from either URL."""

    verdict: BimiVerdict
    reason: str = ""
    domain: str = ""
    selector: str = ""
    location: str = ""
    evidence: str = ""
    shown: ClassVar[str] = "verdict reason domain selector location evidence"


class Shared:
    """What was made of the results of one report, for all reports with the same results beside the address of
    the sender, the chain of Received fields, and what differs from signature to signature: the data and the
    text of ARC, DMARC and BIMI, and the words for the log. Each is None until it is made."""

    __slots__ = ("json", "text", "words")

    def __init__(self) -> None:
        self.json: dict[str, Any] | None = None
        self.text: str | None = None
        self.words: tuple[dict[str, str], dict[str, str]] | None = None
        """One word for each method, and the domains."""


@dataclass(slots=True)
class Report:
    """All results. `arc`, `dmarc` and `bimi` are None (or empty) when switched off.

    `dmarc` has one result per author domain, the one that decides first. `signatures` counts the
    DKIM-Signature fields, of which `dkim` holds the verified ones.
    """

    spf: SpfResult
    dkim: tuple[SignatureResult, ...]
    signatures: int
    arc: ArcResult | None
    dmarc: tuple[DmarcResult, ...]
    bimi: BimiResult | None
    received: tuple[dict[str, str], ...]
    shared: Shared = field(default_factory=Shared, compare=False, repr=False)

    @property
    def dkim_verdict(self) -> DkimVerdict:
        """The best result of all signatures."""
        if len(self.dkim) == 1:
            return self.dkim[0].verdict
        verdicts = {result.verdict for result in self.dkim}
        order: tuple[DkimVerdict, ...] = ("pass", "temperror", "fail", "policy", "permerror", "neutral")
        return next((verdict for verdict in order if verdict in verdicts), "none")

    def to_json(self) -> dict[str, Any]:
        """Plain data for the envelope and the CloudEvent's `data.auth`."""
        others = self.shared.json
        if others is None:
            others = self.shared.json = self._others()
        dkim: dict[str, Any] = {
            "result": self.dkim_verdict,
            "signatures": [result.to_json() for result in self.dkim],
        }
        if len(self.dkim) < self.signatures:
            dkim["ignored"] = self.signatures - len(self.dkim)
        found = {"spf": self.spf.to_json(), "dkim": dkim, **others}
        if self.received:
            found["receivedChain"] = list(self.received)
        return found

    def _others(self) -> dict[str, Any]:
        """The data of ARC, DMARC and BIMI."""
        found: dict[str, Any] = {}
        if self.arc is not None:
            found["arc"] = self.arc.to_json()
        if self.dmarc:
            found["dmarc"] = self.dmarc[0].to_json()
            if len(self.dmarc) > 1:
                found["dmarc"] = found["dmarc"] | {"others": [one.to_json() for one in self.dmarc[1:]]}
        if self.bimi is not None:
            found["bimi"] = self.bimi.to_json()
        return found
