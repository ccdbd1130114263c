"""Clients that were written for Mailpit, on our inbox. After each call the folder holds what it has to."""

from __future__ import annotations

import base64
import importlib
import os
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.setup import CLIENTS
from tests.support.inbox.client import PATIENCE, InboxClient, address_of, with_inbox
from tests.support.inbox.mails import mail
from tests.support.inbox.node import NodeClient, RefusedError
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay

PDF: Final = b"%PDF-1.4 a paper"
TAGGED: Final = "news@h.example"


class Folder:
    """The folder of a relay's mails, and what has to be in it."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.address = address_of(relay)
        self.expected: dict[str, bytes] = {}
        self.ids: dict[str, str] = {}
        self.calls = 0

    def content(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.relay.received.iterdir()}

    def send(self, made: EmailMessage, *recipients: str) -> None:
        """Send a mail over SMTP, and wait until the inbox shows it."""
        with smtplib.SMTP(HOST, self.relay.port) as client:
            client.send_message(made, "env@h.example", recipients or ("bob@h.example",))
        with InboxClient(self.relay) as inbox:
            wait_until(
                lambda: len(inbox.page()["messages"]) == len(self.expected) + 1,
                seconds=PATIENCE,
                what="the mail in the list",
            )
            self.ids = {one["Subject"]: one["ID"] for one in inbox.page()["messages"]}
        self.expected = self.content()

    def check(self, *gone: str) -> None:
        """The folder is as before, without the mails of these subjects. A call was done."""
        self.calls += 1
        for subject in gone:
            (name,) = (
                each for each, data in self.expected.items() if f"Subject: {subject}\r".encode() in data
            )
            del self.expected[name]
        assert self.content() == self.expected


@pytest.fixture
def folder(new_relay: Callable[..., Relay]) -> Folder:
    """Four mails: one with text alone, one with HTML, an image and a paper, one with a tag, one more."""
    relay = new_relay(with_inbox()).start()
    made = Folder(relay)
    with InboxClient(relay) as inbox:
        inbox.wait_for()
    rich = mail(
        "Rich", "plain words\n", Message_ID="<rich@h.example>", Date="Mon, 05 Jan 2026 10:00:00 +0100"
    )
    rich.add_alternative('<p>marked words</p><img src="cid:i@h">', subtype="html")
    rich.add_attachment(PDF, maintype="application", subtype="pdf", filename="paper.pdf")
    made.send(mail("Plain", "How are you?\n"))
    made.send(rich, "bob@h.example", "hidden@h.example")
    made.send(mail("Tagged", X_Tags="red"), TAGGED)
    made.send(mail("Last"))
    return made


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Python's clients, importable."""
    if not (CLIENTS / "requirements.txt").exists():
        pytest.skip("Python's clients of Mailpit are missing (`make test` installs them)")
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(CLIENTS))
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mailpit", "pytest_mailpit", "dataclasses_json", "marshmallow"):
            del sys.modules[name]


def subjects(page: dict[str, Any]) -> list[str]:
    return [one["Subject"] for one in page["messages"]]


