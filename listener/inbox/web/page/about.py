"""Requests of the page for what Mailpit's API has no place for."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from listener.inbox.mailbox import Row
from listener.inbox.message import ShownMail, part_id_of
from listener.inbox.web.replies import as_json
from listener.inbox.web.state import mailbox_of, server_of

_MOST: Final = 50
"""Mails of one request."""

_LARGEST: Final = 1_048_576
"""Bytes of a mail whose codes and links a list shows."""


async def about(request: Request, row: Row) -> Response:
    """`GET /api/v1/message/{ID}/about`: its inbox, envelope, parts, codes and links."""
    return as_json(await server_of(request).run(_about, row))


async def highlights(request: Request) -> Response:
    """`GET /api/v1/highlights?ids=A,B`: inbox, codes and links of at most 50 mails, by their ids. Large
    mails have no codes and links there."""
    ids = request.query_params.get("ids", "").split(",")[:_MOST]
    mailbox = mailbox_of(request)

    def find() -> dict[str, Any]:
        return {row.id: _highlights(row) for row in mailbox.found(ids)}

    return as_json(await server_of(request).run(find))


def _about(row: Row) -> dict[str, Any]:
    found = ShownMail(row)
    envelope = found.mail.envelope
    return {
        "Inbox": row.inbox,
        "MailID": row.mail_id,
        "Envelope": None
        if envelope is None
        else {
            "ReversePath": envelope.reverse_path,
            "Recipients": list(envelope.recipients),
            "User": envelope.user,
            "Client": envelope.client,
            "Helo": envelope.helo,
        },
        "Structure": [
            {
                "PartID": part_id_of(leaf),
                "Above": list(leaf.above),
                "ContentType": leaf.content_type,
                "Charset": leaf.parameters.get("charset", ""),
                "Encoding": leaf.encoding,
                "Disposition": leaf.disposition,
                "FileName": leaf.filename,
                "ContentID": leaf.content_id,
                "Size": leaf.size,
            }
            for leaf in found.parts.leaves
        ],
        "Codes": found.codes(),
        "Links": found.links(),
    }


def _highlights(row: Row) -> dict[str, Any]:
    codes: list[str] = []
    links: list[str] = []
    if row.summary.get("Size", 0) <= _LARGEST:
        try:
            found = ShownMail(row)
            codes, links = found.codes()[:5], found.links()[:20]
        except OSError:
            pass  # the file is gone
    return {"Inbox": row.inbox, "Codes": codes, "Links": links}
