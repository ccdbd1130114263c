"""XCLIENT and XFORWARD (Postfix's XCLIENT_README and XFORWARD_README).

With XCLIENT a trusted proxy states its client. With XFORWARD a content filter's client passes on
the origin of the next mail; the relay keeps that with the mail, and it decides nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final

from listener.api.decision import Reply
from listener.flows.wording import reply_text
from listener.proxy import BadHeader, canonical
from listener.smtp.address import decode_xtext
from listener.smtp.connection.machine import Connection
from listener.smtp.ehlo import XCLIENT_NAMES, XFORWARD_NAMES
from listener.smtp.replies import IN_MAIL, NO_ATTRIBUTE, NOT_TRUSTED, OK

UNKNOWN: Final = frozenset({"[UNAVAILABLE]", "[TEMPUNAVAIL]"})

MAX_VALUE: Final = 255
"""Most characters of a value, as in Postfix."""

_NAME: Final = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?")


class BadAttribute(ValueError):
    """An attribute is unknown, or its value is not valid."""


def bad_attribute(verb: str, bad: BadAttribute) -> Reply:
    """The fault in the attributes of a command, in printable ASCII whatever the input."""
    return Reply(501, "5.5.4", f"Bad {verb} attribute: {reply_text(str(bad)[:40])}")


def attributes(argument: str, names: tuple[str, ...]) -> dict[str, str | None]:
    """The attributes of XCLIENT or XFORWARD, by upper-cased name; None if the proxy does not know the
    value. Raises BadAttribute."""
    found: dict[str, str | None] = {}
    for word in argument.split():
        name, equals, text = word.partition("=")
        name = name.upper()
        if not equals or name not in names or name in found:
            raise BadAttribute(name)
        try:
            value = decode_xtext(text)
        except ValueError:
            raise BadAttribute(name) from None
        if len(value) > MAX_VALUE or not (value.isprintable() and value.isascii()):
            raise BadAttribute(name)
        found[name] = None if not value or value.upper() in UNKNOWN else value
    return found


def address(value: str) -> str:
    """An address in canonical text; IPv6 ones begin with `IPV6:`. Raises BadAttribute."""
    if value[:5].upper() == "IPV6:":
        value = value[5:]
    try:
        return canonical(ipaddress.ip_address(value))
    except (ValueError, BadHeader):
        raise BadAttribute("address") from None


def port(value: str) -> int:
    """A port number. Raises BadAttribute."""
    if not (value.isdecimal() and value.isascii() and len(value) <= 5 and int(value) <= 65_535):
        raise BadAttribute("port")
    return int(value)


def host_name(value: str) -> str:
    """A host name in lower case. Raises BadAttribute."""
    if not _NAME.fullmatch(value):
        raise BadAttribute("name")
    return value.lower()


def one_of(*words: str) -> Callable[[str], str]:
    """A reader that accepts only these words, in any case."""

    def read(value: str) -> str:
        if value.upper() not in words:
            raise BadAttribute(value)
        return value.upper()

    return read


_CHECKS: Final[Mapping[str, Callable[[str], object]]] = {
    "NAME": host_name,
    "ADDR": address,
    "PORT": port,
    "PROTO": one_of("SMTP", "ESMTP", "LMTP"),
    "DESTADDR": address,
    "DESTPORT": port,
}


def xclient(connection: Connection, argument: str) -> None:
    """XCLIENT: replace the facts about the client, and begin again with the greeting."""
    given = told(connection, "XCLIENT", argument, connection.endpoint.xclients, XCLIENT_NAMES, _CHECKS)
    if given is not None:
        _replace(connection, given)


def told(
    connection: Connection,
    verb: str,
    argument: str,
    trusted: Callable[[str], bool] | None,
    names: tuple[str, ...],
    checks: Mapping[str, Callable[[str], object]],
) -> Mapping[str, str | None] | None:
    """The attributes that a permitted peer (`trusted`) gave outside a mail, their values checked. None
    if the command has its answer already: another peer, a bad attribute, none."""
    if trusted is None or not trusted(connection.opening.trusted_as):
        connection.error(NOT_TRUSTED)
        return None
    if connection.mail.transaction is not None:
        connection.error(IN_MAIL)
        return None
    try:
        given = attributes(argument, names)
        for name, value in given.items():
            if value is not None and name in checks:
                checks[name](value)
    except BadAttribute as bad:
        connection.error(bad_attribute(verb, bad))
        return None
    if not given:
        connection.error(NO_ATTRIBUTE)
        return None
    return None if connection.idle() else given


def _replace(connection: Connection, given: Mapping[str, str | None]) -> None:
    session = connection.session
    connection.mail.reset()
    known = {attribute: value for attribute, value in given.items() if value is not None}
    ip = address(known["ADDR"]) if "ADDR" in known else session.ip
    client_port = port(known.get("PORT", "0")) if "PORT" in given else session.port
    name = session.name if ip == session.ip and session.name[:1] != "[" else None
    if "NAME" in given:
        # A name that the proxy could not find is not looked up again.
        name = host_name(known["NAME"]) if "NAME" in known else f"[{ip}]"
    session.become(ip, client_port)
    if name is not None:
        session.named(name)
    if "DESTADDR" in known or "DESTPORT" in known:
        host, _, number = session.server.rpartition(":")
        host = address(known["DESTADDR"]) if "DESTADDR" in known else host.strip("[]")
        session.reached(host, known.get("DESTPORT", number))
    session.greeted(known.get("HELO", ""), esmtp=known.get("PROTO", "").upper() in {"ESMTP", "LMTP"})
    session.authenticated(None)
    connection.opening.again(vouched=known.get("LOGIN"), name_told=name is not None)


_FORWARD_CHECKS: Final = {"ADDR": address, "PORT": port, "SOURCE": one_of("LOCAL", "REMOTE")}


def xforward(connection: Connection, argument: str) -> None:
    """XFORWARD: remember the attributes for the next mail; several commands add up."""
    trusted = connection.endpoint.xforwards
    given = told(connection, "XFORWARD", argument, trusted, XFORWARD_NAMES, _FORWARD_CHECKS)
    if given is not None:
        connection.mail.forward({name.lower(): value for name, value in given.items() if value is not None})
        connection.reply(OK)
