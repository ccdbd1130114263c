"""The services around the relay, working or failing: the next hop, the HTTP filter, the name server."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import standardwebhooks

from tests.faults.campaign.numbered_mails import UNKNOWN
from tests.support.servers import receiver
from tests.support.servers.endpoint import Asked, Says
from tests.support.servers.smarthost import CLOSE, RESET, Heard
from tests.support.servers.token_server import TokenServer, refusal

HOOK_SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CLIENT_SECRET: Final = "secret+of/the=relay 77aKx"
"""No log, record or metric may show these two."""


class NextHop:
    """A script for `tests.support.servers.smarthost`; `behaviour` may be changed at any time."""

    BEHAVIOURS: Final = (
        "fine", "down", "busy", "throttling", "slow", "some fail", "cut in DATA", "lost answers",
    )  # fmt: skip

    def __init__(self, seed: str, valid: Callable[[str], bool] | None = None) -> None:
        self.behaviour = "fine"
        self._valid = valid
        self._moments = random.Random(seed)
        self._lock = threading.Lock()

    def _sometimes(self, chance: float) -> bool:
        with self._lock:
            return self._moments.random() < chance

    def __call__(self, heard: Heard) -> str | None:
        verb, behaviour = heard.verb, self.behaviour
        if self._valid is not None and verb in ("AUTH", "MAIL"):
            given = (heard.session.password or "").partition("auth=Bearer ")[2].rstrip("\x01")
            if verb == "AUTH" and not self._valid(given):
                return "535 5.7.8 no such token"
            if verb == "MAIL" and not given:
                return "530 5.7.0 log in first"
        if verb == "RCPT" and heard.address == UNKNOWN:
            return "550 5.1.1 no such user"
        if behaviour == "down" and verb in ("CONNECT", "MAIL"):
            return RESET
        if behaviour == "busy" and verb == "CONNECT":
            return "421 4.3.2 too busy" + CLOSE
        if behaviour == "throttling" and verb == "MAIL" and self._sometimes(0.5):
            return "451 4.7.1 slow down"
        if behaviour == "slow" and verb == ".":
            time.sleep(0.1)
        if behaviour == "some fail" and verb == "." and self._sometimes(0.3):
            return "452 4.3.1 no room for this one"
        if behaviour == "cut in DATA" and verb == "CONTENT" and self._sometimes(0.4):
            return RESET
        if behaviour == "lost answers" and verb == "." and self._sometimes(0.3):
            if self._sometimes(0.5):
                heard.take()
            return RESET
        return None


class Hook:
    """The receiver of the webhook: `taken` are the ids and bodies of all requests that it kept, `failed` is
    the number of those that got no good answer."""

    BEHAVIOURS: Final = (
        "fine", "hook down", "hook failing", "hook hanging", "hook resetting", "hook lying", "hook slow",
        "hook silent", "hook noisy", "hook redirecting", "hook throttling",
    )  # fmt: skip

    def __init__(self, seed: str) -> None:
        self.behaviour = "fine"
        self.taken: list[tuple[str, bytes, bool]] = []
        self.failed = 0
        self._moments = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, handler: receiver.Handler) -> None:
        asked, behaviour = handler.receiver.received[-1], self.behaviour
        with self._lock:
            wrong = behaviour == "hook down" or self._moments.random() < 0.6
        self.failed += wrong and behaviour not in ("fine", "hook slow")
        if wrong and behaviour in self._FAULTS:
            self._FAULTS[behaviour](handler)
            return
        if behaviour == "hook slow":
            time.sleep(0.2)
        with self._lock:
            self.taken.append((asked.id, asked.body, _verified(asked)))
        if wrong and behaviour == "hook lying":
            receiver.lie(handler)
        elif wrong and behaviour == "hook silent":
            receiver.hang_up(handler)
        else:
            receiver.answer(204, b"")(handler)

    _FAULTS: Final[Mapping[str, receiver.Reaction]] = {
        "hook down": receiver.reset,
        "hook failing": receiver.answer(503),
        "hook hanging": lambda handler: time.sleep(1.5),
        "hook resetting": receiver.reset,
        "hook noisy": receiver.noise,
        "hook redirecting": receiver.answer(302, location="https://elsewhere.example/"),
        "hook throttling": receiver.answer(429, retry_after="1"),
    }


def _verified(asked: receiver.Received) -> bool:
    """The signature is that of another implementation. The time is the relay's, whose clock may be set."""
    sent = datetime.fromtimestamp(int(asked.headers["webhook-timestamp"]), UTC)
    own = standardwebhooks.Webhook(HOOK_SECRET).sign(asked.id, sent, asked.body.decode())
    return own == asked.headers["webhook-signature"]


