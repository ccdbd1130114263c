"""The rules that are about a client and permit its reverse-path."""

from __future__ import annotations

from typing import Final

from listener.filters.sending.credits import Credit
from listener.filters.sending.rules import Client, Rule
from listener.filters.sending.senders import in_context
from listener.filters.sending.slots import Buckets

Mark = tuple[int, Buckets]
"""A recipient's rule, by its place, and when it was counted."""

_NO_LIMIT: Final = 1_000_000_000


class Choice:
    """The rules, by their places, that are about a client and permit its reverse-path; for whom they count;
    and by From field those that permit the senders of a header. `opened` are the ids of the client's mails
    before their final dot. `first` is the first of the places if its rule is about all recipients, else None;
    `credit` is counted ahead under it, and gives `mark`; `most` are the recipients of one mail. `field` is
    the last From field that all of the rules permit; `line` is the same for `senders.names_again` after two
    mails had it, else b""."""

    __slots__ = (
        "client",
        "credit",
        "field",
        "first",
        "label",
        "line",
        "mark",
        "most",
        "opened",
        "permitting",
        "places",
    )

    def __init__(self, places: tuple[int, ...], client: Client, opened: set[str], first: int | None) -> None:
        self.places = places
        self.client = client
        self.opened = opened
        self.first = first
        self.credit: Credit | None = None
        self.mark: Mark = (-1, ())
        self.most = 0
        self.label = ""
        self.field = b""
        self.line = b""
        self.permitting: dict[bytes, tuple[int, ...]] = {}

    def use(self, rule: Rule, place: int, credit: Credit | None) -> None:
        """Take recipients out of that credit of the first rule from now on."""
        self.credit = credit
        if credit is not None:
            mark = (place, credit.taken.buckets)
            if mark != self.mark:  # recipients of one mark have the same object
                self.mark = mark
            self.most = _NO_LIMIT if rule.per_mail is None else rule.per_mail.most
            self.label = rule.label

    def permits(self, head: bytes, field: bytes) -> None:
        """All of the rules permit that From field of a header block."""
        self.line = in_context(head, field) if field == self.field else b""
        self.field = field
