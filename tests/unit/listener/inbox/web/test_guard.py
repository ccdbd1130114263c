"""Who may ask: names of the server, pages of other sites, logins."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.inbox.mails import mail, store
from tests.support.inbox.served import Served, served

USERS = {
    "ann": {"password": "plain:secret", "rights": ["delete"]},
    "bob": {"password": "plain:other"},
}


@pytest.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[Served]:
    store(tmp_path / "flow", "a.eml", mail("One"))
    async with served(tmp_path, hosts=["mail.corp.example"]) as made:
        yield made


@pytest.fixture
async def closed(tmp_path: Path) -> AsyncIterator[Served]:
    store(tmp_path / "flow", "a.eml", mail("One"))
    async with served(tmp_path, users=USERS) as made:
        yield made


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8025", 200),
        ("127.0.0.1:8025", 200),
        ("[::1]:8025", 200),
        ("192.168.1.7", 200),
        ("inbox", 200),
        ("app.localhost", 200),
        ("MAIL.corp.example.", 200),
        ("evil.example:8025", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("[::1", 403),
    ],
)
async def test_only_names_of_this_server_are_answered(inbox: Served, host: str, status: int) -> None:
    reply = await inbox.client.get("/api/v1/messages", headers={"host": host})
    assert reply.status_code == status
    assert ("One" in reply.text) is (status == 200)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:8025"}, 200),
        ({"origin": "http://localhost:8025", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://localhost:3000"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [("DELETE", "/api/v1/messages"), ("PUT", "/api/v1/messages"), ("POST", "/api/v1/send")],
)
async def test_no_page_of_another_site_changes_anything(
    inbox: Served, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    reply = await inbox.send(method, path, headers=headers)
    assert (reply.status_code == 403 and "another site" in reply.text) is (status == 403)
    if status == 403:
        assert await inbox.subjects() == ["One"]


@pytest.mark.parametrize(("mode", "status"), [("navigate", 200), ("no-cors", 403), ("cors", 403), ("", 403)])
async def test_other_sites_may_link_here_and_no_more(inbox: Served, mode: str, status: int) -> None:
    headers = {"sec-fetch-site": "cross-site", **({"sec-fetch-mode": mode} if mode else {})}
    reply = await inbox.client.get("/api/v1/message/latest", headers=headers)
    assert reply.status_code == status


async def test_no_page_of_another_site_watches(inbox: Served) -> None:
    reply = await inbox.client.get("/api/v1/stream", headers={"origin": "https://evil.example"})
    assert reply.status_code == 403


class TestLogins:
    async def test_nobody_looks_without_one(self, closed: Served) -> None:
        for path in (
            "/api/v1/messages",
            "/api/v1/info",
            "/view/latest",
            "/nothing",
            "/inbox/flow/api/v1/messages",
        ):
            reply = await closed.client.get(path)
            assert reply.status_code == 401, path
            assert reply.headers["www-authenticate"].startswith("Basic ")
            assert "One" not in reply.text

    @pytest.mark.parametrize(
        ("name", "password"),
        [("ann", "wrong"), ("ann", ""), ("nobody", "secret"), ("", ""), ("bob", "secret")],
    )
    async def test_a_wrong_one_is_refused(self, closed: Served, name: str, password: str) -> None:
        assert (await closed.client.get("/api/v1/messages", auth=(name, password))).status_code == 401

    @pytest.mark.parametrize("field", ["Basic", "Basic !!!", "Basic YW5u", "Bearer secret", "Basic \xff"])
    async def test_nonsense_is_refused(self, closed: Served, field: str) -> None:
        reply = await closed.client.get("/api/v1/messages", headers={"authorization": field.encode()})
        assert reply.status_code == 401

    async def test_a_password_is_checked_once_then_a_cookie_is_enough(self, closed: Served) -> None:
        reply = await closed.client.get("/api/v1/messages", auth=("ann", "secret"))
        assert reply.status_code == 200
        flags = reply.headers["set-cookie"]
        assert "HttpOnly" in flags
        assert "SameSite=Strict" in flags
        assert "secret" not in flags
        again = await closed.client.get("/api/v1/messages")
        assert again.status_code == 200
        assert "set-cookie" not in again.headers

    async def test_no_changed_cookie_is_good(self, closed: Served) -> None:
        await closed.client.get("/api/v1/messages", auth=("bob", "other"))
        ((name, value),) = closed.client.cookies.items()
        until, user, signature = value.split(".")
        closed.client.cookies.clear()
        for changed in (
            f"{until}.YW5u.{signature}",
            f"9{until}.{user}.{signature}",
            f"{until}.{user}.",
            f".{signature}",
            value[:-1] + ("0" if value[-1] != "0" else "1"),
            "x",
        ):
            reply = await closed.client.get("/api/v1/messages", headers={"cookie": f"{name}={changed}"})
            assert reply.status_code == 401, changed

    async def test_only_a_user_with_the_right_deletes(self, closed: Served) -> None:
        reply = await closed.send("DELETE", "/api/v1/messages", auth=("bob", "other"))
        assert reply.status_code == 403
        closed.client.cookies.clear()
        assert (await closed.send("DELETE", "/api/v1/messages", auth=("ann", "secret"))).status_code == 200

    async def test_guessing_is_slowed_down(self, closed: Served) -> None:
        for _ in range(10):
            await closed.client.get("/api/v1/messages", auth=("ann", "guess"))
        assert (await closed.client.get("/api/v1/messages", auth=("ann", "secret"))).status_code == 429

    @pytest.mark.parametrize("path", ["/livez", "/readyz"])
    async def test_probes_need_none(self, closed: Served, path: str) -> None:
        assert (await closed.client.get(path)).status_code == 200
