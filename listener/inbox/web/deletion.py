"""The reply to a request that deletes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from functions.errors import DeliveryFault
from listener.inbox.mailbox import Row
from listener.inbox.web.replies import ok, refused
from listener.inbox.web.state import missing_right, server_of


async def delete(request: Request, rows: list[Row], *, whole: bool = False) -> Response:
    """Delete mails: 409 if a delivery still holds one of them, 403 for a user without the right. `whole`
    says that these are all that the request sees."""
    server = server_of(request)
    if why := missing_right(request, "delete"):
        return refused(why, 403)
    try:
        done = await server.run(server.deleter.delete, rows)
    except DeliveryFault as fault:
        return refused(f"the spool cannot be read, so nothing is deleted: {fault.reason}", 503)
    server.tell_deleted(done.gone, whole=whole)
    return refused(done.kept, 409) if done.kept else ok()
