"""The script of the SMTP side: Mailpit's `chaos`, and `respond`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from listener.config.inbox import Right
from listener.filters.respond.running import ALL, RunningScript, Scope
from listener.inbox.web.bodies import object_of
from listener.inbox.web.replies import as_json, refused
from listener.inbox.web.state import NotSeen, missing_right, server_of, viewer_of

Get = Callable[[RunningScript, Scope], dict[str, Any]]
Put = Callable[[RunningScript, object, Scope], dict[str, Any]]


async def chaos(request: Request) -> Response:
    """`GET|PUT /api/v1/chaos`: failures by chance."""
    return await _answer(request, "chaos", RunningScript.chaos, RunningScript.set_chaos)


async def respond(request: Request) -> Response:
    """`GET|PUT /api/v1/respond`: the rules."""
    return await _answer(request, "respond", RunningScript.rules, RunningScript.set_rules)


async def script_exists(request: Request) -> bool:
    """True if SMTP clients may get scripted answers."""
    server = server_of(request)
    return await server.run(lambda: server.script.exists)


async def _answer(request: Request, right: Right, get: Get, put: Put) -> Response:
    server = server_of(request)
    scope = _scope(request)
    if not await script_exists(request):
        return refused("Chaos is not enabled" if right == "chaos" else "no flow has the filter respond")
    if scope is None:
        return refused("this user has several inboxes: ask below /inbox/NAME/", 403)
    if request.method != "PUT":
        return as_json(await server.run(get, server.script, scope))
    if why := missing_right(request, right):
        return refused(why, 403)
    value = await object_of(request)
    if value is None:
        return refused("the body is empty")
    try:
        return as_json(await server.run(put, server.script, value, scope))
    except ValueError as mistake:
        return refused(str(mistake))


def _scope(request: Request) -> Scope | None:
    """The part of the script that a request is about: of the inbox in its path, of the only one that its user
    has, or all. None for a user with several. Raises NotSeen."""
    viewer = viewer_of(request)
    seen = None if viewer is None else viewer.inboxes
    name = request.path_params.get("inbox")
    if name is None:
        if seen is None:
            return ALL
        if len(seen) != 1:
            return None
        (name,) = seen
    elif seen is not None and name not in seen:
        raise NotSeen(name)
    return Scope(user=name) if server_of(request).options.by == "user" else Scope(flow=name)
