"""Mailpit's API over HTTP: paths, names, and what each request changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.inbox.mails import MOMENT, block, mail, store
from tests.support.inbox.served import Served, events_of, served


@pytest.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[Served]:
    """Three mails: One, Two and Three; the last is the newest."""
    for number, name in enumerate(["One", "Two", "Three"]):
        made = mail(name, f"text of {name}\n")
        if name == "Two":
            made.add_alternative('<p>Two</p><img src="cid:i@h">', subtype="html")
            made.add_attachment(
                b"\x89PNG\r\n\x1a\n", maintype="image", subtype="png", cid="<i@h>", disposition="inline"
            )
            made.add_attachment("<script>", subtype="html", filename='a"ä.html')
        store(tmp_path / "flow", f"{name}.eml", made, block("bob@h.example", ms=MOMENT + number * 1_000))
    async with served(tmp_path) as made_inbox:
        yield made_inbox


async def id_of(inbox: Served, subject: str) -> str:
    page = await inbox.get("/api/v1/messages")
    return next(str(one["ID"]) for one in page["messages"] if one["Subject"] == subject)


def files(inbox: Served) -> list[str]:
    return sorted(path.name for path in (inbox.root / "flow").iterdir())


class TestLists:
    async def test_the_newest_mail_comes_first_with_all_counts(self, inbox: Served) -> None:
        page = await inbox.get("/api/v1/messages", params={"limit": 2})
        rows = page.pop("messages")
        assert [one["Subject"] for one in rows] == ["Three", "Two"]
        assert page == {
            "total": 3,
            "unread": 3,
            "count": 2,
            "messages_count": 3,
            "messages_unread": 3,
            "start": 0,
            "tags": [],
        }
        assert set(rows[0]) == {
            *(
                "ID",
                "MessageID",
                "Read",
                "From",
                "To",
                "Cc",
                "Bcc",
                "ReplyTo",
                "Subject",
                "Created",
                "Username",
            ),
            *("Tags", "Size", "Attachments", "Snippet"),
        }

    @pytest.mark.parametrize(
        ("query", "subjects"),
        [
            ({"start": "1"}, ["Two", "One"]),
            ({"start": "9"}, []),
            ({"start": "-1", "limit": "x"}, ["Three", "Two", "One"]),
            ({"limit": "0"}, ["Three", "Two", "One"]),
            ({"before": str(MOMENT + 1_000)}, ["One"]),
        ],
    )
    async def test_pages(self, inbox: Served, query: dict[str, str], subjects: list[str]) -> None:
        page = await inbox.get("/api/v1/messages", params=query)
        assert [one["Subject"] for one in page["messages"]] == subjects

    async def test_a_search_counts_what_it_finds(self, inbox: Served) -> None:
        page = await inbox.get("/api/v1/search", params={"query": "T", "limit": 1})
        assert (page["total"], page["messages_count"], page["count"]) == (3, 3, 1)
        assert [one["Subject"] for one in page["messages"]] == ["Three"]

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    @pytest.mark.parametrize("query", ["", "  "])
    async def test_an_empty_search_is_an_error(self, inbox: Served, method: str, query: str) -> None:
        reply = await inbox.send(method, "/api/v1/search", params={"query": query})
        assert (reply.status_code, reply.text) == (400, "Error: no search query")
        assert len(files(inbox)) == 3


class TestOneMail:
    async def test_a_look_at_it_marks_it_as_read(self, inbox: Served) -> None:
        mail_id = await id_of(inbox, "One")
        assert (await inbox.get(f"/api/v1/message/{mail_id}"))["Subject"] == "One"
        page = await inbox.get("/api/v1/messages")
        assert [one["Subject"] for one in page["messages"] if one["Read"]] == ["One"]
        assert page["unread"] == 2

    async def test_latest_is_the_newest_or_the_newest_of_a_search(self, inbox: Served) -> None:
        assert (await inbox.get("/api/v1/message/latest"))["Subject"] == "Three"
        found = await inbox.get("/api/v1/message/latest", params={"query": "subject:one"})
        assert found["Subject"] == "One"
        reply = await inbox.client.get("/api/v1/message/latest", params={"query": "nothing"})
        assert (reply.status_code, reply.text) == (404, "Message not found")

    async def test_raw_is_the_file(self, inbox: Served) -> None:
        mail_id = await id_of(inbox, "One")
        reply = await inbox.client.get(f"/api/v1/message/{mail_id}/raw?dl=1")
        assert reply.content == (inbox.root / "flow" / "One.eml").read_bytes()
        assert reply.headers["content-disposition"] == f'attachment; filename="{mail_id}.eml"'

    async def test_parts_are_downloads_and_never_programs(self, inbox: Served) -> None:
        mail_id = await id_of(inbox, "Two")
        found = await inbox.get(f"/api/v1/message/{mail_id}")
        (html,) = found["Attachments"]
        reply = await inbox.client.get(f"/api/v1/message/{mail_id}/part/{html['PartID']}")
        assert reply.content.strip() == b"<script>"
        assert reply.headers["content-type"] == "application/octet-stream"
        assert reply.headers["content-disposition"].startswith("attachment; ")
        assert reply.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
        assert reply.headers["x-content-type-options"] == "nosniff"

    @pytest.mark.parametrize(
        "path", ["/x", "/x/raw", "/x/headers", "/x/links", "/latest/part/99", "/latest/part/1/thumb"]
    )
    async def test_what_is_not_there_is_404(self, inbox: Served, path: str) -> None:
        assert (await inbox.client.get(f"/api/v1/message{path}")).status_code == 404

    async def test_a_mail_whose_file_is_gone_is_404(self, inbox: Served) -> None:
        mail_id = await id_of(inbox, "One")
        (inbox.root / "flow" / "One.eml").unlink()
        for path in ("", "/raw", "/headers", "/links"):
            assert (await inbox.client.get(f"/api/v1/message/{mail_id}{path}")).status_code == 404

    async def test_a_mail_that_does_not_wait_is_delivered(self, inbox: Served) -> None:
        found = await inbox.get("/api/v1/message/latest/deliveries")
        delivered = {"Output": "file_0", "State": "delivered", "Reason": "", "Next": None}
        assert found == [{**delivered, "Sentence": "file_0 has the mail."}]

    @pytest.mark.parametrize("name", ["html-check", "link-check", "sa-check"])
    async def test_checks_that_would_ask_others_are_not_here(self, inbox: Served, name: str) -> None:
        reply = await inbox.client.get(f"/api/v1/message/latest/{name}")
        assert reply.status_code == 501
        assert "asks no other server" in reply.text

    async def test_view_shows_html_in_a_sandbox_with_the_mails_own_images(self, inbox: Served) -> None:
        reply = await inbox.client.get("/view/latest.html?query=subject:two")
        assert reply.status_code == 200
        assert reply.headers["content-security-policy"].startswith(
            "sandbox; default-src 'none'; img-src data:"
        )
        assert 'src="data:image/png;base64,' in reply.text
        reply = await inbox.client.get("/view/latest.html")
        assert (reply.status_code, reply.text) == (404, "This message does not contain a HTML part")
        assert (await inbox.client.get("/view/latest.txt")).text == "text of Three\n"

    @pytest.mark.parametrize(
        "path",
        [
            *(
                "/view/{}.html",
                "/view/{}.html?embed=1",
                "/view/{}.html?images=1",
                "/view/{}.txt",
                "/view/x.html",
            ),
            *(
                "/api/v1/message/{}" + each
                for each in ("", "/raw", "/headers", "/links", "/codes", "/part/9")
            ),
            *("/api/v1/messages", "/api/v1/search?query=", "/api/v1/search?query=two", "/api/v2/messages"),
        ],
    )
    async def test_all_that_is_made_from_a_mail_has_the_policy(self, inbox: Served, path: str) -> None:
        reply = await inbox.client.get(path.format(await id_of(inbox, "Two")))
        policy = reply.headers["content-security-policy"]
        popups = " allow-popups allow-popups-to-escape-sandbox" if "embed" in path else ""
        sources = "data: https: http:" if "images" in path else "data:"
        expected = f"sandbox{popups}; default-src 'none'; img-src {sources}; style-src 'unsafe-inline'"
        assert policy == expected
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert reply.headers["x-frame-options"] == "SAMEORIGIN"
        assert reply.headers["x-dns-prefetch-control"] == "off"

    async def test_view_latest_leads_to_the_newest(self, inbox: Served) -> None:
        reply = await inbox.client.get("/view/latest")
        assert (reply.status_code, reply.headers["location"]) == (302, f"/view/{await id_of(inbox, 'Three')}")


class TestDeleting:
    async def test_chosen_mails_lose_their_files(self, inbox: Served) -> None:
        chosen = [await id_of(inbox, name) for name in ("One", "Three")]
        reply = await inbox.send("DELETE", "/api/v1/messages", {"IDs": chosen})
        assert (reply.status_code, reply.text) == (200, "ok")
        assert files(inbox) == ["Two.eml"]
        assert await inbox.subjects() == ["Two"]

    @pytest.mark.parametrize("body", [None, {}, {"IDs": []}, {"IDs": None}])
    async def test_no_ids_delete_all(self, inbox: Served, body: Any) -> None:
        assert (await inbox.send("DELETE", "/api/v1/messages", body)).status_code == 200
        assert files(inbox) == []

    @pytest.mark.parametrize(
        "body",
        [
            b"{",
            b"[]",
            b'"x"',
            b"null",
            b'{"ids_": []}',
            b'{"IDs": "x"}',
            b'{"IDs": [1]}',
            b"\xff",
            b'{"IDs": ["a"], "Ids": ["b"]}',
            b"[" * 100_000,
        ],
    )
    async def test_a_body_that_is_not_understood_deletes_nothing(self, inbox: Served, body: bytes) -> None:
        reply = await inbox.client.request(
            "DELETE", "/api/v1/messages", content=body, headers={"content-type": "application/json"}
        )
        assert reply.status_code == 400
        assert len(files(inbox)) == 3

    @pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
    async def test_a_body_that_is_not_declared_as_json_deletes_nothing(
        self, inbox: Served, kind: str
    ) -> None:
        headers = {"content-type": kind} if kind else {}
        reply = await inbox.client.request("DELETE", "/api/v1/messages", content=b"{}", headers=headers)
        assert reply.status_code == 415
        assert len(files(inbox)) == 3

    async def test_a_search_deletes_what_it_finds(self, inbox: Served) -> None:
        reply = await inbox.send("DELETE", "/api/v1/search", params={"query": "subject:t"})
        assert reply.text == "ok"
        assert files(inbox) == ["One.eml"]

    @pytest.mark.parametrize("query", ["before:soon", "→", "subject:one before:never"])
    async def test_a_search_that_means_nothing_deletes_nothing(self, inbox: Served, query: str) -> None:
        reply = await inbox.send("DELETE", "/api/v1/search", params={"query": query})
        assert reply.status_code == 400
        assert len(files(inbox)) == 3

    async def test_unknown_ids_delete_nothing(self, inbox: Served) -> None:
        assert (await inbox.send("DELETE", "/api/v1/messages", {"IDs": ["x"]})).status_code == 200
        assert len(files(inbox)) == 3

    async def test_a_file_that_another_program_replaced_stays(self, inbox: Served) -> None:
        chosen = await id_of(inbox, "One")
        store(inbox.root / "flow", "One.eml", mail("Precious"))
        reply = await inbox.send("DELETE", "/api/v1/messages", {"IDs": [chosen]})
        assert reply.status_code == 409
        assert len(files(inbox)) == 3

    async def test_mailhogs_way_deletes_one(self, inbox: Served) -> None:
        assert (
            await inbox.send("DELETE", f"/api/v1/messages/{await id_of(inbox, 'One')}")
        ).status_code == 200
        assert files(inbox) == ["Three.eml", "Two.eml"]


class TestMarks:
    async def test_read_state_is_set_by_ids_by_search_or_for_all(self, inbox: Served) -> None:
        async def unread() -> int:
            return int((await inbox.get("/api/v1/messages"))["unread"])

        for body, left in (
            ({"IDs": [await id_of(inbox, "One")], "Read": True}, 2),
            ({"Search": "subject:two", "Read": True}, 1),
            ({"Read": True}, 0),
            ({"read": False}, 3),
        ):
            reply = await inbox.send("PUT", "/api/v1/messages", body)
            assert (reply.text, await unread()) == ("ok", left)

    async def test_ids_and_a_search_together_are_an_error(self, inbox: Served) -> None:
        reply = await inbox.send("PUT", "/api/v1/messages", {"IDs": ["x"], "Search": "y", "Read": True})
        assert reply.status_code == 400

    async def test_tags_are_set_listed_counted_renamed_and_deleted(self, inbox: Served) -> None:
        chosen = [await id_of(inbox, name) for name in ("One", "Two")]
        await inbox.send("PUT", "/api/v1/tags", {"IDs": chosen, "Tags": ["Big one", "red", "red", "<x>"]})
        assert await inbox.get("/api/v1/tags") == ["Big one", "red", "x"]
        assert await inbox.subjects("/api/v1/search?query=tag:%22big one%22") == ["Two", "One"]
        assert (await inbox.get("/api/v1/info"))["Tags"] == {"Big one": 2, "red": 2, "x": 2}
        assert (await inbox.send("PUT", "/api/v1/tags/Big one", {"Name": "Small"})).text == "ok"
        assert (await inbox.send("DELETE", "/api/v1/tags/red")).text == "ok"
        assert (await inbox.send("DELETE", "/api/v1/tags/red")).status_code == 400
        assert await inbox.get("/api/v1/tags") == ["Small", "x"]
        await inbox.send("PUT", "/api/v1/tags", {"IDs": chosen, "Tags": []})
        assert await inbox.get("/api/v1/tags") == []


class TestOthers:
    async def test_info_asks_no_other_server(self, inbox: Served) -> None:
        found = await inbox.get("/api/v1/info")
        assert (found["Messages"], found["Unread"], found["LatestVersion"]) == (3, 3, "disabled")

    async def test_what_is_off_says_so(self, inbox: Served) -> None:
        assert (await inbox.client.get("/api/v1/chaos")).status_code == 400
        reply = await inbox.send("POST", "/api/v1/send", {})
        assert (reply.status_code, list(reply.json())) == (403, ["Error"])
        assert (await inbox.send("POST", "/api/v1/message/latest/release", {})).status_code == 403

    @pytest.mark.parametrize("path", ["/livez", "/readyz"])
    async def test_probes(self, inbox: Served, path: str) -> None:
        assert (await inbox.client.get(path)).text == "ok"

    async def test_mailhogs_lists(self, inbox: Served) -> None:
        found = await inbox.get("/api/v2/search", params={"kind": "containing", "query": "of One"})
        assert found["total"] == 1
        assert found["items"][0]["Content"]["Headers"]["Subject"] == ["One"]
        assert found["items"][0]["To"][0]["Mailbox"] == "bob"
        assert (await inbox.get("/api/v2/messages"))["total"] == 3

    async def test_a_path_prefix_moves_everything(self, tmp_path: Path) -> None:
        store(tmp_path / "flow", "a.eml", mail("One"))
        async with served(tmp_path, path="/mail") as behind:
            assert await behind.subjects("/mail/api/v1/messages") == ["One"]
            assert (await behind.client.get("/api/v1/messages")).status_code == 404
            location = (await behind.client.get("/mail/view/latest")).headers["location"]
            assert location.startswith("/mail/view/")

    async def test_a_failure_is_logged_and_told_without_details(
        self, inbox: Served, caplog: pytest.LogCaptureFixture
    ) -> None:
        inbox.index.close()
        reply = await inbox.client.get("/api/v1/messages")
        assert (reply.status_code, reply.text) == (500, "the server failed; its log tells why")
        assert "the inbox failed at /api/v1/messages" in caplog.text


class TestWaiting:
    async def test_a_mail_that_is_there_is_the_answer(self, inbox: Served) -> None:
        found = await inbox.get("/api/v1/wait", params={"query": "subject:o", "timeout": "0"})
        assert found["Subject"] == "One"
        since = {"query": "subject:o", "since": str(MOMENT + 500), "timeout": "0"}
        assert (await inbox.get("/api/v1/wait", params=since))["Subject"] == "Two"

    async def test_a_mail_that_comes_later_is_the_answer(self, inbox: Served) -> None:
        waiting = asyncio.ensure_future(inbox.get("/api/v1/wait", params={"query": "subject:late"}))
        while not inbox.hub._watchers:
            await asyncio.sleep(0)
        store(inbox.root / "flow", "other.eml", mail("Other"))
        await inbox.look()
        store(inbox.root / "flow", "late.eml", mail("Late"))
        await inbox.look()
        assert (await waiting)["Subject"] == "Late"
        assert not inbox.hub._watchers

    async def test_none_within_the_time_is_408(self, inbox: Served) -> None:
        reply = await inbox.client.get("/api/v1/wait?query=nothing&timeout=0.05")
        assert (reply.status_code, reply.text) == (408, "no such mail within 0.05 seconds")

    @pytest.mark.parametrize("query", ["timeout=x", "timeout=-1", "timeout=999", "timeout=nan", "since=soon"])
    async def test_nonsense_is_an_error(self, inbox: Served, query: str) -> None:
        assert (await inbox.client.get(f"/api/v1/wait?query=x&{query}")).status_code == 400


class TestInboxes:
    async def test_a_path_of_one_inbox_has_the_same_api_for_it_alone(self, tmp_path: Path) -> None:
        for flow in ("a", "b"):
            store(tmp_path / flow, "x.eml", mail(f"of {flow}"))
        async with served(tmp_path, "a", "b") as both:
            assert await both.get("/api/v1/inboxes") == ["a", "b"]
            assert sorted(await both.subjects()) == ["of a", "of b"]
            assert await both.subjects("/inbox/a/api/v1/messages") == ["of a"]
            assert (await both.get("/inbox/b/api/v1/message/latest"))["Subject"] == "of b"
            assert (
                (await both.client.get("/inbox/a/view/latest"))
                .headers["location"]
                .startswith("/inbox/a/view/")
            )
            assert (await both.send("DELETE", "/inbox/a/api/v1/messages")).status_code == 200
            assert await both.subjects() == ["of b"]

    async def test_a_user_sees_nothing_of_another_inbox_on_any_path(self, tmp_path: Path) -> None:
        canary = "kanarienvogel"
        hidden = mail(
            canary, f"{canary}\n", From=f"{canary}@h.example", Message_ID=f"<{canary}@h>", X_Tags=canary
        )
        hidden.add_attachment(b"x", maintype="a", subtype="b", filename=canary)
        store(tmp_path / "b", f"{canary}.eml", hidden, block(f"{canary}@h.example", user=canary))
        store(tmp_path / "a", "own.eml", mail("own", X_Tags="mine"))
        users = {
            "ann": {"password": "plain:pw", "inboxes": ["a"], "rights": ["delete"]},
            "root": {"password": "plain:pw"},
        }
        async with served(tmp_path, "a", "b", users=users) as both:
            root = (await both.client.get("/api/v1/messages", auth=("root", "pw"))).json()
            both.client.cookies.clear()
            there = next(one["ID"] for one in root["messages"] if one["Subject"] == canary)
            mail_id = next(row.mail_id for row in _rows(both) if row.id == there)
            paths = [
                *("/api/v1/messages", "/api/v1/tags", "/api/v1/info", "/api/v1/inboxes", "/api/v1/webui"),
                *("/api/v2/messages", f"/api/v2/search?kind=from&query={canary}"),
                *(f"/api/v1/search?query={canary}", f"/api/v1/search?query=tag:{canary}", "/view/latest"),
                *("/api/v1/message/latest", f"/api/v1/message/latest?query={canary}", "/view/latest.txt"),
                f"/api/v1/wait?query={canary}&timeout=0.01",
                *(f"/inbox/b/api/v1/{name}" for name in ("messages", "tags", "info", "message/latest")),
                *(
                    f"/api/v1/message/{one}{rest}"
                    for one in (there, mail_id)
                    for rest in ("", "/raw", "/headers")
                ),
                *(f"/view/{one}.{kind}" for one in (there, mail_id) for kind in ("txt", "html")),
            ]
            for path in paths:
                reply = await both.client.get(path, auth=("ann", "pw"))
                assert canary not in reply.text + str(reply.headers), path
                assert there not in reply.text, path
            for method, path, body in (
                ("DELETE", "/api/v1/messages", {"IDs": [there]}),
                ("DELETE", f"/api/v1/messages/{there}", None),
                ("DELETE", f"/api/v1/search?query={canary}", None),
                ("PUT", "/api/v1/messages", {"IDs": [there], "Read": True}),
                ("PUT", "/api/v1/tags", {"IDs": [there], "Tags": ["x"]}),
                ("DELETE", f"/api/v1/tags/{canary}", None),
                ("DELETE", "/inbox/b/api/v1/messages", None),
                ("DELETE", "/api/v1/messages", None),
            ):
                await both.send(method, path, body, auth=("ann", "pw"))
            both.client.cookies.clear()
            after = (await both.client.get("/api/v1/messages", auth=("root", "pw"))).json()["messages"]
            assert after == [one for one in root["messages"] if one["ID"] == there]

    async def test_events_of_another_inbox_are_not_told(self, tmp_path: Path) -> None:
        async with served(tmp_path, "a", "b") as both:
            from listener.inbox.mailbox import Mailbox
            from listener.inbox.web.live import _message

            told: list[Any] = []
            with both.hub.watch(lambda _: True) as watcher:
                store(tmp_path / "b", "x.eml", mail("hidden"))
                await both.look()
                store(tmp_path / "a", "x.eml", mail("own"))
                await both.look()
                box = Mailbox(both.index, frozenset({"a"}))
                async for event in events_of(watcher):
                    told.append(await _message(both.server, box, event))
                    if event.kind == "stats":
                        break
            assert "hidden" not in json.dumps(told)
            assert [one["Type"] for one in told if one] == ["new", "stats"]
            assert told[-1]["Data"] == {"Total": 1, "Unread": 1}


def _rows(both: Served) -> list[Any]:
    from listener.inbox.mailbox import Mailbox

    return list(Mailbox(both.index, None).rows())
