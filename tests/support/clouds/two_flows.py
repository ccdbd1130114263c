"""A mail of two flows that an output stores in parts, and what its events and its manifest must say."""

from __future__ import annotations

import hashlib
import json
import smtplib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from tests.support.mails.stored import CANARY, with_everything
from tests.support.net import HOST
from tests.support.servers.relay import Relay

NAMES = ("ours", "theirs")


class Stack(Protocol):
    """The stack of a cloud, as far as this needs it."""

    target: str

    @property
    def raw(self) -> dict[str, Any]: ...

    def settled(self) -> None: ...

    def stored(self) -> Mapping[str, bytes]: ...


def send(stack: Stack, listener_for: Callable[..., Relay]) -> None:
    """Send a mail to a recipient of each flow; `theirs` has the one that `ours` must not know. Returns when
    the function is done."""
    for flow, address in zip(NAMES, ("bob@example.com", CANARY), strict=True):
        stack.raw["flows"][flow]["filters"] = [{"type": "whitelist", "to": [address]}]
    relay = listener_for(stack)
    mail = f"Bcc: {CANARY}\r\nReceived: from a by b id 1 for <{CANARY}>; now\r\n".encode() + with_everything()
    with smtplib.SMTP(HOST, relay.port) as client:
        client.sendmail("ada@example.com", ["bob@example.com", CANARY], mail)
    stack.settled()


def check(stack: Stack, scheme: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Assert what the events of both flows and the stored parts of the first say."""
    stored = stack.stored()
    folder = f"ours/{ours['id']}"
    manifest = json.loads(stored[f"{folder}/manifest.json"])
    assert "canary" not in (json.dumps(ours) + json.dumps(manifest)).lower()
    assert ours["data"]["envelope"]["to"] == manifest["envelope"]["to"] == ["bob@example.com"]
    named = [manifest["raw"], manifest["text"], manifest["html"], *manifest["attachments"]]
    assert {key for key in stored if key.startswith("ours/")} == {
        *(each["key"] for each in named),
        f"{folder}/manifest.json",
    }
    for each in named:
        assert hashlib.sha256(stored[each["key"]]).hexdigest() == each["sha256"]
    (attachment,) = ours["data"]["email"]["attachments"]
    assert stored[attachment["url"].removeprefix(f"{scheme}://{stack.target}/")] == b"PDF"
    assert ours["data"]["storage"]["manifest"] == f"{scheme}://{stack.target}/{folder}/manifest.json"
    assert ours["data"]["truncated"] == {"fields": [], "rest": manifest["raw"]["url"]}
    assert theirs["data"]["envelope"]["to"] == [CANARY]