class TestNpm:
    """npm's `mailpit-api`."""

    def test_reading(self, folder: Folder) -> None:
        rich = folder.ids["Rich"]
        with NodeClient(folder.address) as client:

            def call(name: str, *values: Any) -> Any:
                found = client.call(name, *values)
                folder.check()
                return found

            def refused(name: str, *values: Any) -> str:
                with pytest.raises(RefusedError) as error:
                    client.call(name, *values)
                folder.check()
                return str(error.value)

            assert call("getInfo")["Messages"] == 4
            assert call("getConfiguration")["SpamAssassin"] is False
            assert subjects(call("listMessages")) == ["Last", "Tagged", "Rich", "Plain"]
            assert subjects(call("listMessages", 1, 2)) == ["Tagged", "Rich"]
            assert call("listMessages", 9)["messages"] == []
            assert subjects(call("searchMessages", {"query": "words has:attachment"})) == ["Rich"]
            assert subjects(call("searchMessages", {"query": "to:bob", "start": 1, "limit": 1})) == ["Tagged"]
            found = call("searchMessages", {"query": "after:2020-01-01", "tz": "Pacific/Auckland"})
            assert (found["messages_count"], found["unread"]) == (4, 4)
            assert subjects(call("searchMessages", {"query": "bcc:hidden"})) == ["Rich"]
            assert "400" in refused("searchMessages", {"query": ""})
            message = call("getMessageSummary", rich)
            assert (message["Text"], message["Bcc"][0]["Address"]) == ("plain words\n", "hidden@h.example")
            assert (message["MessageID"], message["Date"]) == ("rich@h.example", "2026-01-05T10:00:00+01:00")
            assert call("getMessageSummary")["Subject"] == "Last"
            assert "404" in refused("getMessageSummary", "unknown")
            assert call("listMessages")["unread"] == 2
            assert call("getMessageHeaders", rich)["Message-Id"] == ["<rich@h.example>"]
            assert call("getMessageHeaders")["Subject"] == ["Last"]
            (paper,) = message["Attachments"]
            blob = call("getMessageAttachment", rich, paper["PartID"])
            assert (blob["type"], base64.b64decode(blob["base64"])) == ("application/pdf", PDF)
            assert "404" in refused("getMessageAttachment", rich, "9")
            assert "404" in refused("getAttachmentThumbnail", rich, paper["PartID"])
            assert call("getMessageSource", rich).encode() in folder.expected.values()
            assert "Subject: Last" in call("getMessageSource")
            assert "<p>marked words</p>" in call("renderMessageHTML", rich)
            assert "marked words" in call("renderMessageHTML", rich, 1)
            assert "404" in refused("renderMessageHTML")
            assert call("renderMessageText", rich) == "plain words\n"
            assert call("renderMessageText") == "How are you?\n"
            for name in ("htmlCheck", "linkCheck", "spamAssassinCheck"):
                assert "501" in refused(name, rich)
            for name in ("getChaosTriggers", "setChaosTriggers"):
                assert "400" in refused(name)
            assert "403" in refused("releaseMessage", rich, {"To": ["x@h.example"]})
            assert "403" in refused(
                "sendMessage", {"From": {"Email": "a@h.example"}, "To": [{"Email": "b@h"}]}
            )
            assert call("waitForMessage", {"query": "subject:plain"})["Subject"] == "Plain"
            assert len(call("waitForMessages", {"query": "to:bob", "count": 4})["messages"]) == 4
        assert folder.calls >= 30

    def test_changing(self, folder: Folder) -> None:
        ids = folder.ids
        with NodeClient(folder.address) as client:

            def change(name: str, *values: Any, gone: tuple[str, ...] = ()) -> None:
                assert client.call(name, *values) == "ok"
                folder.check(*gone)

            def unread() -> list[str]:
                page = client.call("listMessages")
                return [one["Subject"] for one in page["messages"] if not one["Read"]]

            change("setReadStatus", {"Read": True, "IDs": [ids["Plain"], ids["Last"]]})
            assert unread() == ["Tagged", "Rich"]
            change("setReadStatus", {"Read": True, "Search": "tag:red"})
            assert unread() == ["Rich"]
            change("setReadStatus", {"Read": False, "Search": "before:2020-01-01"}, {"tz": "America/Chicago"})
            assert unread() == ["Rich"]
            change("setReadStatus")
            assert unread() == ["Last", "Tagged", "Rich", "Plain"]
            change("setTags", {"IDs": [ids["Plain"], ids["Rich"]], "Tags": ["Big one", "red"]})
            assert client.call("getTags") == ["Big one", "red"]
            change("renameTag", "Big one", "Small one")
            change("deleteTag", "red")
            assert client.call("getTags") == ["Small one"]
            with pytest.raises(RefusedError, match="tag not found: red"):
                client.call("deleteTag", "red")
            folder.check()
            change("setTags", {"IDs": [ids["Plain"]]})
            assert subjects(client.call("searchMessages", {"query": 'tag:"small one"'})) == ["Rich"]
            change("deleteMessages", {"IDs": ["unknown"]})
            change("deleteMessages", {"IDs": [ids["Plain"]]}, gone=("Plain",))
            change("deleteMessagesBySearch", {"query": "nothing-has-this"})
            change("deleteMessagesBySearch", {"query": 'tag:"small one"'}, gone=("Rich",))
            with pytest.raises(RefusedError, match="400"):
                client.call("deleteMessages", {"ids_": [ids["Last"]]})
            folder.check()
            with pytest.raises(RefusedError, match="400"):
                client.call("deleteMessagesBySearch", {"query": " "})
            folder.check()
            change("deleteMessages", gone=("Tagged", "Last"))
            assert client.call("listMessages")["total"] == 0


