"""Flows: they decide which mail each takes (docs/concepts.md).

`Flows` is made once from the configuration and shared by all connections. Each connection has a
`ConnectionState`, which asks the filters at each phase, keeps their verdicts as long as these hold,
and gives the reply to the client:

* an answer at connect holds for the connection, at auth until STARTTLS; * at MAIL or DATA for the
  mail, at RCPT for that recipient of that mail.

No other object keeps a verdict, so nothing leaks from one mail into the next; but `Serving` remembers
what depends on the client's address alone. The methods return
their value at once if all hooks concerned are plain functions, else an awaitable of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from listener.api.decision import ABSTAIN, Decision, Phase, Reply
from listener.api.filter import Filter, Operator
from listener.api.session import Credentials, Message, Session, Transaction
from listener.flows.inquiry import Answers, Asker, Inquiry, OnAnswer, ask_apart
from listener.flows.outcome import (
    NO_NOTES,
    DataOutcome,
    alike,
    failed_attempt,
    outcome_of,
    refusal_of,
    settle,
    unasked,
)
from listener.flows.serving import Serving
from listener.flows.tally import Hook, Tallies
from listener.flows.wording import authentication_required

Answered = tuple[Hook, Decision]
"""A filter's hook and its answer."""

Outcome = Reply | None
"""The reply that ends the command; None if the command may go on."""


# Each mail comes here, so its path is short: few calls, and no closure while every filter abstains at once.
_MAIL: Final = Phase.MAIL
_RCPT: Final = Phase.RCPT
_DATA: Final = Phase.DATA
_PASSED_MAIL: Final = 1 << Phase.MAIL
_PASSED_RCPT: Final = 1 << Phase.RCPT


@dataclass(frozen=True, slots=True)
class Flow:
    """One flow of the configuration. `listeners` are the names of those it serves, None for all."""

    name: str
    filters: tuple[Filter, ...]
    operator: Operator = "AND"
    listeners: frozenset[str] | None = None

    def serves(self, listener: str) -> bool:
        """True if it takes mail of that listener."""
        return self.listeners is None or listener in self.listeners


class Flows:
    """All flows, and the rules that hold for all of them.

    `filter_timeout` is in seconds. `auth_lifted` says that AUTH is disabled: no client can
    authenticate, and none has to. `auth_required_message` replaces the text of 530.
    `partial_accept` answers 250 to a mail if only some recipients were refused after DATA.
    """

    def __init__(
        self,
        flows: Sequence[Flow],
        *,
        auth_optional: bool,
        filter_timeout: float = 30.0,
        auth_required_message: str | None = None,
        auth_lifted: bool = False,
        partial_accept: bool = False,
        on_answer: OnAnswer | None = None,
    ) -> None:
        self.flows = tuple(flows)
        self.filters = tuple(dict.fromkeys(one for flow in self.flows for one in flow.filters))
        """Every filter once, in the order of the configuration."""
        self.checks_credentials = any(one.checks_credentials for one in self.filters)
        """True if any filter of any flow checks credentials; otherwise any credentials are accepted."""
        self.must_authenticate = not auth_optional and not auth_lifted
        self.auth_lifted = auth_lifted
        self.partial_accept = partial_accept
        self.auth_required = authentication_required(auth_required_message)
        self.filter_timeout = filter_timeout
        self.on_answer = on_answer
        self._serving: dict[str, Serving] = {}

    def connection(self, session: Session) -> ConnectionState:
        """The state of a new connection, or of one whose client is another host than the peer (PROXY,
        XCLIENT), for the flows that serve `session.listener`."""
        serving = self._serving.get(session.listener)
        if serving is None:
            serving = self._serving[session.listener] = self._serve(session.listener)
        return ConnectionState(self, serving, session)

    def _serve(self, listener: str) -> Serving:
        return Serving.of(
            [flow for flow in self.flows if flow.serves(listener)],
            checks_credentials=self.checks_credentials,
            auth_lifted=self.auth_lifted,
            # Metrics count every question.
            remembers=self.on_answer is None,
        )


