"""XFORWARD: a content filter's client passes on where the next mail came from (Postfix's
XFORWARD_README). It is kept with the mail, and decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from listener.api.decision import Reply
from listener.smtp.xclient import address, one_of, port, told

if TYPE_CHECKING:
    from listener.smtp.connection import Connection

XFORWARD_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")

OK: Final = Reply(250, "2.0.0", "OK")

_CHECKS: Final = {"ADDR": address, "PORT": port, "SOURCE": one_of("LOCAL", "REMOTE")}


def xforward(connection: Connection, argument: str) -> None:
    """XFORWARD: remember the attributes for the next mail; several commands add up."""
    given = told(connection, "XFORWARD", argument, connection.port.xforwards, XFORWARD_NAMES, _CHECKS)
    if given is not None:
        known = {name.lower(): value for name, value in given.items() if value is not None}
        connection.forwarded = {**(connection.forwarded or {}), **known}
        connection.reply(OK)
