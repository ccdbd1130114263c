"""`blacklist`: refuse mail by its client, sender or recipient."""

from __future__ import annotations

from typing import Literal

from listener.api.decision import ABSTAIN, REFUSE
from listener.api.filter import BuildContext
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
    listed = REFUSE
    unlisted = ABSTAIN


def build(options: BlacklistOptions, name: str, context: BuildContext) -> Blacklist:
    """The filter of these options, which were checked when they were read."""
    return Blacklist(name, options)
