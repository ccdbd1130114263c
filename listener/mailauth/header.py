"""The parts of a mail's header that the checks read before they query DNS."""

from __future__ import annotations

from typing import Final, Protocol

from listener.mailauth.authors import Authors, authors
from listener.mailauth.dkim.arc import NO_CHAIN, Chain, has_fields
from listener.mailauth.dkim.fields import HeaderBlock
from listener.mailauth.dkim.signature import BodyHash
from listener.mailauth.dkim.verify import KeyRules, Signatures
from listener.mailauth.received import received_chain

_NO_AUTHORS: Final = Authors((), 0, complete=True)


class Wanted(Protocol):
    """The options of the checks that say what to read."""

    @property
    def arc(self) -> bool: ...

    @property
    def dmarc(self) -> bool: ...

    @property
    def keys(self) -> KeyRules: ...


class ReadHeader:
    """One header, read: `now` is Unix time, and `crlf` says that it has no CR or LF but in CRLFs."""

    __slots__ = ("authors", "block", "chain", "keys", "no_chain", "received", "signatures")

    def __init__(self, head: bytes, checks: Wanted, now: float, *, crlf: bool) -> None:
        self.block: Final = HeaderBlock(head, crlf=crlf)
        self.signatures: Final = Signatures(self.block, checks.keys, now)
        self.chain: Final = Chain(self.block, checks.keys) if checks.arc and has_fields(self.block) else None
        self.no_chain: Final = NO_CHAIN if checks.arc else None
        """The result of ARC for a mail without a chain."""
        self.authors: Final = authors(self.block) if checks.dmarc else _NO_AUTHORS
        self.received: Final = received_chain(self.block)
        self.keys: Final = len(self.signatures.questions) + (self.chain.keys if self.chain else 0)
        """The most keys to fetch and to verify with."""

    def body_hashes(self) -> list[BodyHash]:
        """The hashes of the body needed."""
        wanted = self.signatures.body_hashes
        return wanted if self.chain is None else [*wanted, *self.chain.body_hashes]
