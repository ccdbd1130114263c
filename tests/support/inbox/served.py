"""The application of the inbox in this process, without a port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from functions.local.view.folders import Folder
from listener.config.inbox import InboxOptions
from listener.config.inbox_folders import InboxFolder
from listener.filters.respond.memory import ScriptMemory
from listener.filters.respond.running import RunningScript
from listener.inbox.access.access import access_of
from listener.inbox.access.cookies import key_in
from listener.inbox.access.stored import stored_logins
from listener.inbox.deleting import Deleter
from listener.inbox.deliveries import Deliveries
from listener.inbox.events import Event, Hub, Watcher
from listener.inbox.index import Index
from listener.inbox.keeper import Keeper
from listener.inbox.retrying import Retrier
from listener.inbox.web.app import application
from listener.inbox.web.state import InboxServer
from listener.monitoring.failed_logins import FailedLogins


class Served:
    """An inbox for each flow, whose mails lie in the folder of that name below `root`."""

    def __init__(self, root: Path, flows: tuple[str, ...], options: Mapping[str, Any]) -> None:
        self.root = root
        self.index = Index(root / "spool" / "inbox")
        self.places = [InboxFolder(flow, Folder(root / flow, trusted=True)) for flow in flows]
        self.hub = Hub()
        self.options = InboxOptions.model_validate(options)
        by_user = self.options.by == "user"
        self.keeper = Keeper(self.index, self.places, self.hub.publish, by_user=by_user)
        self.keeper.catch_up()
        deleter = Deleter(self.index, self.places, root / "spool")
        deliveries = Deliveries(self.places, dict.fromkeys(flows, ("file_0",)), root / "spool")
        self.memory = ScriptMemory.new()
        self.script = RunningScript(self.memory)
        retrier = Retrier(deliveries, root / "spool")
        self.server = InboxServer(
            self.index, self.hub, deleter, deliveries, retrier, self.options, self.script, root / "spool"
        )
        stored = stored_logins(self.options.users, str)
        self.failed = FailedLogins.new(2)
        self.access = access_of(self.options.users, stored, key_in(self.index.folder), self.failed.of(-1))
        transport = httpx.ASGITransport(
            application(self.server, self.access), client=("127.0.0.1", 4711), raise_app_exceptions=False
        )
        self.client = httpx.AsyncClient(transport=transport, base_url="http://localhost:8025")

    async def look(self) -> None:
        """Take over what came into the folders."""
        await asyncio.to_thread(self.keeper.look)

    async def get(self, path: str, **options: Any) -> Any:
        """The JSON at a path."""
        reply = await self.client.get(path, **options)
        assert reply.status_code == 200, reply.text
        return reply.json()

    async def send(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """The reply to a change."""
        return await self.client.request(method, path, **({} if body is None else {"json": body}), **options)

    async def subjects(self, path: str = "/api/v1/messages") -> list[str]:
        """The subjects of a list."""
        return [one["Subject"] for one in (await self.get(path))["messages"]]


async def events_of(watcher: Watcher) -> AsyncIterator[Event]:
    """The events of a watcher one by one, until the server ends."""
    while events := await watcher.next(10):
        for event in events:
            yield event


@asynccontextmanager
async def served(root: Path, *flows: str, **options: Any) -> AsyncIterator[Served]:
    """The inboxes of these flows, `{"flow"}` by default."""
    made = Served(root, flows or ("flow",), options)
    try:
        async with made.client:
            yield made
    finally:
        made.hub.close()
        made.keeper.stop()
        made.access.logins.stop()
        made.index.close()
