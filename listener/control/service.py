"""One worker's side of the control socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from listener.control.channel import MAX_LINE, PATIENCE

log: Final = logging.getLogger("smtp_relay.server")

PIECE: Final = 65_536

Handler = Callable[[Mapping[str, Any], asyncio.StreamReader], Awaitable[Mapping[str, Any]]]
"""Carries out a request, whose content is `size` bytes of the stream; its reply has `error` if it failed."""


class ControlService:
    """Answers requests by the handlers of this process, which `do` names."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self, listening: socket.socket | None) -> None:
        """Accept from a socket that other workers accept from too; None for no such socket."""
        if listening is None:
            return
        self._server = await asyncio.start_unix_server(self._serve, sock=listening.dup(), limit=MAX_LINE)

    def stop(self) -> None:
        """Accept no more, and end what is open."""
        if self._server is not None:
            self._server.close()
        for writer in self._open:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            async with asyncio.timeout(PATIENCE):
                reply = await self._reply(reader)
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
                # With bytes left unread, the close would take the reply from the client (unix(7)).
                while await reader.read(PIECE):
                    pass
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            log.debug("a request at the control socket ended early")
        finally:
            self._open.discard(writer)
            with contextlib.suppress(OSError):
                writer.close()

    async def _reply(self, reader: asyncio.StreamReader) -> Mapping[str, Any]:
        try:
            request = json.loads(await reader.readline())
        except (ValueError, RecursionError):  # also of a line that is too long
            return {"error": "the request is not a line of JSON"}
        handler = self._handlers.get(str(request.get("do"))) if isinstance(request, dict) else None
        if handler is None:
            return {"error": "the server knows no such request"}
        try:
            return await handler(request, reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            raise
        except Exception:
            log.exception("a request at the control socket failed", extra={"request": request.get("do")})
            return {"error": "the server failed; its log tells why"}
