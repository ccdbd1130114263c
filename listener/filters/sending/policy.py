"""`sending-policy`: who may send as whom, and how much (docs/filters/sending-policy.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from functions.message.headers import HeaderEdits
from listener.api.decision import ABSTAIN, Decision, Phase, refuse
from listener.api.filter import Answer, BuildContext, Filter, FilterObserver
from listener.api.session import Message, Session, Transaction
from listener.filters.sending.options import SendingPolicyOptions
from listener.filters.sending.reservations import Reservations, first_objection
from listener.filters.sending.rules import Client, Rule
from listener.filters.sending.senders import FIELDS, HeaderSenders, senders_of, shown
from listener.filters.sending.table import TABLE, TableCounts

_REMEMBERED: Final = 1_024
_SENDERS: Final = 32

_NO_LOGIN: Final = refuse(553, "5.7.1", "Sender address rejected: not logged in as a user who may send")
_NO_RECIPIENT: Final = refuse(550, "5.7.1", "Recipient address rejected: this client may not send to it")
_NO_SUCH_MAIL: Final = refuse(550, "5.7.1", "This client may not send such a mail to these recipients")


class _Choice(NamedTuple):
    """The rules, by their places, that are about a client and permit its reverse-path; for whom they count;
    and those that permit the senders of a header."""

    places: tuple[int, ...]
    client: Client
    permitting: dict[HeaderSenders, tuple[int, ...]]


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
        table: TableCounts | None = None,
    ) -> None:
        super().__init__(name)
        self._rules = tuple(Rule(one, number, flow, name) for number, one in enumerate(options.rules))
        self._state = state
        uncounted = options.on_store_error == "accept"
        self._reservations = Reservations(name, self._rules, table, accepts_uncounted=uncounted)
        self._chosen: dict[tuple[str, str, str], _Choice] = {}
        self.follows_mails = options.counts_recipients or any(one.per_mail for one in self._rules)
        if not self.follows_mails and not any(one.names_recipients for one in self._rules):
            self.phases = frozenset({Phase.MAIL, Phase.DATA})
        touched = {key.lstrip("-?").lower() for key in mail_headers} & set(FIELDS)
        self._edits = HeaderEdits(mail_headers) if touched else None

    async def start(self) -> None:
        self._reservations.start(self._state)

    async def stop(self) -> None:
        await self._reservations.stop()

    def observe(self, observer: FilterObserver) -> None:
        self._reservations.observer = observer

    def on_mail(self, session: Session, transaction: Transaction) -> Answer:
        choice = self._choice(session, transaction)
        if choice.places:
            return self._reservations.prepare(self._rules[choice.places[0]], choice.client)
        user = session.user or ""
        if not any(rule.is_for(session, user) for rule in self._rules):
            return _NO_LOGIN if not user else refuse(553, "5.7.1", f"User {shown(user)} may not send")
        path = shown(transaction.reverse_path) or "<>"
        return refuse(553, "5.7.1", f"Sender address rejected: {path} is not one of this client's addresses")

    def on_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Answer:
        choice = self._choice(session, transaction)
        place = self._place(choice.places, recipient, session.user or "")
        if place is None:
            return _NO_RECIPIENT
        if not self._rules[place].counts:
            return ABSTAIN
        return self._reservations.count(place, choice.client, transaction, recipient)

    def on_data(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Answer:
        head = message.head
        if self._edits is not None:
            head = self._edits.added(head) + self._edits.kept(head)
        senders = senders_of(head)
        if senders.fault:
            return refuse(550, "5.7.1", senders.fault)
        user = session.user or ""
        choice = self._choice(session, transaction)
        allowed = self._permitting(choice, senders, user)
        if not allowed:
            rules = [self._rules[one] for one in choice.places]
            foreign = next((found for one in rules if (found := one.foreign(senders, user))), ("From", ""))
            text = f"{foreign[0]} header rejected: {shown(foreign[1])} is not one of this client's addresses"
            return refuse(550, "5.7.1", text)
        if not self.follows_mails and choice.places == allowed:
            return ABSTAIN
        placed = [(one, self._place(allowed, one, user)) for one in recipients]
        chosen = [(one, place) for one, place in placed if place is not None]
        if not chosen:
            return _NO_SUCH_MAIL
        answers = self._reservations.confirm(chosen, choice.client, transaction)
        decided = ABSTAIN
        if len(chosen) < len(recipients):
            decided = Decision("abstain", recipients=frozenset(one for one, _ in chosen))
        for answer in answers:
            if answer is not ABSTAIN:
                return first_objection(answers, decided)
        return decided

    def mail_ended(self, mail: str, taken: frozenset[str]) -> None:
        self._reservations.end(mail, taken)

    def _choice(self, session: Session, transaction: Transaction) -> _Choice:
        user = session.user or ""
        key = (user, session.ip, transaction.reverse_path)
        found = self._chosen.get(key)
        if found is None:
            if len(self._chosen) >= _REMEMBERED:
                self._chosen.clear()
            places = tuple(
                place
                for place, rule in enumerate(self._rules)
                if rule.is_for(session, user) and rule.permits_path(transaction.reverse_path, user)
            )
            found = self._chosen[key] = _Choice(places, Client.of(session), {})
        return found

    def _permitting(self, choice: _Choice, senders: HeaderSenders, user: str) -> tuple[int, ...]:
        found = choice.permitting.get(senders)
        if found is None:
            if len(choice.permitting) >= _SENDERS:
                choice.permitting.clear()
            found = choice.permitting[senders] = tuple(
                one for one in choice.places if self._rules[one].foreign(senders, user) is None
            )
        return found

    def _place(self, places: tuple[int, ...], recipient: str, user: str) -> int | None:
        """The place of the first of these rules that is about the recipient."""
        for place in places:
            if self._rules[place].permits_recipient(recipient, user):
                return place
        return None


def build(options: SendingPolicyOptions, name: str, context: BuildContext) -> SendingPolicy:
    """The filter of one entry. It opens the counts when it is started, or asks the table that the environment
    names at the first mail."""
    shared = context.environ.get(TABLE) if options.counts_recipients else None
    table = TableCounts(shared, _client) if shared else None
    return SendingPolicy(name, options, context.flow, context.state, context.mail_headers, table)


def _client() -> Any:
    from functions.aws.clients import plain_client

    retries = {"mode": "standard", "total_max_attempts": 3}
    return plain_client("dynamodb", {"connect_timeout": 2, "read_timeout": 3, "retries": retries})
