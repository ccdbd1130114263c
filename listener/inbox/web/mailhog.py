"""The part of MailHog's API that its clients use."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from listener.inbox.mailbox import Row, go_time
from listener.inbox.message import ShownMail, headers_of
from listener.inbox.query import Search, search_of
from listener.inbox.web.deletion import delete
from listener.inbox.web.replies import as_json, not_found, refused
from listener.inbox.web.state import mailbox_of, row_of, server_of

_KINDS = {"from": "from", "to": "to", "containing": ""}
_MOST = 250


async def messages(request: Request) -> Response:
    """`GET /api/v2/messages`"""
    return await _page(request, None)


async def search(request: Request) -> Response:
    """`GET /api/v2/search?kind=from|to|containing&query=…`"""
    kind = request.query_params.get("kind", "")
    if kind not in _KINDS:
        return refused("kind is from, to or containing")
    words = request.query_params.get("query", "").replace('"', " ").strip()
    if not words:
        return refused("query is empty")
    term = f"{_KINDS[kind]}:{words}" if _KINDS[kind] else words
    return await _page(request, search_of(f'"{term}"'))


async def delete_one(request: Request) -> Response:
    """`DELETE /api/v1/messages/{id}`"""
    row = await row_of(request)
    return not_found() if row is None else await delete(request, [row])


async def _page(request: Request, wanted: Search | None) -> Response:
    server, mailbox = server_of(request), mailbox_of(request)
    start = _number(request.query_params.get("start", ""), 0)
    limit = min(_number(request.query_params.get("limit", ""), 50), _MOST)

    def gather() -> dict[str, Any]:
        page = mailbox.page(start, max(limit, 1), search=wanted)
        rows = mailbox.found([one["ID"] for one in page["messages"]])
        by_id = {row.id: row for row in rows}
        items = [found for one in page["messages"] if (found := _item(by_id.get(one["ID"]))) is not None]
        return {"total": page["messages_count"], "count": len(items), "start": start, "items": items}

    return as_json(await server.run(gather))


def _item(row: Row | None) -> dict[str, Any] | None:
    try:
        message = None if row is None else ShownMail(row)
        if row is None or message is None:
            return None
        envelope = message.mail.envelope
        recipients = envelope.recipients if envelope else message.mail.recipients
        return {
            "ID": row.id,
            "From": _path(envelope.reverse_path if envelope else message.mail.sender),
            "To": [_path(one) for one in recipients],
            "Content": {
                "Headers": headers_of(row),
                "Body": message.parts.text or message.parts.html or "",
                "Size": message.mail.size,
                "MIME": None,
            },
            "Created": go_time(row.created),
            "MIME": None,
            "Raw": {"From": message.mail.sender, "To": list(recipients), "Data": "", "Helo": ""},
        }
    except OSError:
        return None


def _path(address: str) -> dict[str, Any]:
    mailbox, _, domain = address.rpartition("@")
    return {"Relays": None, "Mailbox": mailbox, "Domain": domain, "Params": ""}


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else default
