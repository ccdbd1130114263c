"""ARC: validation of the chain of earlier handlers (RFC 8617 section 5.2)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from functions.message.canon import CRLF
from listener.mailauth.dkim import keys
from listener.mailauth.dkim.digests import BodyHashes, body_hash, header_digest, sealed_form
from listener.mailauth.dkim.fields import HeaderBlock, HeaderField
from listener.mailauth.dkim.signature import (
    Signature,
    SignatureError,
    parse_arc_message_signature,
    parse_arc_seal,
)
from listener.mailauth.dkim.verify import MAX_KEY_RECORDS, KeyRules, check_key
from listener.mailauth.dns.resolver import DnsAnswer, Outcome, Question
from listener.mailauth.results import ArcResult

MAX_INSTANCES: Final = 50
"""RFC 8617 section 4.2.1."""

_INSTANCE: Final = re.compile(rb"[1-9][0-9]?")
_RESULTS_INSTANCE: Final = re.compile(rb"[ \t\r\n]*i[ \t\r\n]*=[ \t\r\n]*([1-9][0-9]?)[ \t\r\n]*;")


_T = TypeVar("_T")


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
        self.body_hashes: Final = [body_hash(self._sets[-1].message_signature)] if self._sets else []

    @property
    def questions(self) -> list[Question]:
        """The keys needed: at most two for each instance."""
        return [
            signature.question for each in self._sets for signature in (each.seal, each.message_signature)
        ]

    def judge(self, answers: Mapping[Question, DnsAnswer], bodies: BodyHashes) -> ArcResult:
        """The chain's verdict."""
        if self._error:
            return ArcResult("fail", self._error)
        if not self._sets:
            return ArcResult("none")
        last = self._sets[-1].seal
        described = {"instances": len(self._sets), "domain": last.domain, "selector": last.selector}
        try:
            pending = self._verify(answers, bodies)
        except (_ChainError, SignatureError) as error:
            return ArcResult("fail", str(error), **described)  # type: ignore[arg-type]
        if pending:
            return ArcResult("temperror", "a key could not be fetched", **described)  # type: ignore[arg-type]
        oldest = self._oldest_pass(answers, bodies)
        return ArcResult("pass", oldest_pass=oldest, **described)  # type: ignore[arg-type]

    def _verify(self, answers: Mapping[Question, DnsAnswer], bodies: BodyHashes) -> bool:
        """Sections 5.2 steps 4 and 6. True if the chain holds, apart from keys that are temporarily
        unavailable."""
        pending = False
        try:
            self._verify_message(self._sets[-1].message_signature, answers, bodies)
        except _KeyPending:
            pending = True
        digest = hashlib.sha256()
        seals: list[tuple[int, Signature, bytes]] = []
        for instance, each in enumerate(self._sets, 1):
            digest.update(each.results.relaxed + CRLF + each.message_signature.field.relaxed + CRLF)
            sealed = digest.copy()
            sealed.update(sealed_form(each.seal.field, relaxed=True))
            seals.append((instance, each.seal, sealed.digest()))
            digest.update(each.seal.field.relaxed + CRLF)
        for instance, seal, over in reversed(seals):
            try:
                self._check(seal, over, answers)
            except _KeyPending:
                pending = True
            except SignatureError as error:
                raise _ChainError(f"seal {instance}: {error.reason}") from error
        return pending

    def _verify_message(
        self, signature: Signature, answers: Mapping[Question, DnsAnswer], bodies: BodyHashes
    ) -> None:
        if bodies.digest(body_hash(signature)) != signature.body_hash:
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
                if key.verifies(signature.value, digest, signature.hash_name):
                    return
                fault = SignatureError("fail", "signature did not verify")
            except keys.KeyRecordError as error:
                fault = SignatureError("permerror", str(error))
            except SignatureError as error:
                fault = error
        raise fault

    def _oldest_pass(self, answers: Mapping[Question, DnsAnswer], bodies: BodyHashes) -> int:
        """Section 5.2 step 5: the oldest instance whose message signatures still verify."""
        for instance in range(len(self._sets) - 1, 0, -1):
            try:
                self._verify_message(self._sets[instance - 1].message_signature, answers, bodies)
            except (SignatureError, _KeyPending):
                return instance + 1
        return 0


def _read(block: HeaderBlock) -> list[_Set]:
    """The sets in order of their instances. Raises _ChainError or SignatureError."""
    results = block.named(b"arc-authentication-results")
    messages = block.named(b"arc-message-signature")
    seals = block.named(b"arc-seal")
    if not (results or messages or seals):
        return []
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
    if signature.hash_name == "sha1":
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
