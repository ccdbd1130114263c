"""The states of a connection, and the bounds of what a client may do in them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol

PROXY_PATIENCE: Final = 10.0
"""Seconds for a PROXY header to come; section 2 of its specification asks for at least 3."""

MAX_ERRORS: Final = 20
"""Bad commands on one connection before 421, as many peers have it."""

MAX_IDLE_COMMANDS: Final = 100
"""Commands that bring no mail nearer (NOOP, RSET, VRFY, EHLO …) between two mails."""

LINGER: Final = 2.0
"""Seconds that a client whose connection we end gets to read why: closing a socket with unread
bytes in it resets the connection, and the reply is lost on the way."""

GRACE: Final = 2.0
"""Seconds of silence after which an idle client is sent away once the server stops. A client that has
just connected sends a mail within them, and one that has its answer says QUIT: many clients take a
421 to that for a failure of the mail before it."""

MAX_DROPPED: Final = 8_388_608
"""Bytes that are read and dropped while a client is given time to read our last reply."""


class State(IntEnum):
    """What the next bytes of the client are."""

    PROXY = 0
    """The header of a PROXY protocol."""
    WAIT = 1
    """Kept until something that was begun is done."""
    COMMAND = 2
    """A command line."""
    SASL = 3
    """A line of an AUTH exchange."""
    DATA = 4
    """A mail."""
    CLOSED = 5
    """Dropped, because the connection ends."""
    TLS = 6
    """A TLS handshake."""


# A global name costs half of what a member looked up in its class does.
PROXY, WAIT, COMMAND, SASL, DATA, CLOSED, TLS = State


class ExchangeLines(Protocol):
    """What takes the lines of an AUTH exchange."""

    def answer(self, line: bytes) -> None:
        """Take one line of the client, without its line end."""
