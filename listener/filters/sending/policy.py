"""`sending-policy`: who may send as whom, and how much (docs/filters/sending-policy.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from functions.message.headers import HeaderEdits
from functions.options.environment import variable
from listener.api.decision import ABSTAIN, Decision, Phase, refuse
from listener.api.filter import Answer, BuildContext, Filter, FilterObserver
from listener.api.session import Message, Session, Transaction
from listener.filters.sending.choices import Choice
from listener.filters.sending.options import SendingPolicyOptions
from listener.filters.sending.reservations import MOST_OPEN, Reservations, note
from listener.filters.sending.rules import Client, Rule
from listener.filters.sending.senders import FIELDS, author_field, names_again, senders_of, shown
from listener.filters.sending.table import TABLE, TableCounts, client

_REMEMBERED: Final = 1_024
_FIELDS: Final = 32

_NO_LOGIN: Final = refuse(553, "5.7.1", "Sender address rejected: not logged in as a user who may send")
_NO_RECIPIENT: Final = refuse(550, "5.7.1", "Recipient address rejected: this client may not send to it")
_NO_SUCH_MAIL: Final = refuse(550, "5.7.1", "This client may not send such a mail to these recipients")


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
        self._observer: FilterObserver | None = None
        # No method of its own: each mail would make one call more.
        self.mail_ended = self._reservations.end  # type: ignore[method-assign]
        self._chosen: dict[tuple[str | None, str, str], Choice] = {}
        self._prepares = table is not None
        self.same_at_mail = not self._prepares
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
        self._observer = self._reservations.observer = observer

    def on_mail(self, session: Session, transaction: Transaction) -> Answer:
        choice = self._chosen.get((session.user, session.ip, transaction.reverse_path))
        if choice is None:
            choice = self._choose(session, transaction)
        if choice.places:
            if self._prepares:
                return self._reservations.prepare(self._rules[choice.places[0]], choice.client)
            return ABSTAIN
        user = session.user or ""
        if not any(rule.is_for(session, user) for rule in self._rules):
            return _NO_LOGIN if not user else refuse(553, "5.7.1", f"User {shown(user)} may not send")
        path = shown(transaction.reverse_path) or "<>"
        return refuse(553, "5.7.1", f"Sender address rejected: {path} is not one of this client's addresses")

    def on_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Answer:
        choice = self._chosen.get((session.user, session.ip, transaction.reverse_path))
        if choice is None:
            choice = self._choose(session, transaction)
        credit = choice.credit
        if credit is not None:
            # The short way: most recipients are taken out of the credit.
            cells = credit.cells
            left = cells[0]
            if left > 0 and cells[1] and credit.steady() < credit.until:
                taken = True
                if transaction.records is None and len(choice.opened) < MOST_OPEN:
                    choice.opened.add(transaction.id)
                    transaction.records = {self._reservations: (choice, {recipient: choice.mark})}
                else:
                    taken = note(self._reservations, choice, transaction, recipient)
                if taken:
                    cells[0] = left - 1
                    if self._observer is not None:
                        self._observer.recipient_counted(self.name, choice.label, credit.taken.share)
                    return ABSTAIN
        place = choice.first
        if place is None:
            place = self._place(choice.places, recipient, session.user or "")
            if place is None:
                return _NO_RECIPIENT
        if not self._rules[place].counts:
            return ABSTAIN
        answer = self._reservations.count(place, choice, transaction, recipient)
        if choice.first is not None:
            choice.use(self._rules[place], place, self._reservations.ahead(place, choice.client))
        return answer

    def on_data(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Answer:
        records = transaction.records
        mail = None if records is None else records.get(self._reservations)
        if mail is not None:
            choice = mail[0]
        else:
            choice = self._chosen.get((session.user, session.ip, transaction.reverse_path)) or self._choose(
                session, transaction
            )
        if choice.line and message.crlf and names_again(message.head, choice.line):
            allowed = choice.places
        else:
            judged = self._allowed(choice, message, session.user or "")
            if isinstance(judged, Decision):
                return judged
            allowed = judged
        if allowed is choice.places:
            credit = choice.credit
            if mail is None or credit is None:
                if not self.follows_mails:
                    return ABSTAIN
            elif credit.steady() < credit.until:
                # The short way: all were counted out of the credit, in the part of the window that goes on.
                counted, mark = mail[1], choice.mark
                for one in recipients:
                    if counted.get(one) is not mark:
                        break
                else:
                    choice.opened.discard(transaction.id)
                    return ABSTAIN
        return self._count_again(allowed, choice, session.user or "", transaction, recipients)

    def _allowed(self, choice: Choice, message: Message, user: str) -> tuple[int, ...] | Decision:
        """The places of the rules that permit the senders of a mail; or its refusal."""
        head = message.head
        if self._edits is not None:
            head = self._edits.added(head) + self._edits.kept(head)
        field = author_field(head, crlf=message.crlf and self._edits is None)
        allowed = None if field is None else choice.permitting.get(field)
        if allowed is None:
            return self._judge(choice, field, head, user)
        if allowed is choice.places and field is not None and self._edits is None:
            choice.permits(head, field)
        return allowed

    def _judge(
        self, choice: Choice, field: bytes | None, head: bytes, user: str
    ) -> tuple[int, ...] | Decision:
        """The places of the rules that permit the senders of a header; or the refusal of the mail."""
        senders = senders_of(head)
        if senders.fault:
            return refuse(550, "5.7.1", senders.fault)
        rules = [(one, self._rules[one].foreign(senders, user)) for one in choice.places]
        allowed = tuple([one for one, found in rules if found is None])
        if not allowed:
            name, address = rules[0][1] if rules and rules[0][1] else ("From", "")
            text = f"{name} header rejected: {shown(address)} is not one of this client's addresses"
            return refuse(550, "5.7.1", text)
        if allowed == choice.places:
            allowed = choice.places
        if field is not None:
            if len(choice.permitting) >= _FIELDS:
                choice.permitting.clear()
            choice.permitting[field] = allowed
        return allowed

    def _count_again(
        self,
        allowed: tuple[int, ...],
        choice: Choice,
        user: str,
        transaction: Transaction,
        recipients: tuple[str, ...],
    ) -> Answer:
        chosen = [(one, at) for one in recipients if (at := self._place(allowed, one, user)) is not None]
        if not chosen:
            return _NO_SUCH_MAIL
        answers = self._reservations.confirm(chosen, choice, transaction)
        decided = ABSTAIN
        if len(chosen) < len(recipients):
            decided = Decision("abstain", recipients=frozenset(one for one, _ in chosen))
        for answer in answers:
            if answer is not ABSTAIN:
                return self._reservations.first_objection(answers, decided, choice, transaction)
        choice.opened.discard(transaction.id)
        return decided

    def _choose(self, session: Session, transaction: Transaction) -> Choice:
        if len(self._chosen) >= _REMEMBERED:
            self._chosen.clear()
        user, path = session.user or "", transaction.reverse_path
        rules = [
            (place, rule)
            for place, rule in enumerate(self._rules)
            if rule.is_for(session, user) and rule.permits_path(path, user)
        ]
        first = rules[0][0] if rules and not rules[0][1].names_recipients else None
        client = Client.of(session)
        opened = self._reservations.opened(client)
        choice = Choice(tuple([place for place, _ in rules]), client, opened, first)
        self._chosen[session.user, session.ip, path] = choice
        return choice

    def _place(self, places: tuple[int, ...], recipient: str, user: str) -> int | None:
        """The place of the first of these rules that is about the recipient."""
        for place in places:
            if self._rules[place].permits_recipient(recipient, user):
                return place
        return None


def build(options: SendingPolicyOptions, name: str, context: BuildContext) -> SendingPolicy:
    """The filter of one entry. It opens the counts when it is started, or asks the table that the environment
    names at the first mail."""
    shared = variable(context.environ, TABLE) if options.counts_recipients else None
    table = TableCounts(shared, client) if shared else None
    return SendingPolicy(name, options, context.flow, context.state, context.mail_headers, table)
