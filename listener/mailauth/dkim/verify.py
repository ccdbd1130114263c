"""DKIM: verification of every signature by RFC 6376, amended by RFC 8301 and RFC 8463."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import is_
from typing import Final

from listener.mailauth.dkim import keys
from listener.mailauth.dkim.digests import BodyHashes, header_digest
from listener.mailauth.dkim.fields import HeaderBlock, HeaderField, value_of
from listener.mailauth.dkim.signature import BodyHash, Signature, SignatureError, check_time, parse_dkim
from listener.mailauth.dns.resolver import DnsAnswer, Outcome, Question
from listener.mailauth.results import DkimVerdict, SignatureResult

MAX_SIGNATURES: Final = 10
"""Most signatures to verify, from the top; more are only counted (RFC 6376 section 6.1 permits this)."""

MAX_KEY_RECORDS: Final = 4
"""Most key records to try at one name. RFC 6376 section 3.6.2.2 leaves several records undefined, but
they exist."""

_NAME: Final = b"dkim-signature"


@dataclass(frozen=True, slots=True)
class KeyRules:
    """The keys and algorithms that count, for DKIM and ARC.

    RFC 8301 section 3: signatures with less than 1,024 bits or rsa-sha1 are not valid.
    """

    min_bits: int = 1_024
    reject_rsa_sha1: bool = True


class Signatures:
    """The DKIM signatures of one mail: parse the header, ask it for keys, then for the verdicts."""

    __slots__ = ("_block", "_items", "_judged", "_rules", "body_hashes", "count", "questions")

    def __init__(self, block: HeaderBlock, rules: KeyRules, now: float) -> None:
        self._block = block
        self._rules = rules
        fields = block.by_name.get(_NAME, ())
        self.count: Final = len(fields)
        self._items: list[Signature | SignatureResult] = []
        self.questions: Final[list[Question]] = []
        """The keys needed."""
        self.body_hashes: Final[list[BodyHash]] = []
        """The hashes of the body needed."""
        for raw in fields[:MAX_SIGNATURES]:
            item = self._read(HeaderField(_NAME, raw, value_of(raw)), now)
            self._items.append(item)
            if isinstance(item, Signature):
                self.questions.append(item.terms.question)
                self.body_hashes.append(item.covers)
        self._judged: tuple[list[DnsAnswer], tuple[SignatureResult, ...]] | None = None

    def _read(self, field: HeaderField, now: float) -> Signature | SignatureResult:
        signature: Signature | None = None
        try:
            if self._block.fault:
                raise SignatureError("policy", self._block.fault)
            signature = parse_dkim(field)
            check_time(signature, now)
            if signature.terms.hash_name == "sha1" and self._rules.reject_rsa_sha1:
                raise SignatureError("policy", "rsa-sha1 is not accepted")
        except SignatureError as error:
            return _result(error.verdict, error.reason, signature)
        return signature

    def judge(self, answers: Mapping[Question, DnsAnswer], bodies: BodyHashes) -> tuple[SignatureResult, ...]:
        """All verdicts, topmost signature first. With the same answers again they are those of the first
        time."""
        used = list(map(answers.__getitem__, self.questions))
        if self._judged is not None and all(map(is_, used, self._judged[0])):
            return self._judged[1]
        found: list[SignatureResult] = []
        for item in self._items:
            if isinstance(item, Signature):
                found.append(self._judge(item, answers[item.terms.question], bodies))
            else:
                found.append(item)
        self._judged = used, tuple(found)
        return self._judged[1]

    def _judge(self, signature: Signature, answer: DnsAnswer, bodies: BodyHashes) -> SignatureResult:
        if answer.outcome is not Outcome.FOUND:
            if answer.failed:
                return _result("temperror", f"key not fetched: {answer.reason}", signature)
            return _result("permerror", "no key", signature)
        result: SignatureResult | None = None
        for record in answer.records[:MAX_KEY_RECORDS]:
            key: keys.PublicKey | None = None
            assert isinstance(record, bytes)  # the question is for TXT
            try:
                key = keys.parse(record)
                verify(self._block, signature, key, bodies, self._rules)
            except keys.KeyRecordError as error:
                judged = _result("permerror", str(error), signature)
            except SignatureError as error:
                judged = _result(error.verdict, error.reason, signature, key)
            else:
                unsigned = 0
                if signature.length is not None:
                    unsigned = bodies.size(signature.terms.whole_body.canon) - signature.length
                return _result("pass", "", signature, key, unsigned)
            if result is None or result.verdict == "permerror":
                result = judged
        return result or _result("permerror", "no key", signature)


def verify(
    block: HeaderBlock, signature: Signature, key: keys.PublicKey, bodies: BodyHashes, rules: KeyRules
) -> None:
    """Verify one signature over header and body with one key. Raises SignatureError."""
    check_key(signature, key, rules)
    terms = signature.terms
    if key.strict_identity and terms.identity_domain != terms.domain:
        raise SignatureError("permerror", "the key forbids subdomains in i=")
    digest = bodies.digest(signature.covers)
    if digest is None:
        raise SignatureError("fail", "l= is more than the body has")
    if digest != signature.body_hash:
        raise SignatureError("fail", "body hash did not verify")
    if terms.signs_from < len(block.by_name.get(b"from", ())):
        # RFC 6376 section 8.15: mail clients would show a field added on top as the author.
        raise SignatureError("fail", "a From field is not signed")
    if not key.verifies(signature.value, header_digest(block, signature), terms.hash_name):
        raise SignatureError("fail", "signature did not verify")


def check_key(signature: Signature, key: keys.PublicKey, rules: KeyRules) -> None:
    """Check that a key may verify a signature. Raises SignatureError."""
    if key.kind != signature.terms.key_kind:
        raise SignatureError("permerror", "key of another type than the signature")
    if key.hashes is not None and signature.terms.hash_name.encode() not in key.hashes:
        raise SignatureError("permerror", "the key forbids this hash algorithm")
    if key.kind == "rsa" and key.bits < rules.min_bits:
        raise SignatureError("policy", f"{key.bits}-bit key is too short")


def _result(
    verdict: DkimVerdict,
    reason: str,
    signature: Signature | None,
    key: keys.PublicKey | None = None,
    unsigned_octets: int = 0,
) -> SignatureResult:
    if signature is None:
        return SignatureResult(verdict, reason)
    terms = signature.terms
    return SignatureResult(
        verdict,
        reason,
        terms.domain,
        terms.selector,
        terms.identity,
        terms.algorithm,
        signature.shown,
        terms.canonicalization,
        0 if key is None else key.bits,
        key is not None and key.testing,
        unsigned_octets,
    )
