"""The application: which request goes where."""

from __future__ import annotations

import logging

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Scope

from listener.inbox.access.access import Access
from listener.inbox.web import chaos, lists, live, mailhog, sending, single
from listener.inbox.web.guard import Guard
from listener.inbox.web.page import about
from listener.inbox.web.page.replies import PageReplies
from listener.inbox.web.preview import view
from listener.inbox.web.replies import not_found, refused
from listener.inbox.web.single import of_mail
from listener.inbox.web.state import InboxServer, NotSeen

log = logging.getLogger("smtp_relay.inbox")


def application(server: InboxServer, access: Access) -> ASGIApp:
    """The whole server, for uvicorn."""
    page = PageReplies()
    routes: list[BaseRoute] = [
        *_routes(page),
        Route("/page/{version}/{name}", page.file),
        Mount("/inbox/{inbox}", routes=_routes(page)),
    ]
    prefix = server.options.path
    app = Starlette(
        routes=[Mount(prefix, routes=routes)] if prefix else routes,
        exception_handlers={HTTPException: _mistake, NotSeen: _not_seen, Exception: _failure},
    )
    app.state.inbox = server
    return Guard(app, server.options, access)


def _routes(page: PageReplies) -> list[BaseRoute]:
    v1, mail = "/api/v1", "/api/v1/message/{id}"
    return [
        Route("/livez", _alive),
        Route("/readyz", _alive),
        Route(f"{v1}/messages", lists.list_messages),
        Route(f"{v1}/messages", lists.mark_messages, methods=["PUT"]),
        Route(f"{v1}/messages", lists.delete_messages, methods=["DELETE"]),
        Route(f"{v1}/messages/{{id}}", mailhog.delete_one, methods=["DELETE"]),
        Route(f"{v1}/search", lists.search_messages),
        Route(f"{v1}/search", lists.delete_search, methods=["DELETE"]),
        Route(f"{v1}/tags", lists.list_tags),
        Route(f"{v1}/tags", lists.set_tags, methods=["PUT"]),
        Route(f"{v1}/tags/{{tag:path}}", lists.rename_tag, methods=["PUT"]),
        Route(f"{v1}/tags/{{tag:path}}", lists.delete_tag, methods=["DELETE"]),
        Route(mail, of_mail(single.message)),
        Route(f"{mail}/headers", of_mail(single.headers)),
        Route(f"{mail}/raw", of_mail(single.raw)),
        Route(f"{mail}/part/{{part}}", of_mail(single.part)),
        Route(f"{mail}/part/{{part}}/thumb", of_mail(single.thumbnail)),
        Route(f"{mail}/links", of_mail(single.links)),
        Route(f"{mail}/codes", of_mail(single.codes)),
        Route(f"{mail}/about", of_mail(about.about)),
        Route(f"{v1}/highlights", about.highlights),
        Route(f"{mail}/deliveries", of_mail(single.deliveries)),
        Route(f"{mail}/retry", of_mail(sending.retry), methods=["POST"]),
        *(
            Route(f"{mail}/{name}", of_mail(single.check))
            for name in ("html-check", "link-check", "sa-check")
        ),
        Route(f"{mail}/release", of_mail(sending.release), methods=["POST"]),
        Route(f"{v1}/send", sending.send, methods=["POST"]),
        Route(f"{v1}/chaos", chaos.chaos, methods=["GET", "PUT"]),
        Route(f"{v1}/respond", chaos.respond, methods=["GET", "PUT"]),
        Route(f"{v1}/info", lists.info),
        Route(f"{v1}/webui", lists.web_settings),
        Route(f"{v1}/inboxes", lists.list_inboxes),
        Route(f"{v1}/wait", live.wait),
        Route(f"{v1}/stream", live.stream),
        WebSocketRoute("/api/events", live.websocket),
        Route("/api/v2/messages", mailhog.messages),
        Route("/api/v2/search", mailhog.search),
        Route("/view/latest", view.latest),
        Route("/view/{id}.html", of_mail(view.html)),
        Route("/view/{id}.txt", of_mail(view.text)),
        Route("/view/{id}", page.first),
        Route("/search", page.first),
        Route("/", page.first),
        _Options("/api/v1/{rest:path}", _options, methods=["OPTIONS"]),
    ]


class _Options(Route):
    """A route of OPTIONS alone: other methods at unknown paths are 404, and not 405."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return (match, child) if match is Match.FULL else (Match.NONE, {})


async def _alive(_: Request) -> Response:
    return PlainTextResponse("ok")


async def _options(_: Request) -> Response:
    return PlainTextResponse("")


async def _mistake(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return not_found() if error.status_code == 404 else refused(error.detail, error.status_code)


async def _not_seen(_: Request, __: Exception) -> Response:
    return not_found()


async def _failure(request: Request, error: Exception) -> Response:
    log.error("the inbox failed at %s", request.url.path, exc_info=error)
    return refused("the server failed; its log tells why", 500)
