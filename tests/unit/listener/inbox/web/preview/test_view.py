"""Previews over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path

from listener.inbox.web.preview import markup
from tests.support.inbox.mails import mail, store
from tests.support.inbox.served import served


async def test_previews_that_take_long_hold_up_no_other_request(tmp_path: Path) -> None:
    large = mail("Large")
    large.add_alternative("<p>word</p>" * 4_000, subtype="html")
    store(tmp_path / "flow", "large.eml", large)
    async with served(tmp_path) as made:
        (found,) = (await made.get("/api/v1/messages"))["messages"]
        with markup._ONE:  # as a process that reads HTML holds it
            previews = [asyncio.ensure_future(made.client.get(f"/view/{found['ID']}.html")) for _ in range(6)]
            async with asyncio.timeout(20):
                while not made.server.previews.locked():
                    await asyncio.sleep(0)
                for _ in range(3):
                    assert await made.subjects() == ["Large"]
            assert not any(one.done() for one in previews)
        replies = await asyncio.gather(*previews)
        assert [one.status_code for one in replies] == [200] * 6
