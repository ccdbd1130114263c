"""Logging in (RFC 4954)."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Generator, Sequence
from typing import Final

from functions.smtp_client.reply import LoginRefused, Lost, ServerReply
from functions.smtp_client.server import Login, SmtpServer
from functions.smtp_client.wire import CHALLENGE, Wire

MAX_STEPS: Final = 5

_STATUS: Final = re.compile(r"[0-9]{3}|[a-z_]{1,40}")
"""The status for a refused token: 400, or as invalid_token (RFC 7628 section 3.2.2)."""

# In clear text the mechanism that does not reveal the password comes first.
_ENCRYPTED: Final = ("PLAIN", "LOGIN", "CRAM-MD5")
_CLEAR: Final = ("CRAM-MD5", "PLAIN", "LOGIN")
_TOKEN: Final = ("XOAUTH2", "OAUTHBEARER")


def choose(offered: frozenset[str], login: Login, *, encrypted: bool) -> tuple[str, ...]:
    """The offered mechanisms that fit the login, the first to try first."""
    known = _TOKEN if login.token else _ENCRYPTED if encrypted else _CLEAR
    return tuple(name for name in known if name in offered and login.method in (None, name))


def authenticate(wire: Wire, mechanisms: Sequence[str], login: Login, server: SmtpServer) -> None:
    """Log in by the first mechanism that the server does not refuse for good: some servers offer one
    that they cannot do. Each is tried once. Raises LoginRefused with only the server's words, or
    Lost."""
    said: list[str] = []
    code = 0
    for mechanism in mechanisms:
        try:
            reply, status = _exchange(wire, mechanism, login, server)
        except Lost:
            if not said:
                raise
            break
        if reply.code == 235:
            return
        # The first 535 says more about the credentials than a mechanism that cannot be used.
        code = code if code == 535 else reply.code
        words = "it asks for ever more" if reply.code == CHALLENGE else str(reply)
        said.append(f"({mechanism}): {words}{status}")
        if not reply.permanent:
            break
    raise LoginRefused(f"{server} did not accept the login as {login.user!r} {', '.join(said)}", code)


def _exchange(wire: Wire, mechanism: str, login: Login, server: SmtpServer) -> tuple[ServerReply, str]:
    """The server's reply to one mechanism, and the status that it gave for a refused token."""
    answers = _answers(mechanism, login, server)
    first = next(answers)
    # A server may repeat what it got, in clear text or not.
    wire.hide(first, _b64(login.secret.encode()), login.secret)
    reply = wire.command(f"AUTH {mechanism} {first}" if first else f"AUTH {mechanism}")
    status = ""
    for _ in range(MAX_STEPS):
        if reply.code != CHALLENGE:
            break
        challenge = _challenge(reply)
        if login.token:
            status = status or _status(challenge, login.secret)
        try:
            answer = answers.send(challenge)
        except StopIteration:
            answer = "*"  # RFC 4954 section 4: cancels
        else:
            wire.hide(answer)
        reply = wire.command(answer, secret=True)
    return reply, status


def _answers(mechanism: str, login: Login, server: SmtpServer) -> Generator[str, bytes, None]:
    """The client's responses, the first with the command itself; send each challenge to the
    generator."""
    user, secret = login.user.encode(), login.secret.encode()
    if mechanism == "PLAIN":  # RFC 4616
        yield _b64(b"\0" + user + b"\0" + secret)
    elif mechanism == "XOAUTH2":
        yield _b64(b"user=" + user + b"\x01auth=Bearer " + secret + b"\x01\x01")
        yield ""  # the challenge names the error; an empty answer asks for the reply
    elif mechanism == "OAUTHBEARER":  # RFC 7628 section 3.1, with the name escaped (RFC 5801 section 4)
        name = user.replace(b"=", b"=3D").replace(b",", b"=2C")
        place = f"host={server.host}\x01port={server.port}\x01".encode()
        yield _b64(b"n,a=" + name + b",\x01" + place + b"auth=Bearer " + secret + b"\x01\x01")
        yield _b64(b"\x01")  # section 3.2.3: asks for the reply
    elif mechanism == "CRAM-MD5":  # RFC 2195
        challenge = yield ""
        yield _b64(user + b" " + hmac.digest(secret, challenge, "md5").hex().encode())
    else:
        yield ""
        yield _b64(user)
        yield _b64(secret)


def _status(challenge: bytes, secret: str) -> str:
    """The status of a refused token, in words; "" for a challenge that gives none."""
    try:
        found = json.loads(challenge)["status"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""
    fits = isinstance(found, str) and _STATUS.fullmatch(found) and found not in secret
    return f" (status {found})" if fits else ""


def _challenge(reply: ServerReply) -> bytes:
    try:
        return base64.b64decode("".join(reply.lines))
    except ValueError:
        return b""


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