class TokenEndpoint:
    """A script for `tests.support.servers.token_server`: `behaviour` may be changed at any time. Tokens live
    for seconds, so each round asks for some."""

    BEHAVIOURS: Final = ("fine", "down", "hanging", "lying", "slow", "refusing")
    LIFE: Final = 3

    def __init__(self, server: TokenServer, seed: str) -> None:
        self.behaviour = "fine"
        self.failed = 0
        self.url = server.url
        self._server = server
        self._moments = random.Random(f"tokens {seed}")
        self._ends: dict[str, float] = {}
        server.life = self.LIFE
        server.answer = self

    def valid(self, token: str) -> bool:
        """True for a token that was given and has not ended."""
        return token in self._server.valid and time.monotonic() < self._ends.get(token, 0.0)

    def __call__(self, form: dict[str, str]) -> Says:
        behaviour = self.behaviour
        self.failed += behaviour not in ("fine", "slow")
        if behaviour == "down":
            return Says(raw=b"")
        if behaviour == "hanging":
            return Says(hang=_short_nap())
        if behaviour == "refusing":
            return refusal("invalid_client", f"you are {form}", 401)
        if behaviour == "lying":
            lies = (
                b"<html>",
                b'{"access_token": "no-token", "expires_in": 9999}',
                b'{"access_token": "a b"}',
            )
            return Says(200, self._moments.choice(lies))
        if behaviour == "slow":
            time.sleep(0.3)
        given = self._server.usual(form)
        # A token ends before the time that the relay keeps it for, so some logins are refused.
        self._ends[f"token-{len(self._server.forms)}"] = time.monotonic() + self._moments.uniform(1, 20)
        return given


class FilterServer:
    """The HTTP filter's answers; `approved` are the numbers of the mails it accepted."""

    BEHAVIOURS: Final = ("fine", "failing", "hanging", "nonsense", "resetting")

    def __init__(self) -> None:
        self.behaviour = "fine"
        self.approved: set[int] = set()

    def __call__(self, asked: Asked) -> Says:
        if self.behaviour == "failing":
            return Says(503)
        if self.behaviour == "hanging":
            return Says(hang=_short_nap())
        if self.behaviour == "nonsense":
            return Says(raw=b"HTP 20 what\r\n\r\n")
        if self.behaviour == "resetting":
            return Says(raw=b"")
        number = _subject_number(asked.body)
        if number is not None:
            self.approved.add(number)
        return Says(200)


def _short_nap() -> threading.Event:
    event = threading.Event()
    threading.Timer(2.0, event.set).start()
    return event


def _subject_number(body: bytes) -> int | None:
    _, found, rest = body.partition(b"number ")
    digits = rest[: rest.find(b'"')] if found else b""
    return int(digits) if digits.isdigit() else None


ZONES: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    "fine": {
        "client.example": {"TXT": ["v=spf1 ip4:127.0.0.1 -all"]},
        "_dmarc.client.example": {"TXT": ["v=DMARC1; p=reject"]},
    },
    "silent": {"client.example": {"*": "TIMEOUT"}, "_dmarc.client.example": {"*": "TIMEOUT"}},
    "failing": {"client.example": {"*": "SERVFAIL"}, "_dmarc.client.example": {"*": "SERVFAIL"}},
}
"""The name server's answers. A sender's records are needed to accept its mail: p=reject."""
