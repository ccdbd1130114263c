"""Logging in (RFC 4954)."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Generator
from typing import Final

from functions.smtp_client.reply import ServerReply, Unreachable
from functions.smtp_client.server import Login
from functions.smtp_client.wire import CHALLENGE, Wire

MAX_STEPS: Final = 5

# In clear text the mechanism that does not reveal the password comes first.
_ENCRYPTED: Final = ("PLAIN", "LOGIN", "CRAM-MD5")
_CLEAR: Final = ("CRAM-MD5", "PLAIN", "LOGIN")


def choose(offered: frozenset[str], login: Login, *, encrypted: bool) -> str | None:
    """The mechanism to use, None if no offered one fits."""
    known = ("XOAUTH2",) if login.token else _ENCRYPTED if encrypted else _CLEAR
    return next((name for name in known if name in offered), None)


def authenticate(wire: Wire, mechanism: str, login: Login, server: str) -> None:
    """Log in. Raises Unreachable with only the server's words, or Lost."""
    answers = _answers(mechanism, login)
    first = next(answers)
    # A server may repeat what it got, in clear text or not.
    wire.hide(first, _b64(login.secret.encode()), login.secret)
    reply = wire.command(f"AUTH {mechanism} {first}" if first else f"AUTH {mechanism}")
    for _ in range(MAX_STEPS):
        if reply.code != CHALLENGE:
            break
        try:
            answer = answers.send(_challenge(reply))
        except StopIteration:
            answer = "*"  # RFC 4954 section 4: cancels
        else:
            wire.hide(answer)
        reply = wire.command(answer, secret=True)
    if reply.code != 235:
        words = "it asks for ever more" if reply.code == CHALLENGE else str(reply)
        raise Unreachable(
            f"{server} did not accept the login as {login.user!r} ({mechanism}): {words}", enhanced="4.7.8"
        )


def _answers(mechanism: str, login: Login) -> Generator[str, bytes, None]:
    """The client's responses, the first with the command itself; send each challenge to the
    generator."""
    user, secret = login.user.encode(), login.secret.encode()
    if mechanism == "PLAIN":  # RFC 4616
        yield _b64(b"\0" + user + b"\0" + secret)
    elif mechanism == "XOAUTH2":
        yield _b64(b"user=" + user + b"\x01auth=Bearer " + secret + b"\x01\x01")
        yield ""  # the challenge names the error; an empty answer asks for the reply
    elif mechanism == "CRAM-MD5":  # RFC 2195
        challenge = yield ""
        yield _b64(user + b" " + hmac.digest(secret, challenge, "md5").hex().encode())
    else:
        yield ""
        yield _b64(user)
        yield _b64(secret)


def _challenge(reply: ServerReply) -> bytes:
    try:
        return base64.b64decode("".join(reply.lines))
    except ValueError:
        return b""


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
