"""Flows and decisions as clients see them (docs/concepts.md)."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.clients.wire import Wire
from tests.support.net import HOST
from tests.support.servers.relay import Relay, flow

HERE: Final = {"type": "whitelist", "ips": [HOST]}
ELSEWHERE: Final = {"type": "whitelist", "ips": ["192.0.2.1"]}
STATIC: Final = {"type": "static-auth", "username": "user", "password": "plain:pass"}
LOGIN: Final = "AUTH PLAIN " + b64encode(b"\0user\0pass").decode()

Dialogue = Callable[..., None]
Make = Callable[..., Relay]


def to(*values: str) -> dict[str, Any]:
    return {"type": "whitelist", "to": list(values)}


def sender(*values: str) -> dict[str, Any]:
    return {"type": "whitelist", "from": list(values)}


def one(*filters: dict[str, Any], operator: str = "AND") -> dict[str, Any]:
    return {"flows": {"only": flow(*filters, operator=operator)}}


def say(wire: Wire, line: str) -> str:
    """The code and enhanced code of a command's reply."""
    return " ".join(str(wire.command(line)).split()[:2])


def mail_text(wire: Wire, text: bytes = b"a: b\r\n.\r\n") -> str:
    assert wire.command("DATA").code == 354
    wire.send(text)
    return " ".join(str(wire.reply()).split()[:2])


def test_refused_at_connect(dialogue: Dialogue, relay_for: Make) -> None:
    dialogue("S: 554 5.7.1 *\nS: <closed>", on=relay_for(one(ELSEWHERE)))


def test_a_flow_without_filters_takes_nothing(dialogue: Dialogue, relay_for: Make) -> None:
    nothing = {"flows": {"only": flow() | {"filters": []}}}
    dialogue("S: 554 5.7.1 *\nS: <closed>", on=relay_for(nothing))


def test_refused_at_mail(relay_for: Make) -> None:
    with Wire(relay_for(one(sender("good@client.example"))).port) as wire:
        wire.greet()
        assert say(wire, "MAIL FROM:<bad@client.example>") == "550 5.7.1"
        assert say(wire, "RCPT TO:<a@server.example>") == "503 5.5.1"
        assert say(wire, "MAIL FROM:<GOOD@client.example>") == "250 2.1.0"
        assert say(wire, "RCPT TO:<a@server.example>") == "250 2.1.5"


def test_the_null_sender_is_no_address(relay_for: Make) -> None:
    with Wire(relay_for(one(sender("regexp:.+@client.example"))).port) as wire:
        wire.greet()
        assert say(wire, "MAIL FROM:<>") == "550 5.7.1"


def test_decisions_are_per_recipient(relay_for: Make) -> None:
    relay = relay_for(one(to("regexp:.*@server.example")))
    with Wire(relay.port) as wire:
        wire.greet()
        assert say(wire, "MAIL FROM:<a@client.example>") == "250 2.1.0"
        assert say(wire, "RCPT TO:<a@other.example>") == "550 5.7.1"
        assert say(wire, "RCPT TO:<b@server.example>") == "250 2.1.5"
        assert say(wire, "RCPT TO:<c@server.example.evil.example>") == "550 5.7.1"
        assert mail_text(wire) == "250 2.0.0"
    (mail,) = relay.mails()
    assert b"for <b@server.example>" in mail


@pytest.mark.parametrize(
    ("listed", "recipient", "reply"),
    [
        ("kim@server.example", "\u212aim@server.example", "550 5.7.1"),  # KELVIN SIGN
        ("strasse@server.example", "straße@server.example", "550 5.7.1"),
        ("KIM@server.example", "kim@SERVER.example", "250 2.1.5"),
        ("bob@münchen.example", "bob@xn--mnchen-3ya.example", "250 2.1.5"),
        ("bob@xn--mnchen-3ya.example", "bob@MÜNCHEN.example", "250 2.1.5"),
        ("bob@fass.example", "bob@faß.example", "550 5.7.1"),
        ("regexp:.*@xn--mnchen-3ya\\.example", "bob@münchen.example", "250 2.1.5"),
        ("bob@server.example", "bob@[192.0.2.1]", "550 5.7.1"),
        ("bob@server.example", "bob@💩.example", "550 5.7.1"),
    ],
)
def test_addresses_are_compared_and_not_their_spelling(
    relay_for: Make, listed: str, recipient: str, reply: str
) -> None:
    relay = relay_for(one(to(listed), sender(listed), operator="OR"))
    with Wire(relay.port) as wire:
        wire.greet()
        assert say(wire, "MAIL FROM:<other@client.example> SMTPUTF8") == "250 2.1.0"
        assert say(wire, f"RCPT TO:<{recipient}>") == reply


