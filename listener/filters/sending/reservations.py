"""The recipients of mails on their way: counted at RCPT, again at the final dot, given back at the end."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from weakref import WeakValueDictionary

from functions.errors import ConfigError
from listener.api.decision import ABSTAIN, Decision, defer, refuse
from listener.api.filter import Answer, FilterObserver
from listener.api.session import Transaction
from listener.filters.sending.choices import Choice, Mark
from listener.filters.sending.counts import FILE, Counts, Over
from listener.filters.sending.credits import Credit
from listener.filters.sending.rules import Client, Rule
from listener.filters.sending.slots import Buckets, StoreFault, Taken
from listener.filters.sending.table import TableCounts

log = logging.getLogger("smtp_relay.filters")

MOST_OPEN: Final = 1_000
"""Mails of one user, or of one address, before their final dot, that a process has at a time."""

_TELL: Final = 60.0
"""Seconds between two log records of a store that cannot be reached."""

_UNCOUNTED: Final = defer(451, "4.3.0", "Recipients cannot be counted now, try again later")
_TOO_MANY_OPEN: Final = defer(451, "4.7.1", "Too many mails of this client are on their way, try again later")


Record = tuple[Choice, dict[str, Mark]]
"""What is counted for a mail on its way: for whom, and the mark of each recipient."""


def note(keeper: object, choice: Choice, transaction: Transaction, recipient: str) -> bool:
    """Note a recipient that is taken out of the choice's credit; false if it may not be."""
    records = transaction.records or {}
    mail: Record | None = records.get(keeper)
    if mail is None:
        if len(choice.opened) >= MOST_OPEN:
            return False
        mail = (choice, {})
        transaction.records = {**records, keeper: mail}
        choice.opened.add(transaction.id)
    elif recipient in mail[1] or len(mail[1]) >= choice.most:
        return False
    mail[1][recipient] = choice.mark
    return True


