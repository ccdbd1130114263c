"""The states of a connection, and the bounds of what a client may do in them."""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol

PROXY_PATIENCE: Final = 10.0
"""Seconds for a PROXY header to arrive; section 2 of its specification asks for at least 3."""

MAX_ERRORS: Final = 20
"""Bad commands on one connection before 421, as many peers have it."""

MAX_IDLE_COMMANDS: Final = 100
"""Most commands that do not advance a mail (NOOP, RSET, VRFY, EHLO …) between two mails."""

LINGER: Final = 2.0
"""Seconds that a client gets to read the last reply, because closing a socket with unread bytes resets
the connection and loses the reply."""

GRACE: Final = 2.0
"""Seconds of silence after which a stopping server disconnects an idle client. Within them a new client
sends its mail, and one with a reply says QUIT, because many clients take a 421 to QUIT for a failure of
the previous mail."""


class State(IntEnum):
    """The meaning of the client's next bytes."""

    PROXY = 0
    """The header of a PROXY protocol."""
    WAIT = 1
    """Kept until an operation is done."""
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


# A global name costs half of a look-up in the class.
PROXY, WAIT, COMMAND, SASL, DATA, CLOSED, TLS = State


class ExchangeLines(Protocol):
    """The reader of the lines of an AUTH exchange."""

    mechanism: str

    def answer(self, line: bytes) -> None:
        """Take one line of the client, without its line end."""
