"""`http-filter`: an HTTP endpoint decides about the whole mail (docs/filters/http-filter.md)."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Final, Literal

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from functions.http.signing import Hmac, Url, host_of
from functions.message.envelope import Client, Envelope, Recipient
from functions.message.event.cloudevent import build as build_event
from functions.message.event.cloudevent import limits_for
from functions.message.mail import Mail
from functions.message.mime import read_parts
from functions.message.reading.places import place
from listener.api.decision import ACCEPT, REFUSE, Decision, Phase
from listener.api.filter import BuildContext, FilterOptions, Operator
from listener.api.session import Message, Session, Transaction
from listener.filters.http.answer import decide
from listener.filters.http.client import HttpAnswer, HttpBacked, HttpClient, Unanswered

MAX_EVENT: Final = 1_048_576
"""Most bytes of the event; text and html are cut to fit."""

MAX_AT_ONCE: Final = 32_768
"""Most bytes of a mail that is read in the event loop; larger ones are read in a thread. Hostile HTML
takes a millisecond for each kilobyte."""

READERS: Final = 2
"""Threads that read larger mails, for all filters. A thread keeps its place when its mail's time is over,
because it goes on."""

_LIMITS: Final = limits_for(MAX_EVENT)

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

    asks_others = True
    judges_content = True

    @property
    def any_user(self) -> bool:
        return self.allow_any_user

    def described(self, operator: Operator) -> str:
        return f"that {host_of(self.url)} accepts"


class HttpFilter(HttpBacked):
    """Accepts, refuses or defers mails as the endpoint says.

    With `allowAnyUser` AUTH succeeds with any credentials, but that alone accepts no mail, because
    an acceptance at AUTH would let everybody through an OR flow.
    """

    phases = frozenset({Phase.DATA})

    def __init__(self, name: str, options: HttpFilterOptions, client: HttpClient, flow: str = "") -> None:
        super().__init__(name, client)
        self._flow = flow
        self.any_user = options.allow_any_user

    async def on_data(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Decision:
        envelope = provisional_envelope(session, transaction, message, recipients, self._flow)
        mail = Mail(envelope, Received(message), received_here=True)
        if message.size <= MAX_AT_ONCE:
            event = event_of(mail, self._flow)
        else:
            event = await asyncio.get_running_loop().run_in_executor(_readers, event_of, mail, self._flow)
        try:
            answer = await self._client.call({"Content-Type": "application/json"}, event, read=True)
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