class ConnectionState:
    """The filters' verdicts on one connection."""

    __slots__ = (
        "_alike",
        "_asker",
        "_at_connect",
        "_at_mail",
        "_at_rcpt",
        "_before_mail",
        "_flows",
        "_followed",
        "_known",
        "_known_path",
        "_outcome",
        "_serving",
        "_session",
        "_whole",
    )

    def __init__(self, flows: Flows, serving: Serving, session: Session) -> None:
        self._flows = flows
        self._serving = serving
        self._session = session
        self._asker = Asker(session.id, flows.filter_timeout, flows.on_answer)
        self._at_connect = serving.nothing_said
        self._before_mail = serving.nothing_said
        self._known: Tallies | None = None
        """The tallies to which `_known_path` led at MAIL, while the client is the same."""
        self._known_path = ""
        self._at_mail: Tallies | None = None
        self._at_rcpt: dict[str, Tallies] = {}
        self._alike = True
        """True while no filter told the mail's recipients apart."""
        self._followed: Transaction | None = None
        """The mail whose end filters are told; None while there is none."""
        self._outcome: DataOutcome | None = None
        self._whole = False
        """True if all flows take the mail for all its recipients."""

    # -- the phases ----------------------------------------------------------------------------

    def connect(self) -> Outcome | Awaitable[Outcome]:
        """Ask about the client: greet it, or send the reply (554, 421) and close."""
        if (met := self._serving.met) is not None and (tallies := met.get(self._session.ip)) is not None:
            self._at_connect = self._before_mail = tallies
            return None
        inquiry = self._asker.ask(Phase.CONNECT, "", self._serving.hooks[Phase.CONNECT], (self._session,))
        return self._connected(()) if inquiry is None else inquiry.then(self._connected)

    def _connected(self, answers: Sequence[Answered]) -> Outcome:
        self._at_connect = tallies = self._at_connect.plus(answers) if answers else self._at_connect
        self._begins_with(tallies)
        if (refusal := self._refusal(Phase.CONNECT, tallies)) is None:
            self._serving.greeted(self._session.ip, tallies, answers)
        return refusal

    def auth(self, credentials: Credentials) -> Outcome | Awaitable[Outcome]:
        """Ask about credentials: None for 235, with `session.user` set; else 535 or 454, and the
        attempt leaves no trace. This also asks filters of flows that already refuse, so the reply
        depends only on the credentials."""
        about = (self._session, credentials)
        inquiry = self._asker.ask(Phase.AUTH, "", self._serving.hooks[Phase.AUTH], about)
        finish = partial(self._attempted, credentials)
        return finish([]) if inquiry is None else inquiry.then(finish)

    def _attempted(self, credentials: Credentials, answers: Answers) -> Outcome:
        refusal = failed_attempt(answers, any_user=self._serving.any_user)
        if refusal is None:
            self._begins_with(self._at_connect.plus(answers))
            self._session.authenticated(credentials.username)
        elif refusal.code >= 500:
            self._session.login_failed()
        return refusal

    def mail(self, transaction: Transaction) -> Outcome | Awaitable[Outcome]:
        """Begin a mail: ask about its reverse-path. After a reply (550, 530, 451) there is no mail."""
        if self._at_mail is not None or self._followed is not None:
            self.reset()
        if self._flows.must_authenticate and self._session.user is None:
            return self._flows.auth_required
        if self._serving.followers:
            self._followed = transaction
        path = transaction.reverse_path
        if self._known is not None and self._known_path == path:
            self._at_mail = self._known
            return None
        before = self._before_mail
        if (hooks := before.hooks[_MAIL]) is None:
            hooks = before.unsettled(_MAIL, self._serving.plans)
        if hooks:
            inquiry = self._asker.ask(_MAIL, transaction.id, hooks, (self._session, transaction))
            if inquiry is not None:
                return inquiry.then(partial(self._begin, before, path))
        elif before.passed & _PASSED_MAIL:
            self._at_mail = before
            return None
        return self._begin(before, path, ())

    def _begin(self, before: Tallies, path: str, answers: Sequence[Answered]) -> Outcome:
        tallies = before.plus(answers) if answers else before
        if (refusal := self._refusal(Phase.MAIL, tallies)) is None:
            self._at_mail = tallies
            # A filter that defers may have failed.
            if self._serving.same_at_mail and all(answer.verdict == "accept" for _, answer in answers):
                self._known, self._known_path = tallies, path
        return refusal

    def rcpt(self, transaction: Transaction, address: str) -> Outcome | Awaitable[Outcome]:
        """Ask about one recipient. A recipient that was accepted before in the same mail stays accepted."""
        before, accepted = self._at_mail, self._at_rcpt
        if before is None:
            raise RuntimeError("there is no mail yet")
        if address in accepted:
            return None
        if (hooks := before.hooks[_RCPT]) is None:
            hooks = before.prepare(self._serving.plans, measured=self._asker.on_answer is not None)
        if hooks:
            alone, session = before.alone_at_rcpt, self._session
            if alone is None:
                asked = (session, transaction, address)
                inquiry = self._asker.ask(_RCPT, transaction.id, hooks, asked)
            else:
                inquiry = None
                try:
                    answer: object = alone.ask(session, transaction, address)
                except Exception as fault:  # noqa: BLE001 - as in `Asker.ask`
                    answer = fault
                if answer is not ABSTAIN:
                    inquiry = self._asker.begun(_RCPT, transaction.id, alone, answer)
            if inquiry is not None:
                return inquiry.then(partial(self._named, accepted, address, before))
        if before.passed & _PASSED_RCPT:
            accepted[address] = before
            return None
        return self._named(accepted, address, before, ())

    def _named(
        self, accepted: dict[str, Tallies], address: str, before: Tallies, answers: Sequence[Answered]
    ) -> Outcome:
        tallies = before.plus(answers) if answers else before
        if (refusal := self._refusal(Phase.RCPT, tallies)) is None:
            accepted[address] = tallies
        if refusal is not None or tallies is not before:
            self._alike = False
        return refusal

    def data(self, transaction: Transaction, message: Message) -> DataOutcome | Awaitable[DataOutcome]:
        """Ask about the whole mail, for `transaction.recipients`, all of which `rcpt` accepted. Only flows
        that may still take a recipient are asked, each for those recipients."""
        row, recipients = self._at_mail, transaction.recipients
        if row is None:
            raise RuntimeError("there is no mail yet")
        if not self._alike or not recipients:
            return self._ask_apart(transaction, message)
        left = (recipients[0],) if len(recipients) == 1 else tuple(dict.fromkeys(recipients))
        inquiry: Inquiry | None = None
        settled, plans = None, self._serving.plans
        if (hook := row.alone_at_data) is not None:
            # Most listeners ask one filter, which answers at once: no call more than that.
            try:
                answer: object = hook.ask(self._session, transaction, message, left)
            except Exception as fault:  # noqa: BLE001 - as in `Asker.ask`
                answer = fault
            if answer is not ABSTAIN and (settled := alike(plans, row, hook, answer)) is None:
                inquiry = self._asker.begun(_DATA, transaction.id, hook, answer)
        else:
            for hooks in row.offers:
                asked = (self._session, transaction, message, left)
                inquiry = self._asker.ask(_DATA, transaction.id, hooks, asked, inquiry)
        if inquiry is not None:
            offered = {hooks[0].place: frozenset(left) for hooks in row.offers}
            return self._settled(inquiry, transaction, offered)
        outcome, notes = settled or (row.outcome or outcome_of(plans, row), NO_NOTES)
        if isinstance(outcome, Reply):
            return self._judged(unasked(plans, self._rows(transaction), partial_accept=False))
        taken = ((left[0], outcome),) if len(recipients) == 1 else tuple([(to, outcome) for to in recipients])
        self._outcome = judged = DataOutcome(taken, None, notes)
        self._whole = row.whole if settled is None else len(outcome) == len(plans)
        return judged

    def _ask_apart(self, transaction: Transaction, message: Message) -> DataOutcome | Awaitable[DataOutcome]:
        """`data` for recipients that filters told apart."""
        plans, rows = self._serving.plans, self._rows(transaction)
        inquiry, offered = ask_apart(self._asker, plans, rows, (self._session, transaction, message))
        if inquiry is not None:
            return self._settled(inquiry, transaction, offered)
        return self._judged(unasked(plans, rows, partial_accept=self._flows.partial_accept))

    def _rows(self, transaction: Transaction) -> list[tuple[str, Tallies]]:
        return [(address, self._at_rcpt[address]) for address in transaction.recipients]

    def _settled(
        self, inquiry: Inquiry, transaction: Transaction, offered: Mapping[int, frozenset[str]]
    ) -> DataOutcome | Awaitable[DataOutcome]:
        rows, some = self._rows(transaction), self._flows.partial_accept
        settled = partial(settle, self._serving.plans, rows, offered, partial_accept=some)
        return inquiry.then(lambda answers: self._judged(settled(answers)))

    def _judged(self, outcome: DataOutcome) -> DataOutcome:
        if self._followed is not None:
            self._outcome = outcome
        return outcome

    @property
    def decided(self) -> bool:
        """True if `data` has decided about a mail that filters follow, and it is not answered yet."""
        return self._followed is not None and self._outcome is not None

    def answered(self, replies: Sequence[Reply]) -> None:
        """The mail that `data` was about is answered: tell its followers, and forget its verdicts."""
        if self._followed is not None:
            if not self._whole or len(replies) != 1 or replies[0].code >= 300:
                self._serving.tell_end(self._followed, self._outcome, replies, lmtp=self._session.lmtp)
            self._followed = None
        self._outcome, self._whole = None, False
        self._at_mail = None
        self._at_rcpt = {}
        self._alike = True

    def reset(self) -> None:
        """The mail is over (RSET, EHLO, MAIL, after DATA): forget its verdicts."""
        self.answered(())

    def restart(self) -> None:
        """STARTTLS succeeded: this forgets the client's earlier words (RFC 3207 section 4.2) and its
        authentication, and keeps the facts about its address."""
        self.reset()
        self._begins_with(self._at_connect)
        self._session.authenticated(None)

    def vouch(self, username: str) -> None:
        """A trusted proxy has checked this user's credentials (XCLIENT's LOGIN): every filter that may
        know the name counts as having accepted them."""
        self._begins_with(self._at_connect.plus(self._serving.vouched(username)))
        self._session.authenticated(username)

    def _begins_with(self, tallies: Tallies) -> None:
        """The client is a new one, or another user: from now on its mails begin with these tallies."""
        self._before_mail = tallies
        self._known = None

    def _refusal(self, phase: Phase, tallies: Tallies) -> Outcome:
        """None while any flow takes or may take the mail."""
        if tallies.passed >> phase & 1:
            return None
        may_authenticate = self._session.user is None and self._serving.can_authenticate
        instead = self._flows.auth_required if may_authenticate else None
        return refusal_of(phase, self._serving.plans, tallies, instead)
