"""`http-filter`: an HTTP endpoint decides about the whole mail (docs/filters/http-filter.md)."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final, Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from functions.http.signing import Hmac, Url, host_of
from functions.message.envelope import Client, Envelope, Recipient
from functions.message.event.cloudevent import build as build_event
from functions.message.event.cloudevent import limits_for
from functions.message.mail import Mail
from functions.message.mime import read_parts
from functions.message.reading.places import place
from listener.api.decision import ABSTAIN, ACCEPT, REFUSE, Decision, Phase
from listener.api.filter import Answer, BuildContext, FilterOptions, Operator
from listener.api.session import Message, Session, Transaction
from listener.filters.http.answer import decide
from listener.filters.http.client import HttpAnswer, HttpBacked, HttpClient, Unanswered
from listener.filters.http.recipients import RcptQuestion, RecentVerdicts

MAX_EVENT: Final = 1_048_576
"""Most bytes of the event; text and html are cut to fit."""

MAX_AT_ONCE: Final = 32_768
"""Most bytes of a mail that is read in the event loop; larger ones are read in a thread. Hostile HTML
takes a millisecond for each kilobyte."""

READERS: Final = 2
"""Threads that read larger mails, for all filters. A thread keeps its place when its mail's time is over,
because it goes on."""

_LIMITS: Final = limits_for(MAX_EVENT)
_JSON: Final = {"Content-Type": "application/json"}

_readers: Final = ThreadPoolExecutor(READERS, thread_name_prefix="reader")


class HttpFilterOptions(FilterOptions):
    """Ask an HTTP endpoint about the mail."""

    model_config = ConfigDict(alias_generator=to_camel)

    type: Literal["http-filter"]

    url: Url
    """The endpoint."""

    method: Literal["POST", "PUT"] = "POST"
    """The request's method."""

    hmac: Hmac | None = None
    """Sign the requests."""

    allow_any_user: bool = False
    """Let every AUTH succeed."""

    phases: tuple[Literal["rcpt", "data"], ...] = Field(default=("data",), min_length=1)
    """When to ask: about each recipient at RCPT, about the whole mail after DATA, or both."""

    asks_others = True

    @property
    def judges_content(self) -> bool:
        return "data" in self.phases

    @property
    def any_user(self) -> bool:
        return self.allow_any_user

    def described(self, operator: Operator) -> str:
        return f"that {host_of(self.url)} accepts"


