"""The servers of others around a site: a webhook's receiver, and a next hop that takes access tokens only,
which is this project's own listener."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from tests.faults.campaign.dependencies import CLIENT_SECRET, HOOK_SECRET, Hook, TokenEndpoint
from tests.support.net import HOST
from tests.support.servers.endpoint import Asked, Says, endpoint
from tests.support.servers.receiver import receiving
from tests.support.servers.relay import Relay, flow
from tests.support.servers.token_server import token_server

_USER: Final = "u@x"
_SOON: Final = {"retry": {"first": "1s", "max": "2s"}}


class Peers:
    """`hook` and `tokens` are the scripts of the receiver and of the token endpoint; `next_relay` is the next
    hop, which asks an HTTP server whether a token is valid."""

    def __init__(self, folder: Path, seed: str, stack: ExitStack) -> None:
        self.hook = Hook(seed)
        receiver = stack.enter_context(receiving())
        receiver.react = self.hook
        self._url = f"{receiver.url}/in"
        self.tokens = TokenEndpoint(stack.enter_context(token_server()), seed)
        checker = stack.enter_context(endpoint())
        checker.answer = self._knows
        http = {"type": "http-auth", "url": checker.url, "credentialsMethod": "JSON"}
        self.next_relay = Relay(
            folder / "next",
            {"flows": {"in": flow(http)}, "loggers": [{"type": "CONSOLE", "format": "json"}]},
            authMethods=["PLAIN", "LOGIN", "XOAUTH2"],
            authOptional=False,
            allowInsecureAuth=True,
        )
        self.next_relay.start()
        stack.callback(self.next_relay.kill)

    def _knows(self, asked: Asked) -> Says:
        body = json.loads(asked.body)
        good = body["username"] == _USER and self.tokens.valid(body["password"])
        return Says(200 if good else 403)

    def webhook(self) -> dict[str, Any]:
        """The output that posts to the receiver."""
        given = {"url": self._url, "secret": HOOK_SECRET, "format": "raw", "timeout": 1_000}
        return {"type": "webhook", "name": "hook", **given, **_SOON}

    def mailer(self) -> dict[str, Any]:
        """The output that sends to the next hop."""
        auth = {
            "type": "oauth2", "user": _USER, "clientId": "relay", "clientSecret": CLIENT_SECRET,
            "accessUrl": self.tokens.url,
        }  # fmt: skip
        hop = {
            "host": HOST, "port": self.next_relay.port, "ignoreTLS": True, "auth": auth,
            "connectionTimeout": 2_000, "greetingTimeout": 2_000, "socketTimeout": 3_000,
        }  # fmt: skip
        return {"type": "mailer", "name": "login", "nodemailer": hop, **_SOON}
