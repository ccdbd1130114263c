"""Connections whose dialogue the log shows, because a logger has the level DEBUG."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from functions.smtp_client import dialogue
from listener.smtp.connection.machine import Connection
from listener.smtp.connection.state import SASL
from listener.smtp.connection.stream import Flushes, Stream
from listener.smtp.endpoint import Endpoint


def connection_of(endpoint: Endpoint) -> Connection:
    """A new connection of an endpoint. A connection that no logger shows costs nothing more."""
    return ShownConnection(endpoint) if dialogue.shows() else Connection(endpoint)


class ShownStream(Stream):
    """A stream that tells what the server writes."""

    __slots__ = ("_queue", "_tell")

    def __init__(self, transport: Any, flushes: Flushes, tell: Callable[[bytes], None]) -> None:
        super().__init__(transport, flushes)
        self._tell = tell
        self._queue = self.write
        self.write = self._told

    def _told(self, data: bytes) -> None:
        self._tell(data)
        self._queue(data)


class ShownConnection(Connection):
    """A connection that logs its commands and replies, without logins and without mails."""

    _greeted = False

    def new_stream(self, transport: Any) -> Stream:
        return ShownStream(transport, self.endpoint.flushes, self._tell_replies)

    def connection_lost(self, error: Exception | None) -> None:
        dialogue.tell("C", "(the connection is closed)", session=self.session.id)
        super().connection_lost(error)

    def mail_ended(self, rest: bytes) -> None:
        dialogue.tell("C", f"({self.mail.size} bytes of mail)", session=self.session.id)
        super().mail_ended(rest)

    def _carried_out_alone(self, data: bytes) -> bool:
        return False  # `_obey` shows it

    def _obey(self, line: bytes) -> None:
        if self.state is SASL:
            shown = "*" if line == b"*" else dialogue.HIDDEN
        else:
            shown = dialogue.client_line(line.decode("utf-8", "replace"))
        dialogue.tell("C", shown, session=self.session.id)
        super()._obey(line)

    def _tell_replies(self, data: bytes) -> None:
        text, name = data.decode("utf-8", "replace"), self.session.helo
        if name and not dialogue.is_name(name):
            text = text.replace(name, dialogue.HIDDEN)  # the greeting repeats it
        for line in text.splitlines():
            about = {} if self._greeted else {"ip": self.session.ip, "listener": self.endpoint.name}
            self._greeted = True
            dialogue.tell("S", dialogue.server_line(line), session=self.session.id, **about)
