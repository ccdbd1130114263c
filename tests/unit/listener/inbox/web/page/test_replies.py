"""The page and its files over HTTP."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from listener.inbox.page.files import POLICY
from tests.support.inbox.mails import mail, store
from tests.support.inbox.served import served


@pytest.mark.parametrize("prefix", ["", "/a/b"])
@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/", "./"),
        ("/search?q=x", "./"),
        ("/view/abc", "../"),
        ("/inbox/flow/", "../../"),
        ("/inbox/flow/search", "../../"),
        ("/inbox/flow/view/abc", "../../../"),
    ],
)
async def test_the_page_finds_its_files_from_every_address(
    tmp_path: Path, prefix: str, path: str, root: str
) -> None:
    async with served(tmp_path, path=prefix) as made:
        reply = await made.client.get(prefix + path)
        assert reply.status_code == 200
        assert reply.headers["content-type"] == "text/html; charset=utf-8"
        assert reply.headers["content-security-policy"] == POLICY
        found = re.findall(r'(?:src|href)="([^"#]+)"', reply.text)
        assert len(found) > 5
        assert all(one.startswith(root) for one in found)
        script = next(one for one in found if one.endswith("main.js"))
        assert (await made.client.get(reply.url.join(script))).status_code == 200


async def test_a_browser_keeps_the_files_and_asks_again_for_the_page(tmp_path: Path) -> None:
    async with served(tmp_path) as made:
        page = await made.client.get("/")
        assert page.headers["cache-control"] == "private, no-cache"
        again = await made.client.get("/", headers={"If-None-Match": page.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        (script,) = re.findall(r'src="\.(/page/\w+/main\.js)"', page.text)
        file = await made.client.get(script)
        assert file.headers["content-type"] == "text/javascript; charset=utf-8"
        assert "immutable" in file.headers["cache-control"]
        assert file.headers["x-content-type-options"] == "nosniff"
        again = await made.client.get(script, headers={"If-None-Match": file.headers["etag"]})
        assert again.status_code == 304
        for other in (
            script.replace("main.js", "files.py"),
            "/page/old/main.js",
            script.replace("main.js", "index.html"),
        ):
            assert (await made.client.get(other)).status_code == 404


async def test_what_the_page_asks_for_of_one_mail(tmp_path: Path) -> None:
    made_mail = mail("Code 4711", "https://app.example/x\n")
    made_mail.add_attachment(b"abc", maintype="application", subtype="pdf", filename="a.pdf")
    store(tmp_path / "flow", "one.eml", made_mail)
    async with served(tmp_path) as made:
        (one,) = (await made.get("/api/v1/messages"))["messages"]
        found = await made.get(f"/api/v1/message/{one['ID']}/about")
        assert found["Inbox"] == "flow"
        assert found["Envelope"] == {
            "ReversePath": "env@h.example",
            "Recipients": ["bob@h.example"],
            "User": "",
            "Client": "[127.0.0.1]",
            "Helo": "here",
        }
        assert (found["Codes"], found["Links"]) == (["4711"], ["https://app.example/x"])
        assert [(leaf["PartID"], leaf["Above"], leaf["ContentType"]) for leaf in found["Structure"]] == [
            ("1", ["multipart/mixed"], "text/plain"),
            ("2", ["multipart/mixed"], "application/pdf"),
        ]
        assert found["Structure"][1]["Size"] == 3
        assert (await made.get("/api/v1/messages"))["unread"] == 1


async def test_highlights_tell_of_the_inbox_of_the_path_alone(tmp_path: Path) -> None:
    store(tmp_path / "red", "one.eml", mail("Code 4711"))
    store(tmp_path / "blue", "two.eml", mail("Code 5822"))
    async with served(tmp_path, "red", "blue") as made:
        ids = {one["Subject"]: one["ID"] for one in (await made.get("/api/v1/messages"))["messages"]}
        every = ",".join(ids.values())
        found = await made.get(f"/api/v1/highlights?ids={every}")
        assert found[ids["Code 5822"]] == {"Inbox": "blue", "Codes": ["5822"], "Links": []}
        assert set(found) == set(ids.values())
        assert set(await made.get(f"/inbox/red/api/v1/highlights?ids={every}")) == {ids["Code 4711"]}
        assert await made.get("/api/v1/highlights") == {}
