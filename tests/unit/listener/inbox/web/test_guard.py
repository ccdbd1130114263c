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

    async def test_a_cookie_is_good_after_a_restart_and_not_after_a_change_of_the_password(
        self, tmp_path: Path
    ) -> None:
        store(tmp_path / "flow", "a.eml", mail("One"))
        async with served(tmp_path, users=USERS) as first:
            await first.client.get("/api/v1/messages", auth=("ann", "secret"))
            cookies = dict(first.client.cookies)
        for password, status in (("plain:secret", 200), ("plain:changed", 401)):
            async with served(tmp_path, users={"ann": {"password": password}}) as again:
                again.client.cookies.update(cookies)
                assert (await again.client.get("/api/v1/messages")).status_code == status

    async def test_a_token_is_a_login(self, tmp_path: Path) -> None:
        store(tmp_path / "flow", "a.eml", mail("One"))
        async with served(tmp_path, users={"job": {"token": "plain:t", "inboxes": ["flow"]}}) as made:
            for token, status in (("t", 200), ("u", 401)):
                made.client.cookies.clear()
                reply = await made.client.get(
                    "/api/v1/messages", headers={"authorization": f"Bearer {token}"}
                )
                assert reply.status_code == status

    async def test_failures_over_smtp_count(self, closed: Served) -> None:
        for _ in range(10):
            closed.failed.of(0).add("127.0.0.1")
        assert (await closed.client.get("/api/v1/messages", auth=("ann", "secret"))).status_code == 429

    async def test_a_refusal_names_the_right_that_is_missing(self, closed: Served) -> None:
        reply = await closed.send("DELETE", "/api/v1/messages", auth=("bob", "other"))
        assert '"rights": ["delete"]' in reply.text

    async def test_a_client_behind_a_trusted_proxy_is_throttled_itself(self, tmp_path: Path) -> None:
        store(tmp_path / "flow", "a.eml", mail("One"))
        async with served(tmp_path, users=USERS, trustedProxies="127.0.0.1") as made:

            async def status(client: str, password: str) -> int:
                made.client.cookies.clear()
                headers = {"x-forwarded-for": client, "x-forwarded-proto": "https"}
                reply = await made.client.get("/api/v1/info", auth=("ann", password), headers=headers)
                assert ("; Secure" in reply.headers.get("set-cookie", "")) is (reply.status_code == 200)
                return reply.status_code

            for _ in range(10):
                assert await status("192.0.2.1", "guess") == 401
            assert await status("6.6.6.6, 192.0.2.1", "secret") == 429
            assert await status("192.0.2.2", "secret") == 200

    @pytest.mark.parametrize("path", ["/livez", "/readyz"])
    async def test_probes_need_none(self, closed: Served, path: str) -> None:
        assert (await closed.client.get(path)).status_code == 200


class TestSitesThatMayAsk:
    @pytest.fixture
    async def shared(self, tmp_path: Path) -> AsyncIterator[Served]:
        store(tmp_path / "flow", "a.eml", mail("One"))
        async with served(tmp_path, users=USERS, cors=["https://app.example"]) as made:
            yield made

    async def test_a_listed_site_asks_first_without_a_login(self, shared: Served) -> None:
        asked = {
            "origin": "https://app.example",
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "cors",
            "access-control-request-method": "DELETE",
        }
        reply = await shared.send("OPTIONS", "/api/v1/messages", headers=asked)
        assert reply.status_code == 204
        assert reply.headers["access-control-allow-origin"] == "https://app.example"
        assert "DELETE" in reply.headers["access-control-allow-methods"]
        assert "Authorization" in reply.headers["access-control-allow-headers"]
        assert reply.headers["vary"] == "Origin"

    async def test_it_reads_and_changes_with_a_login(self, shared: Served) -> None:
        headers = {"origin": "https://app.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
        assert (await shared.client.get("/api/v1/messages", headers=headers)).status_code == 401
        reply = await shared.send("DELETE", "/api/v1/messages", headers=headers, auth=("ann", "secret"))
        assert reply.status_code == 200
        assert reply.headers["access-control-allow-origin"] == "https://app.example"

    async def test_no_other_site_does(self, shared: Served) -> None:
        headers = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}
        for method in ("OPTIONS", "DELETE", "GET"):
            reply = await shared.send(method, "/api/v1/messages", headers=headers, auth=("ann", "secret"))
            assert reply.status_code in (401, 403)
            assert "access-control-allow-origin" not in reply.headers
        assert len(list((shared.root / "flow").iterdir())) == 1
