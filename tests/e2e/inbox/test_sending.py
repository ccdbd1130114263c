"""Mails that the inbox makes the server send: new ones over HTTP, and stored ones to another relay."""

from __future__ import annotations

import base64
import os
import signal
import smtplib
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from listener.control.channel import ask
from tests.support import process
from tests.support.inbox.client import PATIENCE, InboxClient, with_inbox
from tests.support.inbox.mails import mail
from tests.support.net import HOST, free_port, wait_until
from tests.support.servers.relay import Relay, flow
from tests.support.servers.smarthost import smarthost

NewRelay = Callable[..., Relay]

STORED = flow(filename="${id}.eml", addRawHeaders=True)
BODY = "first line\n.a dot\nlast line\n"


def new_mail(**more: Any) -> dict[str, Any]:
    return {
        "From": {"Email": "ada@h.example", "Name": "Ada"},
        "To": [{"Email": "bob@h.example", "Name": "Bob"}],
        "Subject": "made of JSON",
        "Text": "Hello",
        **more,
    }


def releasing(port: int, *recipients: str, workers: int = 1, **inbox: Any) -> dict[str, Any]:
    """A relay that stores, and whose page may send stored mails to a server at `port`."""
    hop = {"host": HOST, "port": port, "ignoreTLS": True}
    other = {
        "filters": [{"type": "whitelist", "to": ["nobody@h.example"]}],
        "outputs": [{"type": "mailer", "name": "out", "nodemailer": hop}],
    }
    release = {"output": "out", "recipients": list(recipients)}
    return {**with_inbox({"release": release, **inbox}, all=STORED, other=other), "workers": workers}


def control_of(relay: Relay) -> Path:
    (found,) = relay.folder.rglob("control")
    return found


class TestSend:
    def test_it_is_off_until_flows_are_named(self, new_relay: NewRelay) -> None:
        relay = new_relay(with_inbox()).start()
        with InboxClient(relay) as inbox:
            reply = inbox.post("/api/v1/send", json=new_mail())
        assert reply.status_code == 403
        assert '"send": ["FLOW"]' in reply.json()["Error"]

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_mail_is_stored_with_all_its_parts(self, new_relay: NewRelay, workers: int) -> None:
        relay = new_relay({**with_inbox({"send": ["all"]}), "workers": workers}).start()
        attachments = [
            {"Filename": "a.txt", "ContentType": "text/plain", "Content": base64.b64encode(b"one").decode()},
            {
                "Filename": "p.png",
                "ContentID": "pic",
                "ContentType": "image/png",
                "Content": base64.b64encode(b"\x89PNG").decode(),
            },
        ]
        value = new_mail(
            Cc=[{"Email": "cy@h.example"}],
            Bcc=["dan@h.example"],
            ReplyTo=[{"Email": "re@h.example"}],
            HTML='<b>Hello</b><img src="cid:pic">',
            Headers={"X-Job": "7"},
            Tags=["one", "two"],
            Attachments=attachments,
        )
        with InboxClient(relay) as inbox:
            reply = inbox.post("/api/v1/send", json=value)
            assert reply.status_code == 200, reply.text
            (shown,) = inbox.wait_for("made of JSON")
            assert shown["ID"] == reply.json()["ID"]
            assert shown["Tags"] == ["one", "two"]
            message = inbox.get(f"/api/v1/message/{shown['ID']}").json()
        assert [one["Address"] for one in message["Bcc"]] == ["dan@h.example"]
        assert [one["FileName"] for one in message["Attachments"]] == ["a.txt"]
        assert [one["ContentID"] for one in message["Inline"]] == ["pic"]
        (file,) = relay.files()
        made = message_from_bytes(file.read_bytes(), policy=policy.default)
        assert made["X-Job"] == "7"
        assert made["X-smtp-relay-MAIL_FROM"] == "ada@h.example"

    def test_many_at_once_are_each_stored_once(self, new_relay: NewRelay) -> None:
        relay = new_relay({**with_inbox({"send": ["all"]}), "workers": 2}).start()
        with InboxClient(relay) as inbox, ThreadPoolExecutor(8) as pool:
            names = [f"mail {number}" for number in range(40)]
            replies = list(
                pool.map(lambda one: inbox.post("/api/v1/send", json=new_mail(Subject=one)), names)
            )
            assert {one.status_code for one in replies} == {200}
            inbox.wait_for(*names)
        assert len(relay.files()) == 40

    def test_the_filters_of_the_flow_decide(self, new_relay: NewRelay) -> None:
        strict = {**STORED, "filters": [{"type": "whitelist", "to": ["glob:*@h.example"]}]}
        open_ = {**STORED, "outputs": [{"type": "file", "path": "other", "addRawHeaders": True}]}
        relay = new_relay(with_inbox({"send": ["strict"]}, strict=strict, open=open_)).start()
        with InboxClient(relay) as inbox:
            reply = inbox.post("/api/v1/send", json=new_mail(To=[{"Email": "eve@elsewhere.example"}]))
            assert reply.status_code == 400
            assert "550" in reply.json()["Error"]
            assert inbox.post("/api/v1/send", json=new_mail()).status_code == 200
            inbox.wait_for("made of JSON")

    def test_the_filters_learn_the_client_of_a_trusted_proxy(self, new_relay: NewRelay) -> None:
        inside = {**STORED, "filters": [{"type": "whitelist", "subnets": ["198.51.100.0/24"]}]}
        relay = new_relay(with_inbox({"send": ["inside"], "trustedProxies": [HOST]}, inside=inside)).start()
        with InboxClient(relay) as inbox:
            for client, status in (("198.51.100.7", 200), ("192.0.2.1", 400)):
                reply = inbox.post(
                    "/api/v1/send", json=new_mail(), headers={"X-Forwarded-For": f"198.51.100.8, {client}"}
                )
                assert reply.status_code == status, reply.text

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"From": None}, "From"),
            ({"From": {"Email": "no address"}}, "is not an address"),
            ({"To": [], "Cc": []}, "No To, Cc or Bcc"),
            ({"To": ["bob@h.example"]}, "To: an address has Email"),
            ({"Subject": "a\r\nBcc: eve@h.example"}, "Subject is not one line"),
            ({"Headers": {"X-A": "b\nc"}}, "Headers.X-A is not one line"),
            ({"Headers": {"Bcc": "eve@h.example"}}, "cannot be given there"),
            ({"Attachments": [{"Content": "%%%"}]}, "is not base64"),
            ({"Attachments": [{"Content": "", "ContentType": "multipart/mixed"}]}, "is not a type"),
            ({"Unknown": 1}, "unknown key"),
        ],
    )
    def test_a_mistake_is_named_and_nothing_is_sent(
        self, shared: tuple[Relay, InboxClient], change: dict[str, Any], said: str
    ) -> None:
        relay, inbox = shared
        reply = inbox.post("/api/v1/send", json=new_mail() | change)
        assert reply.status_code == 400
        assert said in reply.json()["Error"]
        assert relay.files() == []

    @pytest.fixture
    def shared(self, new_relay: NewRelay) -> Any:
        relay = new_relay(with_inbox({"send": ["all"]})).start()
        with InboxClient(relay) as inbox:
            yield relay, inbox


