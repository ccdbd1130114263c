"""A token endpoint (RFC 6749) that works or fails, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qs

from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint

JSON: Final = {"Content-Type": "application/json"}


class TokenServer:
    """Gives the tokens `token-1`, `token-2` …; `valid` are those that a server should accept. `life` is
    their `expires_in`. `answer` replaces the usual answer: it may be changed at any time, and gets the
    form. With `rotates` each refresh token is taken once, and answered with the next one."""

    def __init__(self, served: Endpoint) -> None:
        self.url = f"{served.url.partition('/ask')[0]}/token"
        self.endpoint = served
        self.life: Any = 3_600
        self.answer: Callable[[dict[str, str]], Says | None] = lambda form: None
        self.forms: list[dict[str, str]] = []
        self.valid: set[str] = set()
        self.rotates = False
        self.refresh_token = "refresh-0"
        self._lock = threading.Lock()
        served.answer = self._say

    def _say(self, asked: Asked) -> Says:
        form = {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}
        with self._lock:
            self.forms.append(form)
            said = self.answer(form)
            return self.usual(form) if said is None else said

    def usual(self, form: dict[str, str]) -> Says:
        """A new token."""
        if "refresh_token" in form and form["refresh_token"] != self.refresh_token:
            return refusal("invalid_grant", "the refresh token was used before")
        token = f"token-{len(self.forms)}"
        self.valid.add(token)
        given = {"access_token": token, "token_type": "Bearer", "expires_in": self.life}
        if self.rotates and "refresh_token" in form:
            self.refresh_token = given["refresh_token"] = f"refresh-{len(self.forms)}"
        return Says(200, json.dumps(given).encode(), JSON)


def refusal(error: str, description: str, status: int = 400) -> Says:
    """An answer without a token (RFC 6749 section 5.2)."""
    body = {"error": error, "error_description": description}
    return Says(status, json.dumps(body).encode(), JSON)


@contextmanager
def token_server(certificate: tuple[str, str] | None = None) -> Iterator[TokenServer]:
    """Serve until the block ends."""
    with endpoint(certificate) as served:
        yield TokenServer(served)
