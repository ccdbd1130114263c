"""ARC: validation of the chain of earlier handlers (RFC 8617 section 5.2).

The newest set is judged first. Keys of older sets are needed only if it holds, because anyone can put
fifty sets with a hundred keys on a mail.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeVar

from functions.message.canon import CRLF
from listener.mailauth.dkim import keys
from listener.mailauth.dkim.digests import BodyHashes, header_digest, sealed_form
from listener.mailauth.dkim.fields import HeaderBlock, HeaderField
from listener.mailauth.dkim.signature import (
    Signature,
    SignatureError,
    parse_arc_message_signature,
    parse_arc_seal,
)
from listener.mailauth.dkim.verify import MAX_KEY_RECORDS, KeyRules, check_key
from listener.mailauth.dns.resolver import DnsAnswer, Outcome, Question
from listener.mailauth.results import ArcResult, ArcVerdict

MAX_INSTANCES: Final = 50
"""RFC 8617 section 4.2.1."""

_PENDING: Final = "a key could not be fetched"
_INSTANCE: Final = re.compile(rb"[1-9][0-9]?")
_RESULTS_INSTANCE: Final = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([1-9][0-9]?)[ \t\r\n]*;")


NO_CHAIN: Final = ArcResult("none")
"""The verdict on a mail without any field of ARC."""

_NAMES: Final = (b"arc-authentication-results", b"arc-message-signature", b"arc-seal")

_T = TypeVar("_T")


def has_fields(block: HeaderBlock) -> bool:
    """True if a mail has fields of ARC, so perhaps a chain."""
    return not block.by_name.keys().isdisjoint(_NAMES)


class _ChainError(Exception):
    """The chain is not valid. The text is short and the relay's own."""


class _KeyPending(Exception):
    """A key is temporarily unavailable."""


@dataclass(frozen=True, slots=True)
class _Set:
    """One parsed ARC set."""

    results: HeaderField
    message_signature: Signature
    seal: Signature


class Chain:
    """The ARC chain of one mail: parse the header, ask it for keys, then for the verdict."""

    def __init__(self, block: HeaderBlock, rules: KeyRules) -> None:
        self._block = block
        self._rules = rules
        self._sets: list[_Set] = []
        self._error = ""
        try:
            self._sets = _read(block)
        except (_ChainError, SignatureError) as error:
            self._error = str(error)
        # Older message signatures only show where the mail was changed. They do not justify hashing
        # the body again, so those with other body hashes are skipped.
        self.body_hashes: Final = [self._sets[-1].message_signature.covers] if self._sets else []
        self.keys: Final = 2 * len(self._sets)
        """The most keys that both judgements need."""

    @property
    def newest_questions(self) -> list[Question]:
        """The keys that `judge_newest` needs: at most two."""
        return [
            signature.question
            for each in self._sets[-1:]
            for signature in (each.message_signature, each.seal)
        ]

    @property
    def older_questions(self) -> list[Question]:
        """The keys that `judge_older` needs besides: at most two for each instance. Seals come first,
        because the verdict depends on them."""
        older = self._sets[-2::-1]
        return [
            *(each.seal.question for each in older),
            *(each.message_signature.question for each in older),
        ]

    @property
    def verdict_without_keys(self) -> ArcResult:
        """The verdict if there is no chain, or none that can be read."""
        return ArcResult("fail", self._error) if self._error else NO_CHAIN

    def judge_newest(self, answers: Mapping[Question, DnsAnswer], bodies: BodyHashes) -> ArcResult | None:
        """The verdict if the newest set decides it, else None: then the older sets decide."""
        if not self._sets:
            return self.verdict_without_keys
        newest = self._sets[-1]
        pending = False
        try:
            try:
                self._verify_message(newest.message_signature, answers, bodies)
            except _KeyPending:
                pending = True
            pending |= self._verify_seals(range(len(self._sets), len(self._sets) - 1, -1), answers)
        except (_ChainError, SignatureError) as error:
            return self._result("fail", str(error))
        return self._result("temperror", _PENDING) if pending else None

    def judge_older(self, answers: Mapping[Question, DnsAnswer], bodies: BodyHashes) -> ArcResult:
        """The verdict of a chain whose newest set holds."""
        try:
            pending = self._verify_seals(range(len(self._sets) - 1, 0, -1), answers)
        except _ChainError as error:
            return self._result("fail", str(error))
        if pending:
            return self._result("temperror", _PENDING)
        return self._result("pass", oldest_pass=self._oldest_pass(answers, bodies))

    def _result(self, verdict: ArcVerdict, reason: str = "", oldest_pass: int | None = None) -> ArcResult:
        last = self._sets[-1].seal
        return ArcResult(
            verdict, reason, len(self._sets), oldest_pass, last.terms.domain, last.terms.selector
        )

    def _verify_seals(self, instances: Iterable[int], answers: Mapping[Question, DnsAnswer]) -> bool:
        """Section 5.2 step 6. True when the seals hold, apart from keys that are temporarily unavailable.
        Raises _ChainError."""
        pending = False
        for instance in instances:
            try:
                self._check(self._sets[instance - 1].seal, self._sealed[instance - 1], answers)
            except _KeyPending:
                pending = True
            except SignatureError as error:
                raise _ChainError(f"seal {instance}: {error.reason}") from error
        return pending

    @cached_property
    def _sealed(self) -> list[bytes]:
        """The digest that each seal signs: over its own set and all older ones."""
        found: list[bytes] = []
        digest = hashlib.sha256()
        for each in self._sets:
            digest.update(each.results.relaxed + CRLF + each.message_signature.field.relaxed + CRLF)
            sealed = digest.copy()
            sealed.update(sealed_form(each.seal.field, self._block.relaxed))
            found.append(sealed.digest())
            digest.update(each.seal.field.relaxed + CRLF)
        return found

    def _verify_message(
        self, signature: Signature, answers: Mapping[Question, DnsAnswer], bodies: BodyHashes
    ) -> None:
        if bodies.digest(signature.covers) != signature.body_hash:
            raise SignatureError("fail", "body hash did not verify")
        self._check(signature, header_digest(self._block, signature), answers)

    def _check(self, signature: Signature, digest: bytes, answers: Mapping[Question, DnsAnswer]) -> None:
        """Raises SignatureError, or _KeyPending."""
        answer = answers[signature.question]
        if answer.failed:
            raise _KeyPending
        fault = SignatureError("permerror", "no key")
        for record in answer.texts[:MAX_KEY_RECORDS] if answer.outcome is Outcome.FOUND else ():
            try:
                key = keys.parse(record)
                check_key(signature, key, self._rules)
                if key.verifies(signature.value, digest, signature.terms.hash_name):
                    return
                fault = SignatureError("fail", "signature did not verify")
            except keys.KeyRecordError as error:
                fault = SignatureError("permerror", str(error))
            except SignatureError as error:
                fault = error
        raise fault

    def _oldest_pass(self, answers: Mapping[Question, DnsAnswer], bodies: BodyHashes) -> int | None:
        """Section 5.2 step 5: the oldest instance whose message signatures still verify; None if a key
        is missing that tells it."""
        for instance in range(len(self._sets) - 1, 0, -1):
            try:
                self._verify_message(self._sets[instance - 1].message_signature, answers, bodies)
            except _KeyPending:
                return None
            except SignatureError:
                return instance + 1
        return 0