class TestRelease:
    def test_it_is_off_until_an_output_is_named(self, new_relay: NewRelay) -> None:
        relay = new_relay(with_inbox()).start()
        with smtplib.SMTP(HOST, relay.port) as client, InboxClient(relay) as inbox:
            client.send_message(mail("stored"), "env@h.example", ["bob@h.example"])
            (shown,) = inbox.wait_for("stored")
            reply = inbox.post(f"/api/v1/message/{shown['ID']}/release", json={"To": ["bob@h.example"]})
            assert reply.status_code == 403
            assert "release is off" in reply.text
            assert inbox.get("/api/v1/webui").json()["MessageRelay"]["Enabled"] is False

    @pytest.mark.parametrize("workers", [1, 2])
    def test_a_stored_mail_goes_to_another_relay_without_our_fields(
        self, new_relay: NewRelay, workers: int
    ) -> None:
        with smarthost() as host:
            relay = new_relay(releasing(host.port, "glob:*@team.example", workers=workers)).start()
            made = mail("released")
            made["Bcc"] = "hidden@h.example"
            made["Message-ID"] = "<kept@h.example>"
            made.set_content(BODY)
            with smtplib.SMTP(HOST, relay.port) as client:
                client.send_message(made, "env@h.example", ["bob@h.example"])
                client.sendmail(
                    "env@h.example", ["bob@h.example"], b"Bcc: x@y.example\r\nSubject: raw\r\n\r\nb"
                )
            with InboxClient(relay) as inbox:
                found = {one["Subject"]: one["ID"] for one in inbox.wait_for("released", "raw")}
                settings = inbox.get("/api/v1/webui").json()["MessageRelay"]
                assert (settings["Enabled"], settings["AllowedRecipients"]) == (True, "glob:*@team.example")
                for subject in ("released", "raw"):
                    reply = inbox.post(
                        f"/api/v1/message/{found[subject]}/release", json={"To": ["cy@team.example"]}
                    )
                    assert (reply.status_code, reply.text) == (200, "ok")
                wait_until(lambda: len(host.taken) == 2, seconds=PATIENCE, what="two mails at the next hop")
                assert len(inbox.page()["messages"]) == 2
        for taken in host.taken:
            assert taken.recipients == ["cy@team.example"]
            assert taken.reverse_path == "env@h.example"
            head = taken.content.partition(b"\r\n\r\n")[0].lower()
            for gone in (b"x-smtp-relay-", b"bcc:", b"return-path:"):
                assert gone not in head, gone
        first = next(one.content for one in host.taken if b"Subject: released" in one.content)
        assert b"Message-ID: <kept@h.example>" in first
        assert first.partition(b"\r\n\r\n")[2].replace(b"\r\n", b"\n").decode() == BODY

    def test_only_allowed_recipients_get_it(self, new_relay: NewRelay) -> None:
        with smarthost() as host:
            relay = new_relay(releasing(host.port, "cy@team.example")).start()
            with smtplib.SMTP(HOST, relay.port) as client, InboxClient(relay) as inbox:
                client.send_message(mail("stored"), "env@h.example", ["bob@h.example"])
                (shown,) = inbox.wait_for("stored")
                path = f"/api/v1/message/{shown['ID']}/release"
                for to in (["eve@h.example"], ["cy@team.example", "eve@h.example"], ["a b"], []):
                    reply = inbox.post(path, json={"To": to})
                    assert reply.status_code == 400, to
                assert inbox.post(path, json={"To": ["cy@TEAM.example"]}).status_code == 200
                wait_until(lambda: len(host.taken) == 1, seconds=PATIENCE, what="the mail at the next hop")

    def test_what_was_answered_is_sent_after_a_kill(self, new_relay: NewRelay) -> None:
        with smarthost() as host:
            port = host.port
        relay = new_relay(releasing(port, "glob:*@team.example")).start()
        with smtplib.SMTP(HOST, relay.port) as client, InboxClient(relay) as inbox:
            client.send_message(mail("stored"), "env@h.example", ["bob@h.example"])
            (shown,) = inbox.wait_for("stored")
            path = f"/api/v1/message/{shown['ID']}/release"
            assert inbox.post(path, json={"To": ["cy@team.example"]}).status_code == 200
        relay.kill()
        with smarthost(port=port) as again:
            relay.start()
            wait_until(lambda: len(again.taken) == 1, seconds=PATIENCE, what="the mail at the next hop")