def test_no_recipient_left(relay_for: Make) -> None:
    with Wire(relay_for(one(to("b@server.example"))).port) as wire:
        wire.greet()
        assert say(wire, "MAIL FROM:<a@client.example>") == "250 2.1.0"
        assert say(wire, "RCPT TO:<a@other.example>") == "550 5.7.1"
        assert say(wire, "DATA") in ("554 5.5.1", "503 5.5.1")


@pytest.mark.parametrize("operator", ["AND", "OR"])
def test_nothing_leaks_into_the_next_mail(relay_for: Make, operator: str) -> None:
    relay = relay_for(one(sender("good@client.example"), to("b@server.example"), operator=operator))
    with Wire(relay.port) as wire:
        wire.greet()
        assert say(wire, "MAIL FROM:<good@client.example>") == "250 2.1.0"
        assert say(wire, "RCPT TO:<b@server.example>") == "250 2.1.5"
        assert mail_text(wire) == "250 2.0.0"
        # On AND the second sender is refused; on OR only the right recipient can rescue the mail.
        expected = "550 5.7.1" if operator == "AND" else "250 2.1.0"
        assert say(wire, "MAIL FROM:<other@client.example>") == expected
        if operator == "OR":
            assert say(wire, "RCPT TO:<c@server.example>") == "550 5.7.1"
            assert say(wire, "RCPT TO:<b@server.example>") == "250 2.1.5"
            assert say(wire, "RSET") == "250 2.0.0"
            assert say(wire, "MAIL FROM:<other@client.example>") == "250 2.1.0"
            assert say(wire, "RCPT TO:<c@server.example>") == "550 5.7.1"


def test_or_takes_on_any_field(relay_for: Make) -> None:
    either = {"type": "whitelist", "from": ["good@client.example"], "to": ["b@server.example"]}
    with Wire(relay_for(one(either, operator="OR")).port) as wire:
        wire.greet()
        assert say(wire, "MAIL FROM:<good@client.example>") == "250 2.1.0"
        assert say(wire, "RCPT TO:<anybody@else.example>") == "250 2.1.5"
        assert say(wire, "RSET") == "250 2.0.0"
        assert say(wire, "MAIL FROM:<x@client.example>") == "250 2.1.0"
        assert say(wire, "RCPT TO:<anybody@else.example>") == "550 5.7.1"
        assert say(wire, "RCPT TO:<b@server.example>") == "250 2.1.5"


def test_and_wants_every_field(relay_for: Make) -> None:
    both = {"type": "whitelist", "from": ["good@client.example"], "to": ["b@server.example"]}
    with Wire(relay_for(one(both)).port) as wire:
        wire.greet()
        assert say(wire, "MAIL FROM:<x@client.example>") == "550 5.7.1"
        assert say(wire, "MAIL FROM:<good@client.example>") == "250 2.1.0"
        assert say(wire, "RCPT TO:<anybody@else.example>") == "550 5.7.1"
        assert say(wire, "RCPT TO:<b@server.example>") == "250 2.1.5"


