"""Mailpit's API as its documents record it: fields and types, methods, states, texts, and events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from listener.inbox.events import Event
from listener.inbox.mailbox import Mailbox
from listener.inbox.web.live import _message
from tests.support.inbox.mails import MOMENT, block, mail, store
from tests.support.inbox.recorded import API, MAILS, mismatches, recorded
from tests.support.inbox.served import Served, events_of, served

SECOND = 1_000


@pytest.fixture
async def inbox(tmp_path: Path) -> AsyncIterator[Served]:
    """Four mails, one each second; the last is the newest."""
    for number, name in enumerate(["One", "Two", "Three", "Four"]):
        store(
            tmp_path / "flow", f"{name}.eml", mail(name), block("bob@h.example", ms=MOMENT + number * SECOND)
        )
    async with served(tmp_path) as made:
        yield made


async def ids(inbox: Served) -> dict[str, str]:
    return {one["Subject"]: one["ID"] for one in (await inbox.get("/api/v1/messages"))["messages"]}


def files(inbox: Served) -> list[str]:
    return sorted(path.stem for path in (inbox.root / "flow").iterdir())


class TestTypes:
    async def test_every_answer_has_exactly_the_fields_and_types_of_mailpits(self, tmp_path: Path) -> None:
        for name in MAILS:
            recorded(name).place(tmp_path / "flow")
        async with served(tmp_path) as inbox:
            page = await inbox.get("/api/v1/messages", params={"limit": 0})
            assert len(page["messages"]) == len(MAILS)
            for route, kind in API["routes"].items():
                path = route.removeprefix("GET ")
                chosen = [one["ID"] for one in page["messages"]] if "{ID}" in path else [""]
                for mail_id in chosen:
                    found = await inbox.get(path.replace("{ID}", mail_id), params={"query": "a"})
                    assert mismatches(found, kind, f"{path} {mail_id}") == []

    @pytest.mark.parametrize(("kind", "fields"), API["types"].items())
    def test_the_recorded_examples_are_of_their_types(self, kind: str, fields: dict[str, Any]) -> None:
        plain = {name: one for name, (of, one) in fields.items() if not (one == {} and of in API["types"])}
        wrong = mismatches(plain, kind)
        assert [one for one in wrong if not one.endswith("missing") and "is no moment" not in one] == []

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ({"ID": 1}, "Deleted"),
            ({}, "Deleted"),
            ({"ID": "a", "More": 1}, "Deleted"),
            ({"Total": True, "Unread": 0}, "Stats"),
            ({"Total": 1.0, "Unread": 0}, "Stats"),
            (None, "[]string"),
            ([None], "[]string"),
            ({"a": "b"}, "map[string][]string"),
            ("2026-01-01", "moment"),
            ("2026-01-01T00:00:00.120Z", "moment"),
        ],
    )
    def test_the_comparison_sees_what_differs(self, value: Any, kind: str) -> None:
        assert mismatches(value, kind)


class TestMoments:
    @pytest.mark.parametrize("path", ["/api/v1/messages", "/api/v1/search"])
    @pytest.mark.parametrize(
        ("bounds", "subjects"),
        [
            ({"before": MOMENT + 2 * SECOND}, ["Two", "One"]),
            ({"since": MOMENT + 2 * SECOND}, ["Four", "Three"]),
            ({"until": MOMENT + 2 * SECOND}, ["Three", "Two", "One"]),
            ({"since": MOMENT + SECOND, "until": MOMENT + 2 * SECOND}, ["Three", "Two"]),
            ({"since": MOMENT // 1_000 + 3}, ["Four"]),
            ({"since": "2026-01-01T00:00:03Z"}, ["Four"]),
            ({"since": "2026-01-01 13:00:03", "tz": "Pacific/Auckland"}, ["Four"]),
            ({"before": "never", "since": "", "until": "x"}, ["Four", "Three", "Two", "One"]),
            ({"start": 1, "limit": 2}, ["Three", "Two"]),
            ({"start": 3, "limit": "many"}, ["One"]),
        ],
    )
    async def test_lists_between_moments(
        self, inbox: Served, path: str, bounds: dict[str, Any], subjects: list[str]
    ) -> None:
        page = await inbox.get(path, params={**bounds, "query": "ann"})
        assert [one["Subject"] for one in page["messages"]] == subjects
        assert (page["total"], page["count"]) == (4, len(subjects))


class TestStates:
    @pytest.mark.parametrize(
        ("method", "path", "status", "text"),
        [
            ("GET", "/api/v1/search", 400, "Error: no search query"),
            ("DELETE", "/api/v1/search?query=%20", 400, "Error: no search query"),
            ("GET", "/api/v1/message/unknown", 404, "404 page not found"),
            ("GET", "/api/v1/message/unknown/raw", 404, "404 page not found"),
            ("GET", "/api/v1/message/unknown/headers", 404, "404 page not found"),
            ("GET", "/api/v1/message/latest/part/9", 404, "404 page not found"),
            ("GET", "/api/v1/message/latest?query=nothing-has-this", 404, "Message not found"),
            ("GET", "/api/v1/message/latest/raw?query=nothing-has-this", 404, "Message not found"),
            ("DELETE", "/api/v1/tags/none", 400, "tag not found: none"),
            ("GET", "/api/v1/chaos", 400, "Chaos is not enabled"),
            ("GET", "/livez", 200, "ok"),
            ("GET", "/readyz", 200, "ok"),
            ("OPTIONS", "/api/v1/messages", 200, ""),
            ("OPTIONS", "/api/v1/message/latest", 200, ""),
            ("HEAD", "/api/v1/messages", 200, ""),
            ("HEAD", "/api/v1/message/latest/raw", 200, ""),
            ("POST", "/api/v1/messages", 405, "Method Not Allowed"),
            ("DELETE", "/api/v1/info", 405, "Method Not Allowed"),
            ("GET", "/api/v1/nothing", 404, "404 page not found"),
        ],
    )
    async def test_states_and_texts(
        self, inbox: Served, method: str, path: str, status: int, text: str
    ) -> None:
        reply = await inbox.client.request(method, path)
        assert (reply.status_code, reply.text) == (status, text)
        assert len(files(inbox)) == 4

    async def test_changes_answer_ok_as_text_and_answers_are_json(self, inbox: Served) -> None:
        reply = await inbox.send("PUT", "/api/v1/messages", {"Read": True})
        assert (reply.text, reply.headers["content-type"].partition(";")[0]) == ("ok", "text/plain")
        reply = await inbox.client.get("/api/v1/tags")
        assert (reply.content, reply.headers["content-type"]) == (b"[]\n", "application/json")

    async def test_a_mail_that_is_asked_for_is_read_and_latest_by_a_query_too(self, inbox: Served) -> None:
        await inbox.get("/api/v1/message/latest", params={"query": "subject:two"})
        await inbox.get("/api/v1/message/latest/headers", params={"query": "subject:one"})
        page = await inbox.get("/api/v1/messages")
        assert [one["Subject"] for one in page["messages"] if one["Read"]] == ["Two"]

    async def test_a_pdf_keeps_its_type_as_a_download(self, tmp_path: Path) -> None:
        recorded("mixed").place(tmp_path / "flow")
        async with served(tmp_path) as inbox:
            reply = await inbox.client.get("/api/v1/message/latest/part/2")
            assert reply.headers["content-type"] == "application/pdf"
            assert reply.headers["content-disposition"].startswith("attachment; ")

    async def test_all_of_an_empty_inbox_is_empty_and_no_null(self, tmp_path: Path) -> None:
        async with served(tmp_path) as inbox:
            page = await inbox.get("/api/v1/messages")
            assert (page["messages"], page["tags"], page["total"]) == ([], [], 0)
            assert (await inbox.client.get("/view/latest")).status_code == 302


class TestBodies:
    @pytest.mark.parametrize("path", ["/api/v1/messages", "/api/v1/tags", "/api/v1/tags/x"])
    async def test_a_change_without_a_body_changes_nothing(self, inbox: Served, path: str) -> None:
        await inbox.send("PUT", "/api/v1/messages", {"Read": True})
        assert (await inbox.client.put(path)).status_code == 400
        assert (await inbox.get("/api/v1/messages"))["unread"] == 0

    @pytest.mark.parametrize(
        "body",
        [
            b'{"IDs": null, "IDs": ["x"]}',
            b'{"IDs": [], "IDs": []}',
            b'{"IDs": [["x"]]}',
            b'{"IDs": {"0": "x"}}',
            b'{"IDs": [null]}',
            b'{"Search": "two"}',
            b'{"IDs": [], "Read": true}',
            b"{} {}",
            b"{}x",
            b'[{"IDs": []}]',
            b"0",
            b"NaN",
            b'{"IDs": NaN}',
            b"{'IDs': []}",
        ],
    )
    async def test_a_delete_with_a_body_that_means_something_else_deletes_nothing(
        self, inbox: Served, body: bytes
    ) -> None:
        kind = {"content-type": "application/json"}
        reply = await inbox.client.request("DELETE", "/api/v1/messages", content=body, headers=kind)
        assert reply.status_code == 400
        assert len(files(inbox)) == 4

    async def test_ids_of_which_some_are_unknown_delete_the_known(self, inbox: Served) -> None:
        chosen = (await ids(inbox))["Two"]
        assert (await inbox.send("DELETE", "/api/v1/messages", {"IDs": [chosen, "x", chosen]})).text == "ok"
        assert files(inbox) == ["Four", "One", "Three"]

    @pytest.mark.parametrize(
        ("query", "left"),
        [
            ("subject:two", ["Four", "One", "Three"]),
            ("-subject:two", ["Two"]),
            ("subject:t", ["Four", "One"]),
            ('"subject:t" !subject:two', ["Four", "One", "Two"]),
            ("nothing-has-this", ["Four", "One", "Three", "Two"]),
        ],
    )
    async def test_a_search_deletes_what_it_finds_and_no_more(
        self, inbox: Served, query: str, left: list[str]
    ) -> None:
        assert (await inbox.send("DELETE", "/api/v1/search", params={"query": query})).text == "ok"
        assert files(inbox) == left


class TestTags:
    async def test_a_tag_takes_no_name_of_another_and_may_change_its_case(self, inbox: Served) -> None:
        chosen = await ids(inbox)
        for name, tags in (("One", ["red", "Blue"]), ("Two", ["RED"])):
            await inbox.send("PUT", "/api/v1/tags", {"IDs": [chosen[name]], "Tags": tags})
        assert await inbox.get("/api/v1/tags") == ["Blue", "red"]
        for name, status, text in (
            ("blue", 400, "tag already exists: blue"),
            ("<>", 400, "invalid tag name: "),
            ("RED", 200, "ok"),
            ("Dark  red", 200, "ok"),
        ):
            reply = await inbox.send(
                "PUT", "/api/v1/tags/red" if name != "Dark  red" else "/api/v1/tags/RED", {"Name": name}
            )
            assert (reply.status_code, reply.text) == (status, text)
        assert (await inbox.get("/api/v1/info"))["Tags"] == {"Blue": 1, "Dark red": 2}
        reply = await inbox.send("PUT", "/api/v1/tags/red", {"Name": "x"})
        assert (reply.status_code, reply.text) == (400, "tag not found: red")

    async def test_a_tag_with_a_slash_or_blanks_in_its_path_is_found(self, inbox: Served) -> None:
        chosen = list((await ids(inbox)).values())
        await inbox.send("PUT", "/api/v1/tags", {"IDs": chosen, "Tags": ["Two words", "a.b-c_d@e"]})
        assert (await inbox.client.delete("/api/v1/tags/Two%20words")).text == "ok"
        assert (await inbox.client.delete("/api/v1/tags/a.b-c_d%40e")).text == "ok"
        assert (await inbox.client.delete("/api/v1/tags/a%2Fb")).status_code == 400
        assert await inbox.get("/api/v1/tags") == []


class TestEvents:
    async def told(self, inbox: Served, *changes: tuple[str, str, Any]) -> list[dict[str, Any]]:
        """The events up to the new totals that these requests lead to."""
        found: list[dict[str, Any]] = []
        box = Mailbox(inbox.index, None)
        with inbox.hub.watch(lambda _: True) as watcher:
            for method, path, body in changes:
                assert (await inbox.send(method, path, body)).status_code == 200
            async for event in events_of(watcher):
                message = await _message(inbox.server, box, event)
                assert message is not None
                assert mismatches(message["Data"], API["events"][message["Type"]]) == []
                found.append(json.loads(json.dumps(message)))
                if event.kind == "stats":
                    break
        return found

    async def test_marks_and_tags_are_updates_of_each_mail(self, inbox: Served) -> None:
        chosen = await ids(inbox)
        one, two = chosen["One"], chosen["Two"]
        events = await self.told(
            inbox,
            ("PUT", "/api/v1/messages", {"IDs": [one, two], "Read": True}),
            ("PUT", "/api/v1/messages", {"IDs": [one], "Read": True}),
            ("PUT", "/api/v1/tags", {"IDs": [two], "Tags": ["red", "<>"]}),
        )
        assert [each["Type"] for each in events] == ["update", "update", "update", "stats"]
        assert sorted(json.dumps(each["Data"]) for each in events[:2]) == sorted(
            json.dumps({"ID": each, "Read": True}) for each in (one, two)
        )
        assert events[2]["Data"] == {"ID": two, "Tags": ["red"]}
        assert events[3]["Data"] == {"Total": 4, "Unread": 2}

    async def test_chosen_mails_are_deleted_one_by_one_and_all_at_once(self, inbox: Served) -> None:
        chosen = await ids(inbox)
        gone = [chosen["One"], chosen["Three"]]
        events = await self.told(inbox, ("DELETE", "/api/v1/messages", {"IDs": gone}))
        assert [each["Type"] for each in events] == ["delete", "delete", "stats"]
        assert sorted(each["Data"]["ID"] for each in events[:2]) == sorted(gone)
        events = await self.told(inbox, ("DELETE", "/api/v1/messages", None))
        assert events == [
            {"Type": "truncate", "Data": None},
            {"Type": "stats", "Data": {"Total": 0, "Unread": 0}},
        ]

    async def test_a_renamed_tag_is_a_reason_to_read_the_list_again(self, inbox: Served) -> None:
        chosen = list((await ids(inbox)).values())
        await inbox.send("PUT", "/api/v1/tags", {"IDs": chosen, "Tags": ["red"]})
        await asyncio.sleep(0)
        events = await self.told(inbox, ("PUT", "/api/v1/tags/red", {"Name": "blue"}))
        assert {"Type": "prune", "Data": None} in events

    async def test_one_emptied_inbox_is_not_told_as_all_to_those_who_see_more(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            store(tmp_path / name, f"{name}.eml", mail(name))
        async with served(tmp_path, "a", "b") as both:
            await both.send("DELETE", "/inbox/a/api/v1/messages")
            event = Event("truncate", "a")
            for seen, kind in ((None, "prune"), (frozenset({"a"}), "truncate")):
                message = await _message(both.server, Mailbox(both.index, seen), event)
                assert message == {"Type": kind, "Data": None}
            assert await _message(both.server, Mailbox(both.index, frozenset({"b"})), event) is None


class TestMailHog:
    async def test_lists_searches_and_deletes(self, inbox: Served) -> None:
        page = await inbox.get("/api/v2/messages", params={"start": 1, "limit": 2})
        assert (page["total"], page["count"], page["start"]) == (4, 2, 1)
        assert [one["Content"]["Headers"]["Subject"] for one in page["items"]] == [["Three"], ["Two"]]
        first = page["items"][0]
        assert set(first) == {"ID", "From", "To", "Content", "Created", "MIME", "Raw"}
        assert first["From"] == {"Relays": None, "Mailbox": "env", "Domain": "h.example", "Params": ""}
        for kind, query, count in (
            ("from", "ann@h.example", 4),
            ("to", "bob", 4),
            ("to", "ann", 0),
            ("containing", "Three", 1),
            ("containing", "How are", 4),
        ):
            found = await inbox.get("/api/v2/search", params={"kind": kind, "query": query})
            assert (found["total"], len(found["items"])) == (count, count)
        assert (await inbox.client.delete(f"/api/v1/messages/{first['ID']}")).status_code == 200
        assert files(inbox) == ["Four", "One", "Two"]
        assert (await inbox.client.delete(f"/api/v1/messages/{first['ID']}")).status_code == 404
        assert (await inbox.client.delete("/api/v1/messages")).status_code == 200
        assert files(inbox) == []

    @pytest.mark.parametrize("query", ["", "kind=other&query=x", "kind=to&query=", "kind=to"])
    async def test_a_search_without_sense_is_an_error(self, inbox: Served, query: str) -> None:
        assert (await inbox.client.get(f"/api/v2/search?{query}")).status_code == 400
