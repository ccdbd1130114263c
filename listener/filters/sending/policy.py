"""`sending-policy`: who may send as whom, and how much (docs/filters/sending-policy.md)."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

from functions.errors import ConfigError
from functions.message.headers import HeaderEdits
from listener.api.decision import ABSTAIN, Decision, Phase, defer, refuse
from listener.api.filter import BuildContext, Filter, FilterObserver
from listener.api.session import Message, Session, Transaction
from listener.filters.sending.counts import FILE, Buckets, Counts, Over, Taken
from listener.filters.sending.options import SendingPolicyOptions
from listener.filters.sending.rules import Client, Rule
from listener.filters.sending.senders import FIELDS, HeaderSenders, senders_of, shown
from listener.filters.sending.slots import StoreFault

log = logging.getLogger("smtp_relay.filters")

MOST_OPEN: Final = 1_000
"""Mails of one user, or of one address, that may be on their way at a time in one process."""

_REMEMBERED: Final = 1_024
_SENDERS: Final = 32

_TELL: Final = 60.0
"""Seconds between two log records of a store that cannot be reached."""

_NO_LOGIN: Final = refuse(553, "5.7.1", "Sender address rejected: not logged in as a user who may send")
_NO_RECIPIENT: Final = refuse(550, "5.7.1", "Recipient address rejected: this client may not send to it")
_UNCOUNTED: Final = defer(451, "4.3.0", "Recipients cannot be counted now, try again later")
_TOO_MANY_OPEN: Final = defer(451, "4.7.1", "Too many mails of this client are on their way, try again later")


class _Choice(NamedTuple):
    """The rules, by their places, that are about a client and permit its reverse-path; for whom they count;
    and those that permit the senders of a header."""

    places: tuple[int, ...]
    client: Client
    who: str
    permitting: dict[HeaderSenders, tuple[int, ...]]


class _OpenMail:
    """What is counted for a mail on its way: for each recipient the rule, by its place, and when."""

    __slots__ = ("client", "counted", "who")

    def __init__(self, client: Client, who: str) -> None:
        self.client = client
        self.who = who
        self.counted: dict[str, tuple[int, Buckets]] = {}


class SendingPolicy(Filter):
    """Refuses senders that no rule permits, and counts recipients.

    A recipient counts from RCPT, and again from the final dot if the parts of the windows differ then, so
    that neither way of telling the time lets more through. What is counted stays counted, unless the flow
    says that nothing was stored: a process that dies leaves no room that was not there.
    """

    phases = frozenset({Phase.MAIL, Phase.RCPT, Phase.DATA})
    guard = True

    def __init__(
        self,
        name: str,
        options: SendingPolicyOptions,
        flow: str,
        state: Path | None,
        mail_headers: Mapping[str, object],
    ) -> None:
        super().__init__(name)
        self._rules = tuple(Rule(one, number, flow, name) for number, one in enumerate(options.rules))
        self._path = None if state is None else state / FILE
        self._accepts_uncounted = options.on_store_error == "accept"
        self._counting = options.counts_recipients
        self._counts: Counts | None = None
        self._open: dict[str, _OpenMail] = {}
        self._opened: dict[str, int] = {}
        self._observer: FilterObserver | None = None
        self._told = -math.inf
        self._chosen: dict[tuple[str, str, str], _Choice] = {}
        self.follows_mails = self._counting or any(one.per_mail for one in self._rules)
        if not self.follows_mails and not any(one.names_recipients for one in self._rules):
            self.phases = frozenset({Phase.MAIL, Phase.DATA})
        touched = {key.lstrip("-?").lower() for key in mail_headers} & set(FIELDS)
        self._edits = HeaderEdits(mail_headers) if touched else None

    async def start(self) -> None:
        if self._counting and self._counts is None:
            try:
                self._counts = Counts(self._path)
            except StoreFault as fault:
                raise ConfigError(
                    f"filter {self.name}", str(fault), "make the spool's folder writable"
                ) from fault

    def observe(self, observer: FilterObserver) -> None:
        self._observer = observer

    # -- the phases ----------------------------------------------------------------------------

    def on_mail(self, session: Session, transaction: Transaction) -> Decision:
        if self._choice(session, transaction).places:
            return ABSTAIN
        user = session.user or ""
        if not any(rule.is_for(session, user) for rule in self._rules):
            return _NO_LOGIN if not user else refuse(553, "5.7.1", f"User {shown(user)} may not send")
        path = shown(transaction.reverse_path) or "<>"
        return refuse(553, "5.7.1", f"Sender address rejected: {path} is not one of this client's addresses")

    def on_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Decision:
        user = session.user or ""
        choice = self._choice(session, transaction)
        for place in choice.places:
            rule = self._rules[place]
            if rule.permits_recipient(recipient, user):
                if not rule.limits and rule.per_mail is None:
                    return ABSTAIN
                return self._count(place, choice, transaction, recipient)
        return _NO_RECIPIENT

    def on_data(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Decision:
        head = message.head
        if self._edits is not None:
            head = self._edits.added(head) + self._edits.kept(head)
        senders = senders_of(head)
        if senders.fault:
            return refuse(550, "5.7.1", senders.fault)
        user = session.user or ""
        choice = self._choice(session, transaction)
        allowed = choice.permitting.get(senders)
        if allowed is None:
            if len(choice.permitting) >= _SENDERS:
                choice.permitting.clear()
            allowed = choice.permitting[senders] = tuple(
                one for one in choice.places if self._rules[one].foreign(senders, user) is None
            )
        if not allowed:
            field, address = next(
                (found for one in choice.places if (found := self._rules[one].foreign(senders, user))),
                ("From", ""),
            )
            text = f"{field} header rejected: {shown(address)} is not one of this client's addresses"
            return refuse(550, "5.7.1", text)
        if not self.follows_mails and choice.places == allowed:
            return ABSTAIN
        kept = []
        for recipient in recipients:
            for place in allowed:
                if self._rules[place].permits_recipient(recipient, user):
                    break
            else:
                continue
            kept.append(recipient)
            answer = self._count_at_data(place, choice, transaction, recipient)
            if answer is not ABSTAIN:
                return answer
        if not kept:
            return refuse(550, "5.7.1", "This client may not send such a mail to these recipients")
        return ABSTAIN if len(kept) == len(recipients) else Decision("abstain", recipients=frozenset(kept))

    def mail_ended(self, mail: str, taken: frozenset[str]) -> None:
        found = self._open.pop(mail, None)
        if found is None:
            return
        number = self._opened.pop(found.who)
        if number > 1:
            self._opened[found.who] = number - 1
        if not found.counted.keys() <= taken:
            left = Counter(at for address, at in found.counted.items() if address not in taken)
            for (place, buckets), number in left.items():
                self._give_back(self._rules[place], found.client, buckets, number)

    # -- choosing ------------------------------------------------------------------------------

    def _choice(self, session: Session, transaction: Transaction) -> _Choice:
        user = session.user or ""
        key = (user, session.ip, transaction.reverse_path)
        found = self._chosen.get(key)
        if found is None:
            if len(self._chosen) >= _REMEMBERED:
                self._chosen.clear()
            client = Client.of(session)
            places = tuple(
                place
                for place, rule in enumerate(self._rules)
                if rule.is_for(session, user) and rule.permits_path(transaction.reverse_path, user)
            )
            found = self._chosen[key] = _Choice(places, client, client.user or client.address, {})
        return found

    # -- counting ------------------------------------------------------------------------------

    def _count(self, place: int, choice: _Choice, transaction: Transaction, recipient: str) -> Decision:
        rule = self._rules[place]
        mail = self._open.get(transaction.id)
        if mail is None:
            number = self._opened.get(choice.who, 0)
            if number >= MOST_OPEN:
                return _TOO_MANY_OPEN
            mail = self._open[transaction.id] = _OpenMail(choice.client, choice.who)
            self._opened[choice.who] = number + 1
        elif recipient in mail.counted:
            # Another filter refused it, and the client asks again.
            return ABSTAIN
        if rule.per_mail is not None and len(mail.counted) >= rule.per_mail.most:
            refused = mail.counted.keys() - set(transaction.recipients)
            same = [one for one, (other, _) in mail.counted.items() if other == place and one not in refused]
            if len(same) >= rule.per_mail.most:
                return self._over(rule, rule.per_mail.text, mail.client)
        if not rule.limits:
            mail.counted[recipient] = (place, ())
            return ABSTAIN
        try:
            taken = self._store().take(rule.windows(mail.client))
        except StoreFault as fault:
            return self._uncounted(fault)
        if isinstance(taken, Over):
            return self._over(rule, rule.limits[taken.place].text, mail.client)
        mail.counted[recipient] = (place, taken.buckets)
        if taken.warn:
            self._warn(rule, taken, mail.client)
        if self._observer is not None:
            self._observer.recipient_counted(self.name, rule.label, taken.share)
        return ABSTAIN

    def _count_at_data(
        self, place: int, choice: _Choice, transaction: Transaction, recipient: str
    ) -> Decision:
        """A recipient of a mail that came in whole counts from now on, under the rule that applies."""
        rule, mail = self._rules[place], self._open.get(transaction.id)
        before = None if mail is None else mail.counted.get(recipient)
        if mail is None or before is None or before[0] != place:
            if mail is not None and before is not None:
                del mail.counted[recipient]
                self._give_back(self._rules[before[0]], mail.client, before[1], 1)
            if not rule.limits and rule.per_mail is None:
                return ABSTAIN
            return self._count(place, choice, transaction, recipient)
        if not rule.limits:
            return ABSTAIN
        try:
            taken = self._store().renew(rule.windows(mail.client), before[1], 1)
        except StoreFault as fault:
            return self._uncounted(fault)
        if isinstance(taken, Over):
            del mail.counted[recipient]
            return self._over(rule, rule.limits[taken.place].text, mail.client)
        mail.counted[recipient] = (place, taken.buckets)
        return ABSTAIN

    def _store(self) -> Counts:
        if self._counts is None:
            raise StoreFault("the filter was not started")
        return self._counts

    def _give_back(self, rule: Rule, client: Client, buckets: Buckets, number: int) -> None:
        if buckets:
            try:
                self._store().give_back(rule.windows(client), buckets, number)
            except StoreFault as fault:
                log.warning("recipients stay counted", extra={"filter": self.name, "reason": str(fault)})

    def _uncounted(self, fault: StoreFault) -> Decision:
        now = time.monotonic()
        if now - self._told >= _TELL:
            self._told = now
            log.error("recipients cannot be counted", extra={"filter": self.name, "reason": str(fault)})
        return ABSTAIN if self._accepts_uncounted else _UNCOUNTED

    def _over(self, rule: Rule, limit: str, client: Client) -> Decision:
        if self._observer is not None:
            self._observer.over_limit(self.name, rule.label, limit)
        extra = {"filter": self.name, "rule": rule.label, "limit": limit, "who": rule.key(client)}
        log.debug("over a sending limit", extra=extra)
        text = f"Sending limit of {limit} recipients is used up"
        if rule.refuses:
            return refuse(550, "5.7.1", text)
        return defer(451, "4.7.1", f"{text}, try again later")

    def _warn(self, rule: Rule, taken: Taken, client: Client) -> None:
        for place in taken.warn:
            limit = rule.limits[place].text
            extra = {"filter": self.name, "rule": rule.label, "limit": limit, "who": rule.key(client)}
            log.warning("a sending limit is 80 % used", extra=extra)


def build(options: SendingPolicyOptions, name: str, context: BuildContext) -> SendingPolicy:
    """The filter of one entry. It opens the counts when it is started."""
    return SendingPolicy(name, options, context.flow, context.state, context.mail_headers)
