"""Who may change scripted answers over HTTP, and which."""

from __future__ import annotations

from pathlib import Path

import pytest

from listener.filters.respond.filter import RespondOptions, tell_script
from tests.support.inbox.served import served

OFF = {"ErrorCode": 451, "Probability": 0}
ON = {"ErrorCode": 451, "Probability": 100}


async def test_a_user_needs_the_right_and_changes_its_own_inbox(tmp_path: Path) -> None:
    users = {
        "looks": {"password": "plain:p"},
        "one": {"password": "plain:p", "inboxes": ["a"], "rights": ["chaos", "respond"]},
        "two": {"password": "plain:p", "inboxes": ["a", "b"], "rights": ["chaos"]},
    }
    async with served(tmp_path, "a", "b", users=users) as inbox:
        options = RespondOptions.model_validate({"type": "respond"})
        tell_script(inbox.memory, {"a": [options], "b": [options]})

        async def put(name: str, path: str) -> int:
            inbox.client.cookies.clear()
            body = {"Sender": ON} if path.endswith("chaos") else {"rules": [{"drop": True}]}
            return (await inbox.send("PUT", path, body, auth=(name, "p"))).status_code

        assert await put("looks", "/api/v1/chaos") == 403
        assert await put("looks", "/api/v1/respond") == 403
        assert await put("two", "/api/v1/chaos") == 403
        assert await put("two", "/inbox/b/api/v1/respond") == 403
        assert await put("one", "/inbox/b/api/v1/chaos") == 404
        assert await put("one", "/api/v1/chaos") == 200
        assert await put("one", "/api/v1/respond") == 200
        inbox.client.cookies.clear()
        shown = {"": OFF, "/inbox/a": ON, "/inbox/b": OFF}
        for prefix, sender in shown.items():
            path = f"{prefix}/api/v1/chaos"
            assert (await inbox.get(path, auth=("looks", "p")))["Sender"] == sender
        assert (await inbox.get("/api/v1/respond", auth=("looks", "p")))["rules"] == [
            {"phase": "rcpt", "drop": True, "flow": "a"}
        ]


@pytest.mark.parametrize("body", [b"", b"{", b"[]"])
async def test_an_unreadable_body_changes_nothing(tmp_path: Path, body: bytes) -> None:
    async with served(tmp_path, "a") as inbox:
        tell_script(inbox.memory, {"a": [RespondOptions.model_validate({"type": "respond"})]})
        await inbox.send("PUT", "/api/v1/chaos", {"Sender": ON})
        fields = {"Content-Type": "application/json"}
        reply = await inbox.client.request("PUT", "/api/v1/chaos", content=body, headers=fields)
        assert reply.status_code == 400
        assert (await inbox.get("/api/v1/chaos"))["Sender"] == ON
