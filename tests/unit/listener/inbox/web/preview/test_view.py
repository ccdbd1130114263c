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


async def test_the_newest_mail_is_found_in_an_inbox_of_any_name(tmp_path: Path) -> None:
    store(tmp_path / "a?b#c%20", "one.eml", mail("One"))
    async with served(tmp_path, "a?b#c%20") as made:
        inbox = "/inbox/a%3Fb%23c%2520"
        (found,) = (await made.get(f"{inbox}/api/v1/messages"))["messages"]
        reply = await made.client.get(f"{inbox}/view/latest")
        assert reply.headers["location"] == f"{inbox}/view/{found['ID']}"
