"""XFORWARD: a content filter's client passes on where the next mail came from (Postfix's
XFORWARD_README). It is kept with the mail, and decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from listener.decision import Reply
from listener.xclient import (
    IN_MAIL,
    NO_ATTRIBUTE,
    NOT_TRUSTED,
    BadAttribute,
    address,
    attributes,
    bad_attribute,
    one_of,
    port,
)

if TYPE_CHECKING:
    from listener.protocol import Connection

XFORWARD_NAMES: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")

OK: Final = Reply(250, "2.0.0", "OK")

_CHECKS: Final = {"ADDR": address, "PORT": port, "SOURCE": one_of("LOCAL", "REMOTE")}


def xforward(connection: Connection, argument: str) -> None:
    """XFORWARD: remember the attributes for the next mail; several commands add up."""
    trusted = connection.port.xforwards
    if trusted is None or not trusted(connection.trusted_as):
        connection.error(NOT_TRUSTED)
        return
    if connection.transaction is not None:
        connection.error(IN_MAIL)
        return
    try:
        given = attributes(argument, XFORWARD_NAMES)
        for name, value in given.items():
            if value is not None and name in _CHECKS:
                _CHECKS[name](value)
    except BadAttribute as bad:
        connection.error(bad_attribute("XFORWARD", bad))
        return
    if not given:
        connection.error(NO_ATTRIBUTE)
    elif not connection.idle():
        known = {name.lower(): value for name, value in given.items() if value is not None}
        connection.forwarded = {**(connection.forwarded or {}), **known}
        connection.reply(OK)
