"""Who may ask: checks in front of every request."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from listener.config.inbox import InboxOptions
from listener.inbox.access.access import Access
from listener.inbox.access.logins import TooMany
from listener.inbox.access.names import Names
from listener.inbox.access.proxies import Proxies, Visit
from listener.inbox.web.replies import HIDDEN, SANDBOX, refused

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_CORS: Final = {
    "Access-Control-Allow-Methods": "GET, POST, PUT, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type",
    "Access-Control-Max-Age": "600",
}


class Guard:
    """The application behind these checks."""

    def __init__(self, app: ASGIApp, options: InboxOptions, access: Access) -> None:
        self._app = app
        self._names = Names(options.hosts, options.cors)
        self._proxies = Proxies(options.trusted_proxies)
        self._viewers, self._logins, self._cookies = access
        self._path = options.path
        self._public = frozenset({f"{options.path}/livez", f"{options.path}/readyz"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        fields = Headers(scope=scope)
        hosts = fields.getlist("host")
        peer = str((scope.get("client") or ("",))[0])
        visit = self._proxies.visit(
            peer, hosts[0] if len(hosts) == 1 else "", fields, secure=scope["scheme"] in ("https", "wss")
        )
        scope["client"] = (visit.client, 0)  # for the filters of mails that this request sends
        reply, cookie = await self._checked(scope, fields, visit)
        if reply is not None and scope["type"] == "websocket":
            await WebSocketClose(1008, "refused")(scope, receive, send)
            return
        if scope["type"] == "http":
            send = _with_fields(send, cookie, self._cors(fields))
        await (reply or self._app)(scope, receive, send)

    async def _checked(self, scope: Scope, fields: Headers, visit: Visit) -> tuple[Response | None, str]:
        """The reply to a request that goes no further, and a cookie to set ("" for none)."""
        watches = scope["type"] == "websocket" or scope["path"].endswith("/api/v1/stream")
        changes = watches or scope["method"] not in _SAFE
        if why := self._names.refusal(visit.host, fields, changes=changes):
            return refused(why, 403), ""
        if not self._viewers or scope["path"] in self._public:
            return None, ""
        if scope["type"] == "http" and scope["method"] == "OPTIONS" and self._cors(fields):
            return refused("", 204), ""  # browsers ask without a login
        now = time.time()
        user = self._cookies.user_of(fields.get("cookie", ""), now)
        cookie = ""
        if user is None:
            try:
                user = await self._logins.user_of(fields.get("authorization", ""), visit.client)
            except TooMany:
                return refused("too many failed logins; wait a minute", 429), ""
            if user is None or user not in self._viewers:
                return _challenge(), ""
            cookie = self._cookies.made(user, now, self._path, secure=visit.secure)
        scope["inbox.user"] = self._viewers[user]
        return None, cookie

    def _cors(self, fields: Headers) -> dict[str, str]:
        """The fields that let the page of another site read the reply."""
        origin = fields.get("origin")
        if origin is None or not self._names.allows(origin):
            return {}
        return {"Access-Control-Allow-Origin": origin, **_CORS}


def _challenge() -> Response:
    reply = refused("Unauthorised.\n", 401)
    reply.headers["WWW-Authenticate"] = 'Basic realm="inbox", charset="UTF-8"'
    return reply


def _with_fields(send: Send, cookie: str, cors: Mapping[str, str]) -> Send:
    async def with_fields(message: Message) -> None:
        if message["type"] == "http.response.start":
            fields: Any = MutableHeaders(scope=message)
            for name, value in {**HIDDEN, "Content-Security-Policy": SANDBOX, **cors}.items():
                fields.setdefault(name, value)
            if cors:
                fields.add_vary_header("Origin")
            if cookie:
                fields.append("Set-Cookie", cookie)
        await send(message)

    return with_fields
