"""Users of a real server: folders of their own, and logins that count over SMTP and HTTP together."""

from __future__ import annotations

import base64
import json
import os
import signal
import smtplib
from collections.abc import Callable

import httpx
import pytest

from tests.support.inbox.client import PATIENCE, InboxClient, address_of, inbox_processes, with_inbox
from tests.support.inbox.mails import mail
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay, flow

NAMES = ("ann", "Ann", "../ann", "ann/bob", "j\u00f6rg")
USERS = {name: f"plain:{name}" for name in NAMES}
SMTP = {"authOptional": False, "allowInsecureAuth": True}


def send_as(relay: Relay, user: str, subject: str, password: str | None = None) -> None:
    with smtplib.SMTP(HOST, relay.port) as client:
        client.ehlo()
        text = f"\0{user}\0{user if password is None else password}".encode()
        code, reply = client.docmd("AUTH", f"PLAIN {base64.b64encode(text).decode()}")
        if code != 235:
            raise smtplib.SMTPAuthenticationError(code, reply)
        client.send_message(mail(subject), "env@h.example", ["bob@h.example"])


def by_user(**inbox: object) -> dict[str, object]:
    stored = flow({"type": "static-auth", "users": USERS}, filename="${id}.eml", addRawHeaders=True)
    return {**with_inbox({"by": "user", **inbox}, all=stored), "options": SMTP}


def test_each_user_has_a_folder_from_the_first_mail_on(new_relay: Callable[..., Relay]) -> None:
    relay = new_relay(by_user()).start()
    with InboxClient(relay) as inbox:
        for name in NAMES:
            send_as(relay, name, f"of {name}")
        inbox.wait_for(*(f"of {name}" for name in NAMES))
        assert inbox.get("/api/v1/inboxes").json() == sorted(NAMES)
        for name in NAMES:
            if "/" not in name:
                (one,) = inbox.get(f"/inbox/{name}/api/v1/messages").json()["messages"]
                assert one["Subject"] == f"of {name}"
        folders = {path.name for path in relay.received.iterdir()}
        assert folders == {"ann", "=41nn", "=2e.=2fann", "ann=2fbob", "j=c3=b6rg"}
        assert len(list(relay.received.glob("*/*.eml"))) == len(NAMES)
        (relay.received / "ann" / "own.eml").write_bytes(b"Subject: by hand\r\n\r\n")
        inbox.wait_for("by hand", *(f"of {name}" for name in NAMES))
        assert inbox.get("/inbox/ann/api/v1/info").json()["Messages"] == 2
        assert inbox.delete("/inbox/ann/api/v1/messages").status_code == 200
        assert list((relay.received / "ann").iterdir()) == []
        assert len(list(relay.received.glob("*/*.eml"))) == len(NAMES) - 1


def test_retention_counts_the_mails_of_all_users(new_relay: Callable[..., Relay]) -> None:
    config = by_user()
    config["flows"]["all"]["outputs"][0]["retention"] = {"count": 2}  # type: ignore[index]
    relay = new_relay(config).start()
    for number in range(3):
        for name in ("ann", "Ann"):
            send_as(relay, name, f"{number} of {name}")
    with InboxClient(relay) as inbox:
        inbox.wait_for("2 of ann", "2 of Ann")
    assert len(list(relay.received.glob("*/*.eml"))) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_failed_logins_count_over_both_doors(new_relay: Callable[..., Relay], workers: int) -> None:
    login = {"users": {"eve": {"password": "plain:right"}}}
    config = {**by_user(**login), "workers": workers, "options": {**SMTP, "maxAuthFailureRate": 4}}
    relay = new_relay(config).start()
    address = f"{address_of(relay)}/api/v1/info"
    with httpx.Client(timeout=PATIENCE) as client:

        def status(password: str) -> int:
            client.cookies.clear()
            return client.get(address, auth=("eve", password)).status_code

        assert status("right") == 200
        send_as(relay, "ann", "before")
        for _ in range(2):
            assert status("wrong") == 401
        for _ in range(2):
            with pytest.raises(smtplib.SMTPAuthenticationError):
                send_as(relay, "ann", "never", "wrong")
        assert status("right") == 429
        with pytest.raises(smtplib.SMTPResponseException) as refused:
            send_as(relay, "ann", "after")
        assert refused.value.smtp_code == 421


def test_a_login_outlives_the_process_of_the_inbox(new_relay: Callable[..., Relay]) -> None:
    relay = new_relay(by_user(users={"eve": {"password": "plain:right"}})).start()
    with httpx.Client(base_url=address_of(relay), timeout=PATIENCE) as client:
        assert client.get("/api/v1/info", auth=("eve", "right")).status_code == 200
        (child,) = inbox_processes(relay)
        os.kill(child, signal.SIGKILL)

        def is_back() -> bool:
            try:
                return client.get("/api/v1/info").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_back, seconds=PATIENCE, what="the inbox with the same cookie")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_changes_who_may_look(new_relay: Callable[..., Relay], workers: int) -> None:
    config = {**by_user(users={"eve": {"password": "plain:right"}}), "workers": workers}
    relay = new_relay(config).start()
    address = f"{address_of(relay)}/api/v1/info"

    def status(password: str) -> int:
        try:
            return httpx.get(address, auth=("eve", password), timeout=PATIENCE).status_code
        except httpx.TransportError:
            return 0

    wait_until(lambda: status("right") == 200, seconds=PATIENCE, what="the inbox")
    rewrite(relay, {"eve": {"password": "plain:other"}})
    wait_until(lambda: status("right") == 401, seconds=PATIENCE, what="the end of the old password")
    assert status("other") == 200
    rewrite(relay, {"eve": {"password": "env:NO_SUCH_VARIABLE"}})
    wait_until(lambda: "the inbox keeps its settings" in relay.log(), seconds=PATIENCE, what="the mistake")
    assert status("other") == 200
    assert "starting it again" not in relay.log()


def rewrite(relay: Relay, users: dict[str, object]) -> None:
    """Change the users of the inbox in the file, and ask for a reload."""
    config = json.loads(relay.path.read_text())
    config["inbox"]["users"] = users
    relay.path.write_text(json.dumps(config))
    os.kill(relay.pid, signal.SIGHUP)
