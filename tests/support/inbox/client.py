"""A client of the inbox of a server under test."""

from __future__ import annotations

import contextlib
import re
import smtplib
from collections.abc import Mapping
from email.message import EmailMessage
from typing import Any, Final

import httpx

from tests.support import process
from tests.support.inbox.mails import mail
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay, flow

PATIENCE: Final = 30.0


def with_inbox(options: Mapping[str, Any] | None = None, **flows: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a relay with an inbox: of one flow that takes all mail, or of these."""
    return {
        "flows": flows or {"all": flow(filename="${id}.eml", addRawHeaders=True)},
        "inbox": {"port": 0, **(options or {})},
    }


def address_of(relay: Relay) -> str:
    """The address of a relay's inbox: that of its configuration, else the one that it logged."""
    port = relay.config["inbox"]["port"]
    if port:
        return f"http://localhost:{port}"
    found = re.search(r"inbox: (http://\S+)", relay.log())
    assert found is not None
    return found[1]


def send(relay: Relay, made: EmailMessage | str, *to: str) -> None:
    """Send a mail to these recipients, by default to bob@h.example. A text is the subject of a plain mail."""
    with smtplib.SMTP(HOST, relay.port) as client:
        client.send_message(
            mail(made) if isinstance(made, str) else made, "env@h.example", to or ["bob@h.example"]
        )


def inbox_processes(relay: Relay) -> list[int]:
    """The processes that show the mails of a relay: one, or none while it is started again."""
    return [
        pid for pid in process.tree(relay.pid) if b"listener.inbox.web.process" in process.command_line(pid)
    ]


class InboxClient(httpx.Client):
    """Asks the inbox of a relay."""

    def __init__(self, relay: Relay) -> None:
        super().__init__(base_url=address_of(relay), timeout=PATIENCE)

    def page(self) -> dict[str, Any]:
        """The list."""
        found: dict[str, Any] = self.get("/api/v1/messages").raise_for_status().json()
        return found

    def subjects(self) -> list[str]:
        """The subjects of the list."""
        return [one["Subject"] for one in self.page()["messages"]]

    def wait_for(self, *subjects: str) -> list[dict[str, Any]]:
        """The mails, once the list has exactly these, in any order."""

        def is_there() -> bool:
            with contextlib.suppress(httpx.TransportError):
                return sorted(self.subjects()) == sorted(subjects)
            return False

        wait_until(is_there, seconds=PATIENCE, what=f"the mails {subjects}")
        found: list[dict[str, Any]] = self.page()["messages"]
        return found
