"""One request to a token endpoint (RFC 6749 section 3.2), within one limit of time and bytes."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple
from urllib.parse import quote, quote_plus, urlencode, urlsplit

from functions import __version__
from functions.message.text import one_line
from functions.smtp_client.dialogue import HIDDEN
from functions.smtp_client.reply import Unreachable
from functions.smtp_client.resolve import connect
from functions.smtp_client.tls import Policy, client_context

TOTAL: Final = 20.0
"""Most seconds of one request, from the name's look-up to the answer's last byte."""

MAX_ANSWER: Final = 65_536
"""Most bytes of an answer."""

MAX_WORDS: Final = 300
"""Most characters of an endpoint's words for logs and records."""

_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_COME_BACK: Final = frozenset({408, 425, 429})
_LONGEST: Final = 900


class NoToken(Unreachable):
    """There is no access token, so no session is opened. `rest` is the least wait, in seconds, that the
    endpoint asked for."""

    def __init__(self, reason: str, *, enhanced: str = "4.4.2", rest: float = 0.0) -> None:
        super().__init__(reason, enhanced=enhanced, no_login=True)
        self.rest = rest


class _Place(NamedTuple):
    """The endpoint's address, and the seconds for finding and reaching it."""

    host: str
    port: int
    dns_timeout: float = TOTAL
    connect_timeout: float = TOTAL

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def post(
    url: str, fields: Mapping[str, str], limit: Callable[[], float], secrets: Iterable[str]
) -> dict[str, Any]:
    """The JSON object that the endpoint answers to a form. No redirect is followed and no proxy used.
    `limit` returns the seconds that the run has left. Raises NoToken, whose words hold none of the
    `secrets`."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    place = _Place(host, parts.port or (443 if parts.scheme == "https" else 80))
    deadline = time.monotonic() + min(TOTAL, limit())

    def left() -> float:
        return deadline - time.monotonic()

    if left() <= 0:
        raise NoToken("too little of the run is left for an access token", enhanced="4.4.7")
    try:
        sock = connect(place, left)
    except Unreachable as error:
        raise NoToken(f"no access token: {error.reason}", enhanced=error.enhanced) from error
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    over = threading.Event()

    def cut() -> None:
        over.set()
        with suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    # A time-out of the socket is for each read, and an endpoint may send a byte a second.
    timer = threading.Timer(max(0.0, left()), cut)
    timer.daemon = True
    timer.start()
    try:
        sock.settimeout(max(0.1, left()))
        if parts.scheme == "https":
            wrap = client_context(Policy()).wrap_socket
            encrypted = wrap(sock, server_hostname=host, do_handshake_on_connect=False)
            sock = encrypted
            encrypted.do_handshake()
        status, again, body = _exchange(sock, place, target, urlencode(fields))
    except ssl.SSLCertVerificationError as error:
        raise NoToken(
            f"no access token: {place}: its certificate is not trusted: {error.verify_message}"
        ) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        silent = over.is_set() or isinstance(error, TimeoutError)
        words = (
            "it did not answer in time" if silent else _without(f"{type(error).__name__}: {error}", secrets)
        )
        raise NoToken(f"no access token: {place}: {words}") from error
    finally:
        timer.cancel()
        sock.close()
    if over.is_set():
        raise NoToken(f"no access token: {place}: it did not answer in time")
    return _read(place, status, again, body, tuple(secrets))


def _exchange(sock: socket.socket, place: _Place, target: str, form: str) -> tuple[int, str, bytes]:
    """The answer's status, its Retry-After, and its body, of which one byte too many shows that it is too
    long."""
    connection = http.client.HTTPConnection(place.host, place.port)
    connection.sock = sock
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "Connection": "close",
        "Content-Type": "application/x-www-form-urlencoded",
        "User-Agent": f"smtp-relay/{__version__}",
    }
    connection.request("POST", target, form.encode(), headers)
    with connection.getresponse() as response:
        return response.status, response.headers.get("Retry-After", ""), response.read(MAX_ANSWER + 1)


def _read(place: _Place, status: int, again: str, body: bytes, secrets: tuple[str, ...]) -> dict[str, Any]:
    found: Any = None
    with suppress(ValueError, RecursionError):
        found = json.loads(body) if len(body) <= MAX_ANSWER else None
    if status == 200 and isinstance(found, dict) and "error" not in found:
        return found
    if status == 200 and not isinstance(found, dict):
        long = len(body) > MAX_ANSWER
        words = f"its answer is longer than {MAX_ANSWER} bytes" if long else "its answer is no JSON object"
        raise NoToken(f"no access token: {place}: {words}")
    words = _words(found) if isinstance(found, dict) else ""
    moved = ", a redirect, which is not followed" if 300 <= status < 400 else ""
    refused = 400 <= status < 500 and status not in _COME_BACK
    rest = float(min(_LONGEST, int(again))) if again.isdecimal() and len(again) < 10 else 0.0
    text = _without(f"it answers {status}{moved}{words}", secrets)
    raise NoToken(f"no access token: {place}: {text}", enhanced="4.7.8" if refused else "4.4.2", rest=rest)


def _words(found: Mapping[str, Any]) -> str:
    """The endpoint's reason (RFC 6749 section 5.2)."""
    code, more = found.get("error"), found.get("error_description")
    words = f" {code}" if isinstance(code, str) and _CODE.fullmatch(code) else ""
    return words + (f": {one_line(more)}" if isinstance(more, str) and more else "")


def _without(text: str, secrets: Iterable[str]) -> str:
    """An endpoint's words, bounded, without the secrets in the forms in which it may repeat them."""
    for secret in secrets:
        forms = (secret, quote(secret), quote_plus(secret), one_line(secret))
        for form in (*forms, base64.b64encode(secret.encode()).decode()):
            if len(form) >= 4:
                text = text.replace(form, HIDDEN)
    return text if len(text) <= MAX_WORDS else f"{text[:MAX_WORDS]}…"