class HttpFilter(HttpBacked):
    """Accepts, refuses or defers recipients and mails as the endpoint says.

    An endpoint that is also asked after DATA accepts nothing at RCPT, because an acceptance would let
    the recipient through an OR flow before the mail is seen.

    With `allowAnyUser` AUTH succeeds with any credentials, but that alone accepts no mail, because
    an acceptance at AUTH would let everybody through an OR flow.
    """

    def __init__(self, name: str, options: HttpFilterOptions, client: HttpClient, flow: str = "") -> None:
        super().__init__(name, client)
        self._flow = flow
        self.phases = frozenset(Phase[phase.upper()] for phase in options.phases)
        self._known = ABSTAIN if Phase.DATA in self.phases else ACCEPT
        self._recent = RecentVerdicts()
        self.any_user = options.allow_any_user

    def on_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Answer:
        question = RcptQuestion.of(session, transaction, recipient)
        known = self._recent.get(question)
        return known if known is not None else self._ask(session, transaction, question)

    async def _at_rcpt(self, session: Session, transaction: Transaction, recipient: str) -> Decision:
        answer = self.on_rcpt(session, transaction, recipient)
        return answer if isinstance(answer, Decision) else await answer

    def forget(self) -> None:
        self._recent = RecentVerdicts()  # an answer that is under way goes into the one before

    async def _ask(self, session: Session, transaction: Transaction, question: RcptQuestion) -> Decision:
        recent = self._recent
        try:
            answer = await self._client.call(_JSON, question.body(self._flow), read=True)
            decision = _decide(answer, (question.recipient,))
        except Unanswered as reason:
            return self.unanswered(reason, session=session.id, id=transaction.id)
        if decision.verdict == "accept":
            decision = self._known
        # A redirect is probably a mistake that the service repairs soon, and a deferral is for now.
        if decision.verdict != "defer" and answer.status not in range(300, 400):
            recent.put(question, decision)
        return decision

    async def on_data(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Decision:
        left = recipients
        if Phase.RCPT in self.phases:
            # Their verdicts are known, but an OR flow offers refused ones again.
            asked = (self._at_rcpt(session, transaction, each) for each in recipients)
            verdicts = dict(zip(recipients, await asyncio.gather(*asked), strict=True))
            left = tuple(each for each, one in verdicts.items() if one.verdict in ("accept", "abstain"))
            deferral = next((one for one in verdicts.values() if one.verdict == "defer"), None)
            if deferral is not None or not left:
                return deferral or verdicts[recipients[0]]
        decision = await self._about_mail(session, transaction, message, left)
        if len(left) == len(recipients) or decision.verdict != "accept":
            return decision
        kept = frozenset(left) if decision.recipients is None else decision.recipients
        return replace(decision, recipients=kept)

    async def _about_mail(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Decision:
        envelope = provisional_envelope(session, transaction, message, recipients, self._flow)
        mail = Mail(envelope, Received(message), received_here=True)
        if message.size <= MAX_AT_ONCE:
            event = event_of(mail, self._flow)
        else:
            event = await asyncio.get_running_loop().run_in_executor(_readers, event_of, mail, self._flow)
        try:
            answer = await self._client.call(_JSON, event, read=True)
            return _decide(answer, recipients)
        except Unanswered as reason:
            return self.unanswered(reason, session=session.id, id=transaction.id)


def _decide(answer: HttpAnswer, recipients: tuple[str, ...]) -> Decision:
    """Statuses as in http-auth; below 300 and in 4xx a JSON object can add to them."""
    verdict = answer.verdict
    if verdict == "defer":
        raise Unanswered(f"HTTP status {answer.status}")
    plain = ACCEPT if verdict == "accept" else REFUSE
    if answer.status in range(300, 400) or not answer.body or not _is_json(answer.content_type):
        return plain
    said = answer.json() if verdict == "accept" else _json_or_none(answer)
    if not isinstance(said, dict):
        return plain
    return decide(said, "accept" if verdict == "accept" else "refuse", recipients)


def _is_json(content_type: str) -> bool:
    return content_type == "application/json" or content_type.endswith("+json")


def _json_or_none(answer: HttpAnswer) -> object:
    try:
        return answer.json()
    except Unanswered:
        return None  # the status alone refuses


class Received:
    """A mail that the listener is still receiving, as the content that outputs would see."""

    path: Path | None = None

    def __init__(self, message: Message) -> None:
        self._message = message
        self.size = message.size

    def read(self) -> bytes:
        return self._message.content()

    def open(self) -> BinaryIO:
        return self._message.open()


def provisional_envelope(
    session: Session,
    transaction: Transaction,
    message: Message,
    recipients: tuple[str, ...],
    flow: str,
) -> Envelope:
    """The envelope as known before the mail is accepted. `recipients` belong to the flow, the others of
    the mail to no flow, and there is no digest yet."""
    own = frozenset(recipients)
    others = [Recipient(address=each, flows=()) for each in transaction.recipients if each not in own]
    return Envelope(
        id=transaction.id,
        session=session.id,
        received=time.time_ns() // 1_000_000,
        reverse_path=transaction.reverse_path,
        parameters=transaction.parameters,
        recipients=(*(Recipient(address=address, flows=(flow,)) for address in recipients), *others),
        helo=session.helo,
        client=Client(ip=session.ip, port=session.port, name=session.name),
        server=session.server,
        listener=session.listener,
        tls=session.tls,
        user=session.user,
        transmission=session.transmission(smtputf8=transaction.smtputf8),
        size=message.size,
        sha256="",
    )


def event_of(mail: Mail, flow: str) -> bytes:
    """The CloudEvent that the endpoint of a flow's filter gets. Computes only; may run in a thread."""
    with place(mail.content.size, _LIMITS.text):
        return _event_of(mail, flow)


def _event_of(mail: Mail, flow: str) -> bytes:
    # Apart, so the mail's bytes are gone before the next mail gets the place.
    parts = read_parts(mail, flow, _LIMITS)
    return build_event(mail.envelope, parts, flow=flow, max_bytes=MAX_EVENT, limits=_LIMITS)


def build(options: HttpFilterOptions, name: str, context: BuildContext) -> HttpFilter:
    """The filter. Raises ConfigError if its HMAC secret is not available."""
    return HttpFilter(
        name, options, HttpClient.of(options.url, options.method, options.hmac, context), context.flow
    )
