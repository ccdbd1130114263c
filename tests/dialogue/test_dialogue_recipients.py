"""Recipients that the user's own service checks at RCPT, as clients see it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.support.clients.wire import Wire, submit
from tests.support.net import HOST, wait_until
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.servers.relay import Relay, flow

HERE: Final = {"type": "whitelist", "ips": [HOST]}
JSON: Final = {"Content-Type": "application/json"}
MAIL: Final = b"Subject: x\r\n\r\ny\r\n"

Dialogue = Callable[..., None]
Make = Callable[..., Relay]


class Users(Endpoint):
    """Knows users, and refuses mails that speak of spam."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.known = ["ann@x.example", "bob@x.example"]
        self.answer = self._answer

    def _answer(self, asked: Asked) -> Says:
        body = json.loads(asked.body)
        if body.get("phase") != "rcpt":
            return Says(403 if b"spam" in asked.body else 204)
        (recipient,) = body["envelope"]["to"]
        if recipient.startswith("busy"):
            return Says(503)
        refusal = {"action": "refuse", "code": 550, "message": "5.1.1 No such user"}
        return Says(204) if recipient in self.known else Says(200, json.dumps(refusal).encode(), JSON)

    def recipients(self) -> list[str]:
        """Those that it was asked about at RCPT."""
        bodies = [json.loads(asked.body) for asked in self.asked]
        return [body["envelope"]["to"][0] for body in bodies if body.get("phase") == "rcpt"]


@pytest.fixture
def users() -> Iterator[Users]:
    with endpoint() as made:
        known = Users(made.url)
        made.answer = known.say
        yield known


def asks(users: Users, *phases: str) -> dict[str, Any]:
    return {"type": "http-filter", "url": users.url, "phases": list(phases)}


def in_flow(*filters: dict[str, Any], operator: str = "AND") -> dict[str, Any]:
    return {"flows": {"only": flow(*filters, operator=operator)}}


def test_the_service_decides_each_recipient(dialogue: Dialogue, relay_for: Make, users: Users) -> None:
    relay = relay_for(in_flow(HERE, asks(users, "rcpt")))
    dialogue(
        """
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<ann@x.example>
        S: 250 2.1.5 *
        C: RCPT TO:<eve@x.example>
        S: 550 5.1.1 No such user
        C: RCPT TO:<busy@x.example>
        S: 451 4.7.1 *
        C: RCPT TO:<bob@x.example>
        S: 250 2.1.5 *
        C: DATA
        S: 354 *
        C: Subject: spam
        C:
        C: .
        S: 250 2.0.0 *
        """,
        on=relay,
    )
    assert users.recipients() == ["ann@x.example", "eve@x.example", "busy@x.example", "bob@x.example"]
    assert len(users.asked) == 4, "the mail itself is not asked about"
    wait_until(lambda: len(relay.files()) == 1, seconds=10, what="the mail")


@pytest.mark.parametrize("operator", ["AND", "OR"])
def test_a_known_recipient_gets_no_mail_that_is_refused_later(
    relay_for: Make, users: Users, operator: str
) -> None:
    """In an OR flow too: the answer at RCPT lets nothing through that the service has yet to see."""
    filters = [asks(users, "rcpt", "data"), {"type": "whitelist", "to": ["listed@x.example"]}]
    relay = relay_for(in_flow(*(filters if operator == "OR" else filters[:1]), operator=operator))
    with Wire(relay.port) as wire:
        wire.greet()
        wire.envelope("a@client.example", "ann@x.example")
        wire.send(b"Subject: spam\r\n\r\n.\r\n")
        assert wire.reply().code == 550
    assert submit(relay.port, MAIL, "a@client.example", "ann@x.example").code == 250
    if operator == "OR":
        assert str(submit(relay.port, MAIL, "a@client.example", "eve@x.example")).startswith("550 5.1.1")
        assert submit(relay.port, MAIL, "a@client.example", "listed@x.example").code == 250
    else:
        with pytest.raises(AssertionError, match=r"550.*5\.1\.1"):
            submit(relay.port, MAIL, "a@client.example", "eve@x.example")


def test_the_same_question_is_asked_once_until_a_reload(relay_for: Make, users: Users) -> None:
    relay = relay_for(in_flow(HERE, asks(users, "rcpt")))
    for _ in range(3):
        assert submit(relay.port, MAIL, "a@client.example", "bob@x.example").code == 250
    assert users.recipients() == ["bob@x.example"]
    users.known.remove("bob@x.example")
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: "configuration read again" in relay.log(), seconds=10, what="the reload")
    with pytest.raises(AssertionError, match=r"550.*5\.1\.1"):
        submit(relay.port, MAIL, "a@client.example", "bob@x.example")
    assert users.recipients() == ["bob@x.example"] * 2
