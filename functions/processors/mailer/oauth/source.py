"""The access tokens of this process: one for each login, renewed before its end."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from functions.processors.mailer.oauth.grant import AccessToken
from functions.processors.mailer.oauth.request import NoToken

log: Final = logging.getLogger("smtp_relay.output.mailer")

BEFORE_END: Final = 300.0
"""Seconds before its end when a token is renewed; half of its life, if it lives shorter than twice that."""

REST: Final = 10.0
"""Least seconds without a request after one that failed, because thousands of mails may wait."""

MOST: Final = 100
"""Most logins of one process whose tokens are kept."""

Limit = Callable[[], float]


class Asks(Protocol):
    """Gets a token from its endpoint."""

    def ask(self, limit: Limit) -> AccessToken:
        """A new token. Raises NoToken."""


class TokenSource:
    """The token of one login (functions.smtp_client.server.Tokens). One thread renews it; others go on
    with a token that is still valid, or wait for the new one. `first` is a token that is known already,
    `clock` is Unix time: a process may be frozen, and then the monotonic clock stands still."""

    def __init__(
        self, asks: Asks, about: str, first: AccessToken | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._asks = asks
        self._about = about
        self._clock = clock
        self._changed = threading.Condition()
        self._held: AccessToken | None = None
        self._renew = 0.0
        self._asking = False
        self._fault: NoToken | None = None
        self._rest_until = 0.0
        if first is not None:
            self._take(first)

    def token(self, limit: Limit) -> str:
        """A valid token. Raises NoToken."""
        held = self._valid_or_turn(limit)
        if held is not None:
            return held
        made: AccessToken | None = None
        fault: NoToken | None = None
        try:
            made = self._asks.ask(limit)
        except NoToken as error:
            fault = error
        finally:
            valid = self._settle(made, fault)
        if valid is None:
            assert fault is not None
            raise fault
        return valid

    def refused(self, token: str) -> None:
        """The server refused this token: it is not used again."""
        with self._changed:
            if self._held is not None and self._held.text == token:
                self._held = None

    def _valid_or_turn(self, limit: Limit) -> str | None:
        """A token to use, None if this thread has to ask for one. Raises NoToken."""
        with self._changed:
            while True:
                now = self._clock()
                held = self._held.text if self._held is not None and now < self._held.ends else None
                if held is not None and now < self._renew:
                    return held
                resting = self._fault is not None and time.monotonic() < self._rest_until
                if held is not None and (self._asking or resting):
                    return held
                if resting:
                    assert self._fault is not None
                    raise NoToken(self._fault.reason, enhanced=self._fault.enhanced)
                if not self._asking:
                    self._asking = True
                    return None
                wait = limit()
                if wait <= 0:
                    raise NoToken("too little of the run is left for an access token", enhanced="4.4.7")
                self._changed.wait(min(wait, 60.0))

    def _settle(self, made: AccessToken | None, fault: NoToken | None) -> str | None:
        """Record how a request ended; returns a valid token, if there is one."""
        with self._changed:
            self._asking = False
            before, self._fault = self._fault, fault
            if made is not None:
                self._take(made)
            elif fault is not None:
                self._rest_until = time.monotonic() + max(REST, fault.rest)
            self._changed.notify_all()
            valid = self._held is not None and self._clock() < self._held.ends
            held = self._held.text if self._held is not None and valid else None
        if fault is not None and before is None:
            log.error(
                "no access token", extra={"login": self._about, "reason": fault.reason, "no_login": True}
            )
        elif made is not None and before is not None:
            log.info("access tokens come again", extra={"login": self._about})
        return held

    def _take(self, token: AccessToken) -> None:
        self._held = token
        left = token.ends - self._clock()
        self._renew = token.ends - min(BEFORE_END, left / 2)


_sources: Final[dict[str, TokenSource]] = {}
_lock: Final = threading.Lock()


def shared(inputs: object, make: Callable[[], TokenSource]) -> TokenSource:
    """The source of a login in this process, the same for the same `inputs`: a new configuration goes on
    with the tokens of the last one. `inputs` are JSON values, and only their hash is kept."""
    key = hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
    with _lock:
        found = _sources.pop(key, None) or make()
        _sources[key] = found
        while len(_sources) > MOST:
            del _sources[next(iter(_sources))]
    return found
