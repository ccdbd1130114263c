"""`blacklist`: refuse mail by its client, sender or recipient."""

from __future__ import annotations

from typing import Literal

from listener.api.context import BuildContext
from listener.api.decision import ABSTAIN, DEFER, REFUSE, Decision
from listener.api.session import Session, Transaction
from listener.filters.whitelist import ListOptions, Lists


class BlacklistOptions(ListOptions):
    """Refuse mail by its client, sender or recipient: one match in one field is enough. It only
    objects: with AND and OR alike it can keep its flow from taking a mail, and another filter must
    accept. Values are written as in a `whitelist`.
    """

    type: Literal["blacklist"]

    guard = True


class Blacklist(Lists):
    """Refuses listed values, at each phase that its fields are about, and abstains otherwise."""

    guard = True

    def on_connect(self, session: Session) -> Decision:
        listed = self.client(session)
        return DEFER if listed is None else REFUSE if listed else ABSTAIN

    def on_mail(self, session: Session, transaction: Transaction) -> Decision:
        return REFUSE if transaction.reverse_path in self._from else ABSTAIN

    def on_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Decision:
        return REFUSE if recipient in self._to else ABSTAIN


def build(options: BlacklistOptions, name: str, context: BuildContext) -> Blacklist:
    """The filter of these options, which were checked when they were read."""
    return Blacklist(name, options)
