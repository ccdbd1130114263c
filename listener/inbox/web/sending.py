"""Requests that make the server send: a new mail, a stored one, or one that an output does not have yet."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from functions.errors import DeliveryFault
from listener.control.channel import ask
from listener.inbox.mailbox import Row
from listener.inbox.outgoing import composed, released, tags_of
from listener.inbox.web.bodies import body_of, object_of
from listener.inbox.web.replies import as_json, ok, refused, refused_json
from listener.inbox.web.state import mailbox_of, missing_right, server_of, viewer_of

_SHOWN_WITHIN: Final = 3.0
"""Seconds for which a reply waits until the mail that was sent is in the inbox."""


async def send(request: Request) -> Response:
    """`POST /api/v1/send`"""
    server = server_of(request)
    if not server.options.send:
        return refused_json('sending is off (name flows: "inbox": {"send": ["FLOW"]})', 403)
    if why := missing_right(request, "send"):
        return refused_json(why, 403)
    value = await object_of(request)
    try:
        tags = tags_of(value or {})
        reverse_path, recipients, content = await server.run(composed, value or {})
    except ValueError as error:
        return refused_json(str(error), 400)
    about = {"from": reverse_path, "to": recipients, "release": False, **_inboxes(request)}
    reply = await _submit(request, about, content)
    if "id" not in reply or reply["code"] >= 300:
        return refused_json(_why(reply), 503 if reply.get("code", 400) < 500 else 400)
    row = await _shown(request, reply["id"])
    if row is not None and tags:
        await server.run(mailbox_of(request).set_tags, [row], tags)
        server.tell_tagged([row], {row.id: tags})
    return as_json({"ID": reply["id"] if row is None else row.id})


async def release(request: Request, row: Row) -> Response:
    """`POST …/release`"""
    server = server_of(request)
    if server.options.release is None:
        return refused(
            'release is off (allow it: "inbox": {"release": {"output": "NAME", "recipients": ["ADDRESS"]}})',
            403,
        )
    if why := missing_right(request, "release"):
        return refused(why, 403)
    body = await body_of(request, To=list)
    recipients = list(dict.fromkeys(body.get("To") or []))
    if not recipients:
        return refused("No valid addresses found")
    reverse_path, content = await server.run(released, row.path)
    if reverse_path is None:
        reverse_path = str((row.summary.get("From") or {}).get("Address", ""))
    reply = await _submit(request, {"from": reverse_path, "to": recipients, "release": True}, content)
    if "id" in reply and reply["code"] < 300:
        return ok()
    return refused(_why(reply), 503 if reply.get("code", 400) < 500 else 400)


async def retry(request: Request, row: Row) -> Response:
    """`POST …/retry`: the labels of the outputs that try the mail again, none if every output has it or
    another request retried them: `{"Outputs": […]}`. 403 for a user without the right."""
    if why := missing_right(request, "retry"):
        return refused(why, 403)
    server = server_of(request)
    try:
        return as_json({"Outputs": await server.run(server.retrier.retry, row)})
    except DeliveryFault as fault:
        return refused(f"nothing is retried: {fault.reason}", 503)


def _inboxes(request: Request) -> dict[str, Any]:
    """The inbox that a sent mail is for: no other one may get it."""
    server, viewer = server_of(request), viewer_of(request)
    name = request.path_params.get("inbox")
    allowed = [name] if name is not None else None
    if allowed is None and viewer is not None and viewer.inboxes is not None:
        allowed = list(viewer.inboxes)
    if allowed is None:
        return {}
    if server.options.by == "user":
        return {"user": allowed[0] if allowed else ""}
    return {"flows": allowed}


async def _submit(request: Request, about: Mapping[str, Any], content: bytes) -> dict[str, Any]:
    client = request.scope["client"][0]
    asked = {"do": "submit", "client": client, **about}
    server, loop = server_of(request), asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(server.senders, ask, server.spool, asked, content)
    except DeliveryFault as fault:
        return {"error": fault.reason}


def _why(reply: Mapping[str, Any]) -> str:
    return str(reply.get("error") or reply.get("text"))


async def _shown(request: Request, mail_id: str) -> Row | None:
    """The mail in the inbox, once it is there."""
    end = time.monotonic() + _SHOWN_WITHIN
    while (row := await server_of(request).run(mailbox_of(request).find, mail_id)) is None:
        if time.monotonic() > end:
            return None
        await asyncio.sleep(0.05)
    return row
