"""DMARC policy records (RFC 9989 sections 4.7 and 4.8)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, cast

from listener.mailauth.results import Policy

PREFIX: Final = "_dmarc."

MAX_RECORD: Final = 2_048
"""Most bytes of a policy record; the longest in use, with lists of report addresses, have 700."""

_VERSION: Final = re.compile(rb"[vV][ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")  # first, and exactly in this form
_POLICIES: Final = (b"none", b"quarantine", b"reject")
_URI: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")  # a prefix of RFC 3986 section 3


@dataclass(frozen=True, slots=True)
class Record:
    """One record, defaults filled in; `subdomains` and `nonexistent` are None without sp and np."""

    policy: Policy
    subdomains: Policy | None = None
    nonexistent: Policy | None = None
    dkim_strict: bool = False
    spf_strict: bool = False
    psd: Literal["y", "n", "u"] = "u"
    testing: bool = False
    applies: bool = True
    """False if a policy is missing or malformed and there is no report address: then no DMARC
    processing takes place (section 4.10.1). The tree walk still counts the record."""


def parse(text: bytes) -> Record | None:
    """Parse a TXT record; None if it is not a DMARC record. Malformed tags take their defaults."""
    return _parse(text) if len(text) <= MAX_RECORD and _VERSION.match(text) else None


@lru_cache(maxsize=1_024)
def _parse(text: bytes) -> Record:
    tags: dict[bytes, bytes] = {}
    for part in text.split(b";"):
        name, equals, value = part.partition(b"=")
        if equals:
            tags.setdefault(name.strip(b" \t").lower(), value.strip(b" \t"))
    policies = {name: _policy(tags[name]) for name in (b"p", b"sp", b"np") if name in tags}
    reported = any(_URI.fullmatch(uri.strip(b" \t")) for uri in tags.get(b"rua", b"").split(b","))
    flags = {name: tags.get(name, b"").lower() for name in (b"adkim", b"aspf", b"psd", b"t")}
    psd = flags[b"psd"]
    rest = Record(
        policy="none",
        dkim_strict=flags[b"adkim"] == b"s",
        spf_strict=flags[b"aspf"] == b"s",
        psd="y" if psd == b"y" else "n" if psd == b"n" else "u",
        testing=flags[b"t"] == b"y",
        applies=reported,
    )
    policy = policies.get(b"p")
    if policy is None or None in policies.values():
        return rest
    return Record(
        policy=policy,
        subdomains=policies.get(b"sp"),
        nonexistent=policies.get(b"np"),
        dkim_strict=rest.dkim_strict,
        spf_strict=rest.spf_strict,
        psd=rest.psd,
        testing=rest.testing,
    )


def weakened(policy: Policy) -> Policy:
    """The policy under t=y: one level less (section 4.7)."""
    return "quarantine" if policy == "reject" else "none"


def _policy(value: bytes) -> Policy | None:
    word = value.lower()
    return cast(Policy, word.decode()) if word in _POLICIES else None
