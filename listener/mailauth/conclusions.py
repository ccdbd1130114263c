"""What a report says of a sender beside his signatures, kept while the DNS gives the same answers.

Nothing in it depends on the mail's bytes, except by the key: the author's domain, the selector of BIMI, and
of each signature the verdict, the domain, and if it leaves text of the body out.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from functions.message.domains import MAX_NAME
from listener.mailauth.dns.memo import Memo
from listener.mailauth.dns.resolver import DnsAnswer, Question
from listener.mailauth.results import BimiResult, DmarcResult, Shared, SignatureResult, SpfResult
from listener.mailauth.spf import MAX_LOCAL_PART, Sender

MAX_SIGNATURES: Final = 4
"""Most signatures of a mail of which something is kept."""


Key = tuple[str, str, bool, tuple[str, ...], str, tuple[tuple[str, str, bool], ...]]
"""All that a conclusion follows from beside the answers and the options of the checks, if no record has a
macro of SPF: the client's address, the domain of the reverse-path (or the name in HELO, which the flag says),
the author's domain, the selector of BIMI, and the signatures."""


class Conclusion(NamedTuple):
    """The results of SPF, DMARC and BIMI. That of SPF has the sender of an earlier mail. `shared` is that of
    reports without an ARC chain."""

    spf: SpfResult
    dmarc: tuple[DmarcResult, ...]
    bimi: BimiResult | None
    shared: Shared


Conclusions = Memo[Key, Conclusion]


def key_of(
    sender: Sender, authors: tuple[str, ...], selector: str, signatures: tuple[SignatureResult, ...]
) -> Key | None:
    """The key of a mail; None if nothing of it is kept, because it is unusual or a key of a signature is
    temporarily unavailable."""
    path = sender.reverse_path
    local, _, claimed = path.rpartition("@")
    if not path:
        claimed = sender.helo
    if len(claimed) > MAX_NAME or len(local) > MAX_LOCAL_PART or len(signatures) > MAX_SIGNATURES:
        return None
    for author in authors:
        if len(author) > MAX_NAME:
            return None  # a stranger's text, which would stay in memory
    found = []
    for one in signatures:
        if one.verdict == "temperror":
            return None
        found.append((one.verdict, one.domain, one.unsigned_octets > 0))
    return sender.ip, claimed, not path, authors, selector, tuple(found)


def keep(memo: Conclusions, key: Key, answers: dict[Question, DnsAnswer], found: Conclusion) -> None:
    """Keep a conclusion from these answers, unless it is a temporary failure or may depend on more."""
    if found.spf.verdict == "temperror" or any(result.verdict == "temperror" for result in found.dmarc):
        return
    if not any(b"%" in text for answer in answers.values() for text in answer.texts):
        memo.put(key, answers, found)
