"""Requests about many mails: lists, searches, marks, tags."""

from __future__ import annotations

import os
import resource
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from functions import __version__
from listener.inbox.mailbox import Mailbox, Row, Span, search_in
from listener.inbox.query import Search, date_of
from listener.inbox.web.bodies import body_of
from listener.inbox.web.chaos import script_exists
from listener.inbox.web.deletion import delete
from listener.inbox.web.replies import as_json, ok, refused
from listener.inbox.web.state import mailbox_of, missing_right, server_of, viewer_of

_PAGE = 50
_LARGEST = 2**53


async def list_messages(request: Request) -> Response:
    """`GET /api/v1/messages`"""
    return as_json(await server_of(request).run(mailbox_of(request).page, *_bounds(request)))


async def search_messages(request: Request) -> Response:
    """`GET /api/v1/search`"""
    try:
        search = _search(request)
    except ValueError as error:
        return refused(str(error))
    start, limit, span = _bounds(request)
    found = await server_of(request).run(mailbox_of(request).page, start, limit or _PAGE, span, search)
    return as_json(found)


async def delete_search(request: Request) -> Response:
    """`DELETE /api/v1/search`. A term that means nothing matches all mails, so it deletes none."""
    await body_of(request)
    try:
        search = _search(request)
    except ValueError as error:
        return refused(str(error))
    if search.ignored:
        return refused(f"the search has a term that means nothing: {search.ignored[0]}; nothing is deleted")
    return await delete(request, await server_of(request).run(mailbox_of(request).rows, search))


async def mark_messages(request: Request) -> Response:
    """`PUT /api/v1/messages`"""
    body = await body_of(request, Read=bool, IDs=list, Search=str)
    if body.get("IDs") and body.get("Search"):
        return refused("You may specify either IDs or a search query, not both")
    server, mailbox, read = server_of(request), mailbox_of(request), body.get("Read", False)

    def mark() -> list[Row]:
        return mailbox.mark(_chosen(mailbox, body, request), read=read)

    server.tell_marked(await server.run(mark), read=read)
    return ok()


async def delete_messages(request: Request) -> Response:
    """`DELETE /api/v1/messages`: the mails of `IDs`, all without them or where they are an empty list."""
    body = await body_of(request, IDs=list)
    rows = await server_of(request).run(_chosen, mailbox_of(request), body, request)
    return await delete(request, rows, whole=not body.get("IDs"))


async def list_tags(request: Request) -> Response:
    """`GET /api/v1/tags`"""
    return as_json(await server_of(request).run(mailbox_of(request).tags))


async def set_tags(request: Request) -> Response:
    """`PUT /api/v1/tags`"""
    body = await body_of(request, Tags=list, IDs=list)
    server, mailbox = server_of(request), mailbox_of(request)

    def change() -> tuple[list[Row], dict[str, list[str]]]:
        rows = mailbox.found(body.get("IDs", []))
        mailbox.set_tags(rows, body.get("Tags", []))
        return rows, {one["ID"]: one["Tags"] for one in mailbox.summaries(rows)}

    server.tell_tagged(*await server.run(change))
    return ok()


async def rename_tag(request: Request) -> Response:
    """`PUT /api/v1/tags/{Tag}`"""
    body = await body_of(request, Name=str)
    server = server_of(request)
    tag = request.path_params["tag"]
    try:
        found = await server.run(mailbox_of(request).rename_tag, tag, body.get("Name", ""))
    except ValueError as error:
        return refused(str(error))
    return await _changed_tag(request, tag, found=found)


async def delete_tag(request: Request) -> Response:
    """`DELETE /api/v1/tags/{Tag}`"""
    await body_of(request)
    tag = request.path_params["tag"]
    found = await server_of(request).run(mailbox_of(request).delete_tag, tag)
    return await _changed_tag(request, tag, found=found)


async def info(request: Request) -> Response:
    """`GET /api/v1/info`. It asks no other server for its newest version."""
    server, mailbox = server_of(request), mailbox_of(request)

    def gather() -> dict[str, Any]:
        total, unread = mailbox.totals()
        path = server.index.folder / "index.db"
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
        return {
            "Version": f"smtp-relay {__version__}",
            "LatestVersion": "disabled",
            "Database": os.fspath(path) if mailbox.inboxes is None else "",
            "DatabaseSize": path.stat().st_size if mailbox.inboxes is None else 0,
            "Messages": total,
            "Unread": unread,
            "Tags": mailbox.tag_counts(),
            "RuntimeStats": {
                "Uptime": int(time.monotonic() - server.started),
                "Memory": memory if mailbox.inboxes is None else 0,
                "MessagesDeleted": server.deleted if mailbox.inboxes is None else 0,
                "SMTPAccepted": total,
                "SMTPAcceptedSize": mailbox.size(),
                "SMTPRejected": 0,
                "SMTPIgnored": 0,
            },
        }

    return as_json(await server.run(gather))


async def web_settings(request: Request) -> Response:
    """`GET /api/v1/webui`, with the rights of the user where users log in."""
    release, viewer = server_of(request).options.release, viewer_of(request)
    relay = {
        "Enabled": release is not None and not missing_right(request, "release"),
        "SMTPServer": "" if release is None else release.output,
        "ReturnPath": "",
        "AllowedRecipients": "" if release is None else ", ".join(release.recipients),
        "BlockedRecipients": "",
        "OverrideFrom": "",
        "PreserveMessageIDs": True,
    }
    return as_json(
        {
            "Label": "smtp-relay",
            "MessageRelay": relay,
            "SpamAssassin": False,
            "ChaosEnabled": await script_exists(request),
            "DuplicatesIgnored": False,
            "HideDeleteAllButton": False,
            **({"Rights": sorted(viewer.rights)} if viewer is not None else {}),
        }
    )


async def list_inboxes(request: Request) -> Response:
    """`GET /api/v1/inboxes`: the inboxes that hold mail."""
    return as_json(await server_of(request).run(mailbox_of(request).names))


async def _changed_tag(request: Request, tag: str, *, found: bool) -> Response:
    if not found:
        return refused(f"tag not found: {tag}")
    for name in await server_of(request).run(mailbox_of(request).names):
        server_of(request).tell_pruned(name)
    return ok()


def _chosen(mailbox: Mailbox, body: dict[str, Any], request: Request) -> list[Row]:
    """The mails that a body means: of its ids, of its search, or all."""
    if body.get("IDs"):
        return mailbox.found(body["IDs"])
    if body.get("Search"):
        return mailbox.rows(search_in(body["Search"], request.query_params.get("tz", "")))
    return mailbox.rows()


def _search(request: Request) -> Search:
    return search_in(request.query_params.get("query", ""), request.query_params.get("tz", ""))


def _bounds(request: Request) -> tuple[int, int, Span]:
    """`start`, `limit` and the moments of a request. A value that is no number or moment counts as absent,
    as there."""
    start = _number(request, "start", 0)
    limit = _number(request, "limit", _PAGE)
    query = request.query_params
    moments = (date_of(query.get(name, ""), query.get("tz", "")) or 0 for name in Span._fields)
    return start, limit, Span(*moments)


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return min(int(text), _LARGEST) if text.isascii() and text.isdigit() and len(text) < 20 else default