class Reservations:
    """The reservations of one filter in one process, which are in the records of the mails.
    `accepts_uncounted` says that recipients pass if they cannot be counted."""

    def __init__(
        self, name: str, rules: Sequence[Rule], table: TableCounts | None, *, accepts_uncounted: bool
    ) -> None:
        self._name = name
        self._rules = rules
        self._accepts_uncounted = accepts_uncounted
        self._table = table
        self._store: Counts | TableCounts | None = table
        self._opened: WeakValueDictionary[str, set[str]] = WeakValueDictionary()
        self._told = -math.inf
        self.observer: FilterObserver | None = None

    def start(self, state: Path | None) -> None:
        """Open the counts in that folder. Raises ConfigError."""
        if self._store is None and any(rule.limits for rule in self._rules):
            try:
                self._store = Counts(None if state is None else state / FILE)
            except StoreFault as fault:
                cure = "make the spool's folder writable"
                raise ConfigError(f"filter {self._name}", str(fault), cure) from fault

    async def stop(self) -> None:
        """Give back what is counted ahead."""
        if self._table is not None:
            await self._table.stop()
        elif isinstance(self._store, Counts):
            with suppress(StoreFault):
                self._store.close()

    def opened(self, client: Client) -> set[str]:
        """The ids of the client's mails on their way, shared by all that ask for them."""
        return self._opened.setdefault(client.who, set())

    def prepare(self, rule: Rule, client: Client) -> Answer:
        """A mail begins: take a block of the table before the client names a recipient."""
        if self._table is None or not rule.limits or rule.names_recipients:
            return ABSTAIN
        asked = self._table.prepare(rule.windows(client))
        return ABSTAIN if asked is None else self._prepared(asked)

    async def _prepared(self, asked: Awaitable[Taken | Over]) -> Decision:
        try:
            await asked
        except StoreFault as fault:
            return self._uncounted(fault)
        return ABSTAIN  # RCPT says which limit has no room

    def count(self, place: int, choice: Choice, transaction: Transaction, recipient: str) -> Answer:
        """Count a recipient under the rule at that place."""
        rule, client = self._rules[place], choice.client
        mail = self._record(transaction)
        if mail is None:
            if len(choice.opened) >= MOST_OPEN:
                return _TOO_MANY_OPEN
            mail = (choice, {})
            transaction.records = {**(transaction.records or {}), self: mail}
            choice.opened.add(transaction.id)
        elif recipient in mail[1]:
            # Another filter refused it, and the client asks again.
            return ABSTAIN
        if rule.per_mail is not None and len(mail[1]) >= rule.per_mail.most:
            refused = mail[1].keys() - set(transaction.recipients)
            same = [one for one, (other, _) in mail[1].items() if other == place and one not in refused]
            if len(same) >= rule.per_mail.most:
                return self._over(rule, rule.per_mail.text, client)
        if not rule.limits:
            mail[1][recipient] = (place, ())
            return ABSTAIN
        if self._store is None:
            return self._uncounted(StoreFault("the filter was not started"))
        try:
            taken = self._store.take(rule.windows(client))
        except StoreFault as fault:
            return self._uncounted(fault)
        if isinstance(taken, Taken):
            mail[1][recipient] = (place, taken.buckets)
            if taken.warn:
                self._warn(rule, client, taken)
            if self.observer is not None:
                self.observer.recipient_counted(self._name, rule.label, taken.share)
            return ABSTAIN
        if isinstance(taken, Over):
            return self._over(rule, rule.limits[taken.place].text, client)
        return self._counted_later(place, mail, transaction, (recipient,), taken)

    def _record(self, transaction: Transaction) -> Record | None:
        return None if transaction.records is None else transaction.records.get(self)

    def ahead(self, place: int, client: Client) -> Credit | None:
        """What is counted ahead under the rule at that place."""
        rule, store = self._rules[place], self._store
        return store.credit(rule.windows(client)) if rule.limits and isinstance(store, Counts) else None

    def confirm(
        self, chosen: Sequence[tuple[str, int]], choice: Choice, transaction: Transaction
    ) -> list[Answer]:
        """A mail came in whole for these recipients, each with the place of its rule: from now on they
        count under it. Returns the answers of the counts that changed."""
        mail = self._record(transaction)
        answers: list[Answer] = []
        groups: dict[Mark, list[str]] = {}
        moved = []
        for recipient, place in chosen:
            before = None if mail is None else mail[1].get(recipient)
            if before is None or before[0] != place:
                moved.append((recipient, place, before))
            elif before[1]:
                groups.setdefault(before, []).append(recipient)
        if moved and (over := self._too_many(chosen, choice.client)) is not None:
            return [over]
        for recipient, place, before in moved:
            if mail is not None and before is not None:
                del mail[1][recipient]
                self._give_back(self._rules[before[0]], choice.client, before[1], 1)
            if self._rules[place].counts:
                answers.append(self.count(place, choice, transaction, recipient))
        for (place, buckets), recipients in groups.items():
            assert mail is not None
            answers.append(self._renewed(place, mail, transaction, buckets, recipients))
        return answers

    async def first_objection(
        self, answers: Sequence[Answer], decided: Decision, choice: Choice, transaction: Transaction
    ) -> Decision:
        """The first of the answers of `confirm` that objects, after all have come."""
        found: list[Any] = [one for one in answers if isinstance(one, Decision)]
        found += await asyncio.gather(*(one for one in answers if not isinstance(one, Decision)))
        choice.opened.discard(transaction.id)
        return next((one for one in found if one is not ABSTAIN), decided)

    def _too_many(self, chosen: Sequence[tuple[str, int]], client: Client) -> Decision | None:
        """The answer to a mail with more recipients under one rule than it may have. `count` does not see
        those about which a table is asked at the same time."""
        for place, number in Counter(place for _, place in chosen).items():
            rule = self._rules[place]
            if rule.per_mail is not None and number > rule.per_mail.most:
                return self._over(rule, rule.per_mail.text, client)
        return None

    def _renewed(
        self,
        place: int,
        mail: Record,
        transaction: Transaction,
        buckets: Buckets,
        recipients: Sequence[str],
    ) -> Answer:
        assert self._store is not None
        try:
            taken = self._store.renew(self._rules[place].windows(mail[0].client), buckets, len(recipients))
        except StoreFault as fault:
            return self._uncounted(fault)
        if isinstance(taken, Taken) and taken.buckets == buckets:
            return ABSTAIN
        for recipient in recipients:
            del mail[1][recipient]
        if isinstance(taken, Taken | Over):
            return self._counted(place, mail, recipients, taken, again=True)
        return self._counted_later(place, mail, transaction, recipients, taken, again=True)

    async def _counted_later(
        self,
        place: int,
        mail: Record,
        transaction: Transaction,
        recipients: Sequence[str],
        asked: Awaitable[Taken | Over],
        *,
        again: bool = False,
    ) -> Decision:
        try:
            taken = await asked
        except StoreFault as fault:
            return self._uncounted(fault)
        if isinstance(taken, Taken) and self._record(transaction) is not mail:
            self._give_back(self._rules[place], mail[0].client, taken.buckets, len(recipients))
            return ABSTAIN  # the client left
        return self._counted(place, mail, recipients, taken, again=again)

    def _counted(
        self,
        place: int,
        mail: Record,
        recipients: Sequence[str],
        taken: Taken | Over,
        *,
        again: bool = False,
    ) -> Decision:
        rule, client = self._rules[place], mail[0].client
        if isinstance(taken, Over):
            return self._over(rule, rule.limits[taken.place].text, client)
        for recipient in recipients:
            mail[1][recipient] = (place, taken.buckets)
        self._warn(rule, client, taken)
        if self.observer is not None and not again:
            self.observer.recipient_counted(self._name, rule.label, taken.share)
        return ABSTAIN

    def _warn(self, rule: Rule, client: Client, taken: Taken) -> None:
        for one in taken.warn:
            extra = {"filter": self._name, "rule": rule.label, "limit": rule.limits[one].text}
            log.warning("a sending limit is 80 % used", extra={**extra, "who": rule.key(client)})

    def end(self, transaction: Transaction, taken: Collection[str]) -> None:
        """A mail is over: give back what is counted for recipients that are not among `taken`."""
        if transaction.records is None or (found := transaction.records.pop(self, None)) is None:
            return
        choice, counted = found
        choice.opened.discard(transaction.id)
        for one in taken:
            counted.pop(one, None)
        if counted:
            for (place, buckets), number in Counter(counted.values()).items():
                self._give_back(self._rules[place], choice.client, buckets, number)

    def _give_back(self, rule: Rule, client: Client, buckets: Buckets, number: int) -> None:
        if buckets and self._store is not None:
            try:
                self._store.give_back(rule.windows(client), buckets, number)
            except StoreFault as fault:
                log.warning("recipients stay counted", extra={"filter": self._name, "reason": str(fault)})

    def _uncounted(self, fault: StoreFault) -> Decision:
        now = time.monotonic()
        if now - self._told >= _TELL:
            self._told = now
            log.error("recipients cannot be counted", extra={"filter": self._name, "reason": str(fault)})
        return ABSTAIN if self._accepts_uncounted else _UNCOUNTED

    def _over(self, rule: Rule, limit: str, client: Client) -> Decision:
        if self.observer is not None:
            self.observer.over_limit(self._name, rule.label, limit)
        extra = {"filter": self._name, "rule": rule.label, "limit": limit, "who": rule.key(client)}
        log.debug("over a sending limit", extra=extra)
        text = f"Sending limit of {limit} recipients is used up"
        if rule.refuses:
            return refuse(550, "5.7.1", text)
        return defer(451, "4.7.1", f"{text}, try again later")
