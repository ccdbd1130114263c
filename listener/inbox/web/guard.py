"""Who may ask: checks in front of every request.

A page of a stranger in the browser of a developer can send requests to this server. The Host field tells
such a page whose name leads here (DNS rebinding); Origin and Sec-Fetch-Site tell any other.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
import time
from collections import OrderedDict
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from listener.config.inbox import InboxOptions, InboxUser
from listener.filters.passwords.stored import parse
from listener.inbox.web.replies import HIDDEN, SANDBOX, refused

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN: Final = frozenset({"same-origin", "none"})
_COOKIE: Final = "smtp-relay-inbox"
_LASTS: Final = 43_200
"""Seconds for which a cookie is good."""

_FAILURES: Final = 10
_WINDOW: Final = 60.0
_ADDRESSES: Final = 10_000


class Guard:
    """The application behind these checks."""

    def __init__(self, app: ASGIApp, options: InboxOptions) -> None:
        self._app = app
        self._hosts = frozenset(name.lower().rstrip(".") for name in options.hosts)
        self._users = {name: (user, parse(user.password)) for name, user in options.users.items()}
        self._path = options.path
        self._public = frozenset({f"{options.path}/livez", f"{options.path}/readyz"})
        self._key = os.urandom(32)
        self._failures: OrderedDict[str, list[float]] = OrderedDict()
        self._checks = asyncio.Semaphore(2)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        cookie = ""
        reply = self._foreign(scope, headers)
        if reply is None and self._users and scope["path"] not in self._public:
            reply, cookie = await self._logged_in(scope, headers)
        if reply is not None:
            if scope["type"] == "websocket":
                await WebSocketClose(1008, "refused")(scope, receive, send)
                return
            await reply(scope, receive, _with_fields(send, ""))
            return
        await self._app(scope, receive, _with_fields(send, cookie) if scope["type"] == "http" else send)

    def _foreign(self, scope: Scope, headers: Headers) -> Response | None:
        """The refusal of a request that another site's page sent, or may have sent."""
        hosts = headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else ""
        if not self._is_ours(host):
            cure = 'add it to "inbox": {"hosts": [...]}'
            return refused(f"this server does not go by the name {host[:200]!r} ({cure})", 403)
        site = headers.get("sec-fetch-site", "none")
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
        if not changes and not scope["path"].endswith("/api/v1/stream"):
            # A link may lead here. Anything else could mark a mail as read for a page that sees no reply.
            linked = site in _OWN or headers.get("sec-fetch-mode") == "navigate"
            return None if linked else refused("the page of another site sent this request", 403)
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return refused("the page of another site sent this request", 403)
        if site not in _OWN:
            return refused("the page of another site sent this request", 403)
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if not name:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return "." not in name or name in self._hosts or name.endswith(".localhost")
        return True

    async def _logged_in(self, scope: Scope, headers: Headers) -> tuple[Response | None, str]:
        """The refusal, or None and a cookie to set ("" for none); the user is in the scope then."""
        now = time.time()
        if (name := self._of_cookie(headers.get("cookie", ""), now)) is not None:
            scope["inbox.user"] = self._users[name][0]
            return None, ""
        client = str((scope.get("client") or ("",))[0])
        if self._is_throttled(client):
            return refused("too many failed logins; wait a minute", 429), ""
        name, password = _basic(headers.get("authorization", ""))
        if name is None:
            return _challenge(), ""
        user = await self._checked(name, password)
        if user is None:
            self._failures.setdefault(client, []).append(time.monotonic())
            while len(self._failures) > _ADDRESSES:
                self._failures.popitem(last=False)
            return _challenge(), ""
        scope["inbox.user"] = user
        return None, self._cookie(name, int(now) + _LASTS)

    async def _checked(self, name: str, password: bytes) -> InboxUser | None:
        # An unknown name takes as long as a known one: a user's hash is checked for it.
        user, stored = self._users.get(name) or next(iter(self._users.values()))
        async with self._checks:
            matches = await asyncio.to_thread(stored.matches, password)
        return user if matches and name in self._users else None

    def _is_throttled(self, client: str) -> bool:
        recent = [at for at in self._failures.get(client, ()) if time.monotonic() - at < _WINDOW]
        if client in self._failures:
            self._failures[client] = recent
        return len(recent) >= _FAILURES

    def _cookie(self, name: str, until: int) -> str:
        text = f"{until}.{base64.urlsafe_b64encode(name.encode()).decode().rstrip('=')}"
        flags = f"Path={self._path or '/'}; HttpOnly; SameSite=Strict; Max-Age={_LASTS}"
        return f"{_COOKIE}={text}.{self._signature(text)}; {flags}"

    def _of_cookie(self, field: str, now: float) -> str | None:
        for one in field.split(";"):
            key, _, value = one.strip().partition("=")
            text, _, signature = value.rpartition(".")
            if key != _COOKIE or not hmac.compare_digest(self._signature(text).encode(), signature.encode()):
                continue
            until, _, name = text.partition(".")
            user = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
            if int(until) > now and user in self._users:
                return user
        return None

    def _signature(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def _basic(field: str) -> tuple[str | None, bytes]:
    """The name and password of an Authorization field (RFC 7617)."""
    scheme, _, text = field.partition(" ")
    if scheme.lower() != "basic":
        return None, b""
    try:
        name, mark, password = base64.b64decode(text.strip(), validate=True).partition(b":")
        return (name.decode(), password) if mark else (None, b"")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None, b""


def _challenge() -> Response:
    reply = refused("Unauthorised.\n", 401)
    reply.headers["WWW-Authenticate"] = 'Basic realm="inbox", charset="UTF-8"'
    return reply


def _with_fields(send: Send, cookie: str) -> Send:
    async def with_fields(message: Message) -> None:
        if message["type"] == "http.response.start":
            fields: Any = MutableHeaders(scope=message)
            for name, value in HIDDEN.items():
                fields.setdefault(name, value)
            fields.setdefault("Content-Security-Policy", SANDBOX)
            if cookie:
                fields.append("Set-Cookie", cookie)
        await send(message)

    return with_fields