def test_each_flow_gets_its_recipients(relay_for: Make) -> None:
    flows = {
        "one": flow(to("a@server.example", "both@server.example"), path="{folder}/one"),
        "two": flow(to("b@server.example", "both@server.example"), path="{folder}/two"),
    }
    relay = relay_for({"flows": flows})

    def stored() -> tuple[int, int]:
        return tuple(len(list((relay.folder / name).glob("*.eml"))) for name in ("one", "two"))  # type: ignore[return-value]

    before = stored()
    with Wire(relay.port) as wire:
        wire.greet()
        for recipient, added in (("a", (1, 0)), ("b", (0, 1)), ("both", (1, 1))):
            assert say(wire, "MAIL FROM:<a@client.example>") == "250 2.1.0"
            assert say(wire, "RCPT TO:<c@server.example>") == "550 5.7.1"
            assert say(wire, f"RCPT TO:<{recipient}@server.example>") == "250 2.1.5"
            assert mail_text(wire) == "250 2.0.0"
            after = stored()
            assert (after[0] - before[0], after[1] - before[1]) == added
            before = after
        assert say(wire, "MAIL FROM:<a@client.example>") == "250 2.1.0"
        for recipient in ("a", "b"):
            assert say(wire, f"RCPT TO:<{recipient}@server.example>") == "250 2.1.5"
        assert mail_text(wire) == "250 2.0.0"
        assert stored() == (before[0] + 1, before[1] + 1)


class TestAuthInFlows:
    def test_strict_and(self, relay_for: Make) -> None:
        """The reference accepted a client that never authenticated."""
        relay = relay_for(one(HERE, STATIC), authOptional=True, allowInsecureAuth=True)
        with Wire(relay.port) as wire:
            wire.greet()
            first = say(wire, "MAIL FROM:<a@client.example>")
            if first == "250 2.1.0":
                first = say(wire, "RCPT TO:<b@server.example>")
            assert first == "530 5.7.0"
            assert say(wire, "RSET") == "250 2.0.0"
            assert say(wire, LOGIN) == "235 2.7.0"
            assert say(wire, "MAIL FROM:<a@client.example>") == "250 2.1.0"
            assert say(wire, "RCPT TO:<b@server.example>") == "250 2.1.5"
            assert mail_text(wire) == "250 2.0.0"

    def test_authenticated_but_from_elsewhere(self, dialogue: Dialogue, relay_for: Make) -> None:
        relay = relay_for(one(ELSEWHERE, STATIC), authOptional=True, allowInsecureAuth=True)
        dialogue("S: 554 5.7.1 *\nS: <closed>", on=relay)

    def test_or_takes_either(self, relay_for: Make) -> None:
        relay = relay_for(one(ELSEWHERE, STATIC, operator="OR"), authOptional=True, allowInsecureAuth=True)
        with Wire(relay.port) as wire:
            wire.greet()
            first = say(wire, "MAIL FROM:<a@client.example>")
            if first == "250 2.1.0":
                first = say(wire, "RCPT TO:<b@server.example>")
            assert first == "530 5.7.0"
            say(wire, "RSET")
            assert say(wire, LOGIN) == "235 2.7.0"
            assert say(wire, "MAIL FROM:<a@client.example>") == "250 2.1.0"
            assert say(wire, "RCPT TO:<b@server.example>") == "250 2.1.5"

    def test_a_wrong_password_fails_though_another_flow_lives(self, relay_for: Make) -> None:
        flows = {
            "open": flow(to("public@server.example")),
            "closed": flow(STATIC, to("private@server.example")),
        }
        relay = relay_for({"flows": flows}, authOptional=True, allowInsecureAuth=True)
        wrong = "AUTH PLAIN " + b64encode(b"\0user\0wrong").decode()
        with Wire(relay.port) as wire:
            wire.greet()
            assert say(wire, wrong) == "535 5.7.8"
            assert say(wire, "MAIL FROM:<a@client.example>") == "250 2.1.0"
            assert say(wire, "RCPT TO:<public@server.example>") == "250 2.1.5"
            assert say(wire, "RCPT TO:<private@server.example>") == "530 5.7.0"
            assert say(wire, "RCPT TO:<nobody@server.example>") == "550 5.7.1"
            assert mail_text(wire) == "250 2.0.0"
            # The failure left no trace: the right password still opens the other flow.
            assert say(wire, LOGIN) == "235 2.7.0"
            assert say(wire, "MAIL FROM:<a@client.example>") == "250 2.1.0"
            assert say(wire, "RCPT TO:<private@server.example>") == "250 2.1.5"

    def test_required_whatever_the_flows_say(self, relay_for: Make) -> None:
        relay = relay_for(one(HERE), authOptional=False, allowInsecureAuth=True)
        with Wire(relay.port) as wire:
            wire.greet()
            assert say(wire, "MAIL FROM:<a@client.example>") == "530 5.7.0"
