"""Fixed mails, and what Mailpit's API has to show of each: written by hand, in tests/data/inbox/mails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.inbox.recorded import MAILS, recorded
from tests.support.inbox.served import served


@pytest.mark.parametrize("name", MAILS)
async def test_the_mail_is_shown_as_recorded(tmp_path: Path, name: str) -> None:
    mail = recorded(name)
    path = mail.place(tmp_path / "flow")
    size = path.stat().st_size
    async with served(tmp_path) as inbox:
        (summary,) = (await inbox.get("/api/v1/messages"))["messages"]
        mail_id = summary["ID"]
        assert summary == mail.summary(mail_id, size)
        assert await inbox.get(f"/api/v1/message/{mail_id}") == mail.message(mail_id, size)
        headers = await inbox.get(f"/api/v1/message/{mail_id}/headers")
        ours = {key for key in headers if key.startswith("X-Smtp-Relay-")}
        top = headers.pop("Return-Path")
        assert top == [
            f"<{mail.expected['envelope']['from']}>",
            *mail.expected["headers"].get("Return-Path", []),
        ]
        wanted = {key: value for key, value in mail.expected["headers"].items() if key != "Return-Path"}
        assert {key: value for key, value in headers.items() if key not in ours} == wanted
        raw = await inbox.client.get(f"/api/v1/message/{mail_id}/raw")
        assert raw.content == path.read_bytes()
        for part, content in mail.contents().items():
            reply = await inbox.client.get(f"/api/v1/message/{mail_id}/part/{part}")
            assert (reply.status_code, reply.content) == (200, content)


def test_there_are_forty_mails_and_more() -> None:
    assert len(MAILS) >= 40


@pytest.mark.parametrize("name", MAILS)
def test_a_mail_says_what_it_is_for(name: str) -> None:
    assert recorded(name).expected["about"]