class TestControlSocket:
    def test_only_the_servers_user_reaches_it(self, new_relay: NewRelay) -> None:
        relay = new_relay(with_inbox()).start()
        path = control_of(relay)
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        relay.stop()
        assert not path.exists()

    def test_one_that_was_left_behind_is_replaced(self, new_relay: NewRelay) -> None:
        relay = new_relay(with_inbox({"send": ["all"], "port": free_port()})).start()
        path = control_of(relay)
        relay.kill()
        assert path.exists()
        relay.start()
        with InboxClient(relay) as inbox:
            assert inbox.post("/api/v1/send", json=new_mail()).status_code == 200

    def test_what_is_no_request_is_refused_and_the_server_goes_on(self, new_relay: NewRelay) -> None:
        relay = new_relay(with_inbox({"send": ["all"]})).start()
        folder = control_of(relay).parent
        for do in ("nothing", ["submit"], None):
            assert "no such request" in ask(folder, {"do": do})["error"]
        assert "error" in ask(folder, {"do": "submit"})
        good = {"do": "submit", "client": HOST, "from": "", "to": ["bob@h.example"], "release": False}
        assert ask(folder, good, b"Subject: by hand\r\n\r\nbody")["code"] == 250
        with InboxClient(relay) as inbox:
            inbox.wait_for("by hand")

    def test_a_refusal_of_a_large_mail_reaches_the_client(self, new_relay: NewRelay) -> None:
        relay = new_relay(with_inbox({"send": ["all"]})).start()
        large = b"Subject: large\r\n\r\n" + b"x" * 98 * 100_000
        about = {"do": "submit", "client": HOST, "from": "", "to": ["no address"], "release": False}
        reply = ask(control_of(relay).parent, about, large)
        assert (reply["code"], "is not an address" in reply["text"]) == (501, True)

    @pytest.mark.parametrize("workers", [1, 2])
    def test_reload_reaches_all_workers(self, new_relay: NewRelay, workers: int) -> None:
        relay = new_relay({**with_inbox(), "workers": workers}).start()
        assert ask(control_of(relay).parent, {"do": "reload"}) == {}
        wait_until(
            lambda: relay.log().count("configuration read again") == workers,
            seconds=PATIENCE,
            what="a reload",
        )

    def test_it_survives_a_worker(self, new_relay: NewRelay) -> None:
        relay = new_relay({**with_inbox({"send": ["all"]}), "workers": 2}).start()
        workers = [
            pid
            for pid in process.tree(relay.pid)
            if pid != relay.pid and b"inbox.web.process" not in process.command_line(pid)
        ]
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
        with InboxClient(relay) as inbox:

            def is_sent() -> bool:
                return inbox.post("/api/v1/send", json=new_mail()).status_code == 200

            wait_until(is_sent, seconds=PATIENCE, what="a worker that takes the mail")
