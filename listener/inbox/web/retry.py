"""The reply to a request that retries a delivery."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from functions.errors import DeliveryFault
from listener.inbox.mailbox import Row
from listener.inbox.web.replies import as_json, refused
from listener.inbox.web.state import missing_right, server_of


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