def _read(block: HeaderBlock) -> list[_Set]:
    """The sets in order of their instances. Raises _ChainError or SignatureError."""
    results, messages, seals = map(block.named, _NAMES)
    count = len(seals)
    if block.fault:
        raise _ChainError(block.fault)
    if max(len(results), len(messages), count) > MAX_INSTANCES:
        raise _ChainError("too many instances")
    if not len(results) == len(messages) == count:
        raise _ChainError("incomplete set")
    aars = _numbered((_results_instance(field), field) for field in results)
    amss = _numbered(map(_instance_of, map(parse_arc_message_signature, messages)))
    ases = _numbered(map(_instance_of, map(parse_arc_seal, seals)))
    if not set(aars) == set(amss) == set(ases) == set(range(1, count + 1)):
        raise _ChainError("instances are not 1 to n, each once")
    for instance in range(count, 0, -1):
        validation = ases[instance].tags[b"cv"]
        if validation == b"fail":
            raise _ChainError(f"seal {instance} reports a failed chain")
        if validation != (b"none" if instance == 1 else b"pass"):
            raise _ChainError(f"seal {instance} has the wrong cv=")
    return [_Set(aars[i], amss[i], ases[i]) for i in range(1, count + 1)]


def _results_instance(field: HeaderField) -> int:
    match = _RESULTS_INSTANCE.match(field.value)
    if match is None:
        raise _ChainError("ARC-Authentication-Results without i=")
    return int(match[1])


def _instance_of(signature: Signature) -> tuple[int, Signature]:
    instance = signature.tags[b"i"]
    if not _INSTANCE.fullmatch(instance):
        raise _ChainError("i= is not an instance number")
    if signature.terms.hash_name == "sha1":
        raise _ChainError("rsa-sha1 is not accepted")
    return int(instance), signature


def _numbered(items: Iterable[tuple[int, _T]]) -> dict[int, _T]:
    """The fields by instance. Raises _ChainError for a duplicate."""
    found: dict[int, _T] = {}
    for instance, item in items:
        if instance in found:
            raise _ChainError("an instance comes twice")
        found[instance] = item
    return found
