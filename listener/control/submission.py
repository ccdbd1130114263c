"""Takes mails that other processes of this machine submit: asks the flows' filters, then stores."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, cast

from functions.ids import uuid7
from listener.api.decision import Reply
from listener.api.session import Session, Transaction
from listener.config.inbox import RELEASE
from listener.control.service import PIECE
from listener.filters.pattern import Values
from listener.flows.flow import ConnectionState, Flows
from listener.flows.outcome import DataOutcome
from listener.intake.accept import Acceptor, ReceivedMail
from listener.smtp.address import BadPath, parse_path

LISTENER: Final = "inbox"
"""The name of the listener in logs and envelopes."""

_BAD_ADDRESS: Final = Reply(501, "5.1.3", "is not an address")
_TOO_MANY: Final = Reply(552, "5.5.3", "Too many recipients")
_NOT_ALLOWED: Final = Reply(550, "5.7.1", "is not in inbox.release.recipients")
_NO_SENDING: Final = Reply(550, "5.7.1", "inbox.send names no flow")


class Submission:
    """Submits mails to one configuration. `flows` gives those that take mails which are sent over HTTP, all
    or of these names, None if none does. A mail to release goes without filters to the flow of the released
    ones, and only to recipients that are `allowed`. A mail has at most `most` recipients. All of it runs in
    the event loop."""

    def __init__(
        self,
        flows: Callable[[frozenset[str] | None], Flows | None],
        allowed: Values,
        acceptor: Acceptor,
        hostname: str,
        most: int,
    ) -> None:
        self._flows = flows
        self._allowed = allowed
        self._acceptor = acceptor
        self._hostname = hostname
        self._most = most

    async def handle(self, request: Mapping[str, Any], reader: asyncio.StreamReader) -> Mapping[str, Any]:
        """A request with `from`, `to`, `client` (an IP address), `release` (true or false), perhaps `flows`
        (the only ones to ask) and `user`, and the mail's bytes. The reply has the mail's `id`, and `code` and
        `text` of SMTP's reply."""
        session = Session(
            uuid7(),
            LISTENER,
            str(request["client"]),
            0,
            f"[{request['client']}]",
            self._hostname,
            helo=LISTENER,
            esmtp=True,
        )
        reverse_path, recipients = str(request["from"]), list(dict.fromkeys(map(str, request["to"])))
        transaction = Transaction(uuid7(), reverse_path, _parameters(reverse_path, *recipients))
        reply = await self._submit(session, transaction, recipients, request, reader)
        return {"id": transaction.id, "code": reply.code, "text": str(reply)}

    async def _submit(
        self,
        session: Session,
        transaction: Transaction,
        recipients: Sequence[str],
        request: Mapping[str, Any],
        reader: asyncio.StreamReader,
    ) -> Reply:
        if len(recipients) > self._most:
            return _TOO_MANY._replace(text=f"a mail has at most {self._most} recipients (maxRecipients)")
        for address in (transaction.reverse_path, *recipients):
            if not _is_address(address, null=address is transaction.reverse_path):
                return _BAD_ADDRESS._replace(text=f"{address[:200]!r} is not an address")
        if (full := self._acceptor.refuses_mail()) is not None:
            return full
        state = None
        if not request["release"]:
            names = request.get("flows")
            flows = self._flows(None if names is None else frozenset(map(str, names)))
            if flows is None:
                return _NO_SENDING
            state = flows.connection(session)
        try:
            return await self._asked(session, transaction, state, recipients, request, reader)
        finally:
            # A mail that the spool has goes on without this request.
            if state is not None and not state.decided:
                state.reset()

    async def _asked(
        self,
        session: Session,
        transaction: Transaction,
        state: ConnectionState | None,
        recipients: Sequence[str],
        request: Mapping[str, Any],
        reader: asyncio.StreamReader,
    ) -> Reply:
        """The reply about a mail for these recipients; `state` is None for one to release."""
        if state is not None:
            if (refused := await _answer(state.connect())) is not None:
                return cast(Reply, refused)
            session.authenticated(request.get("user"))
            if (refused := await _answer(state.mail(transaction))) is not None:
                return cast(Reply, refused)
        for address in recipients:
            refused = self._acceptor.refuses_address(address)
            if refused is None and state is not None:
                refused = await _answer(state.rcpt(transaction, address))
            elif refused is None and address not in self._allowed:
                refused = _NOT_ALLOWED._replace(text=f"{address[:200]} is not in inbox.release.recipients")
            if refused is not None:
                return cast(Reply, refused)
            transaction.add(address, ())
        mail = await self._received(session, transaction, int(request["size"]), reader)
        if isinstance(mail, Reply):
            return mail
        stored: asyncio.Future[Reply] = self._acceptor.loop.create_future()

        def answered(replies: tuple[Reply, ...]) -> None:
            if state is not None:
                state.answered(replies)
            mail.capture.release()
            if not stored.done():
                stored.set_result(replies[0])

        try:
            if state is None:
                outcome = DataOutcome(tuple((address, (RELEASE,)) for address in recipients), None, {})
            else:
                outcome = cast(DataOutcome, await _answer(state.data(transaction, mail.capture)))
            self._acceptor.accept(mail, outcome, answered)
        except BaseException:
            mail.capture.discard()
            if state is not None:
                state.reset()
            raise
        return await stored

    async def _received(
        self, session: Session, transaction: Transaction, size: int, reader: asyncio.StreamReader
    ) -> ReceivedMail | Reply:
        capture = self._acceptor.intake.capture(session, transaction)
        try:
            while size > 0:
                piece = await reader.readexactly(min(size, PIECE))
                capture.feed(piece)
                size -= len(piece)
            mail = self._acceptor.received(session, transaction, capture, self._acceptor.loop.time())
        except BaseException:
            capture.discard()
            raise
        if isinstance(mail, ReceivedMail):
            return mail
        capture.discard()
        return mail[0]


def _parameters(*addresses: str) -> tuple[str, ...]:
    return ("BODY=8BITMIME",) if all(map(str.isascii, addresses)) else ("BODY=8BITMIME", "SMTPUTF8")


def _is_address(text: str, *, null: bool) -> bool:
    try:
        path = parse_path(f"<{text}>")
    except BadPath:
        return False
    return not path.parameters and path.address == text and (bool(text) or null)


async def _answer(value: Any) -> Any:
    """The answer of filters, some of which answer later."""
    return await value if isinstance(value, Awaitable) else value