@pytest.mark.usefixtures("clients")
class TestPypi:
    def test_pytest_mailpits_client(self, folder: Folder) -> None:
        module = importlib.import_module("pytest_mailpit.client")
        query = importlib.import_module("pytest_mailpit.search").build_query
        ids = folder.ids
        with module.MailpitClient(folder.address) as client:

            def call(name: str, *values: Any, gone: tuple[str, ...] = (), **named: Any) -> Any:
                found = getattr(client, name)(*values, **named)
                folder.check(*gone)
                return found

            assert call("is_ready")
            assert call("info").messages == 4
            assert call("server_time").tzinfo is not None
            assert [one.subject for one in call("messages", start=1, limit=2).messages] == ["Tagged", "Rich"]
            assert call("search", query("words", subject="Rich")).messages_count == 1
            assert call("search", query(bcc="hidden@h.example")).messages[0].subject == "Rich"
            assert len(call("search_all", query(addressed="bob@h.example"), page_size=2)) == 4
            message = call("get_message", ids["Rich"])
            assert (message.sender.name, message.return_path) == ("Ann", "env@h.example")
            assert call("get_message").subject == "Last"
            assert call("get_headers", ids["Rich"])["Message-Id"] == ["<rich@h.example>"]
            assert call("get_raw", ids["Rich"]) in folder.expected.values()
            (paper,) = message.attachments
            assert call("get_attachment", paper) == PDF
            assert call("get_part", ids["Rich"], paper.part_id) == PDF
            found = call("wait_for_message", recipient="bob@h.example", subject="Plain")
            assert found.text == "How are you?\n"
            found = call("wait_for_messages", 4, recipient="bob@h.example")
            assert [one.subject for one in found] == ["Plain", "Rich", "Tagged", "Last"]
            call("assert_no_message", recipient="none@h.example", within=0.1)
            call("mark_read", [ids["Plain"], ids["Tagged"]])
            assert call("messages").unread == 0
            call("mark_read", [ids["Plain"]], read=False)
            assert call("search", "is:unread").messages[0].subject == "Plain"
            call("set_tags", [ids["Plain"]], ["blue"])
            assert call("messages").tags == ("blue", "red")
            call("delete_search", query(tag="red"), gone=("Tagged",))
            call("delete_messages", [ids["Rich"]], gone=("Rich",))
            call("delete_messages", [])
            call("delete_all", gone=("Plain", "Last"))
            assert call("messages").total == 0
        assert folder.calls >= 25

    def test_the_plugin_pytest_mailpit_runs_tests_of_another_project(
        self, folder: Folder, tmp_path: Path
    ) -> None:
        project = tmp_path / "project"
        project.mkdir()
        (project / "test_mail.py").write_text(
            "import smtplib\n"
            "from email.message import EmailMessage\n\n"
            "def test_a_code_is_sent(mailpit_inbox, mailpit_smtp):\n"
            "    made = EmailMessage()\n"
            "    made['From'], made['To'] = 'a@h.example', mailpit_inbox.address\n"
            "    made['Subject'] = 'Your code'\n"
            "    made.set_content('Your code is 471134. https://h.example/in')\n"
            "    with smtplib.SMTP(*mailpit_smtp) as client:\n"
            "        client.send_message(made)\n"
            "    found = mailpit_inbox.wait_for_message(subject='Your code')\n"
            "    assert '471134' in found.text\n"
            "    assert mailpit_inbox.messages()\n"
        )
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"]
        done = subprocess.run(
            [*command, "--mailpit-url", folder.address],
            cwd=project, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(CLIENTS), "MAILPIT_SMTP": f"{HOST}:{folder.relay.port}"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        folder.check()

    @pytest.mark.filterwarnings(
        "ignore::DeprecationWarning:marshmallow", "ignore::DeprecationWarning:dataclasses_json"
    )
    def test_mailpit_api_client(self, folder: Folder) -> None:
        errors = importlib.import_module("httpx").HTTPStatusError
        client = importlib.import_module("mailpit.client.api").API(folder.address)
        found = client.get_messages()
        folder.check()
        assert [one.subject for one in found.messages] == ["Last", "Tagged", "Rich", "Plain"]
        assert found.messages[2].to[0].address == "bob@h.example"
        assert [one.subject for one in client.get_messages(limit=1, start=3).messages] == ["Plain"]
        folder.check()
        assert client.get_message_attachment(folder.ids["Rich"], "2") == PDF.decode()
        folder.check()
        # It sends forms where Mailpit wants JSON: there, such a request to delete one mail deletes all.
        with pytest.raises(errors, match="415"):
            client.delete_messages([folder.ids["Plain"]])
        folder.check()
        with pytest.raises(errors, match="415"):
            client.put_messages([folder.ids["Plain"]], "Read", True)
        folder.check()
        client.delete_messages([])
        folder.check("Plain", "Rich", "Tagged", "Last")
