"""The filter `respond`, as clients see it."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.clients.wire import Closed, Wire
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay, flow

HERE: Final = {"type": "whitelist", "ips": [HOST]}
STATIC: Final = {"type": "static-auth", "username": "user", "password": "plain:secret"}
GOOD: Final = b64encode(b"\0user\0secret").decode()

Dialogue = Callable[..., None]
Make = Callable[..., Relay]


def script(*rules: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"flows": {"only": flow(HERE, {"type": "respond", "rules": list(rules), **options})}}


def test_a_recipient_gets_the_reply_of_its_rule_and_others_are_taken(
    dialogue: Dialogue, relay_for: Make
) -> None:
    relay = relay_for(
        script(
            {"to": "glob:full-*@*", "reply": "452 4.2.2 Mailbox full"},
            {"to": "Gone@h.example", "reply": {"code": 550, "enhancedCode": "5.1.1", "text": "No such user"}},
            {"to": "odd@h.example", "reply": {"code": 499}},
        )
    )
    dialogue(
        """
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<full-1@h.example>
        S: 452 4.2.2 Mailbox full
        C: RCPT TO:<gone@H.example>
        S: 550 5.1.1 No such user
        C: RCPT TO:<odd@h.example>
        S: 499 4.0.0 This answer is scripted
        C: RCPT TO:<bob@h.example>
        S: 250 2.1.5 *
        C: DATA
        S: 354 *
        C: x: y
        C: .
        S: 250 2.0.0 *
        """,
        on=relay,
    )
    assert len(relay.mails()) == 1
    assert "mail not taken" in relay.log()
    assert "452 4.2.2 Mailbox full" in relay.log()


@pytest.mark.parametrize("operator", ["AND", "OR"])
def test_the_first_mails_are_deferred_after_data_and_the_next_one_is_stored(
    dialogue: Dialogue, relay_for: Make, operator: str
) -> None:
    rule = {"phase": "data", "nth": [1, 2], "reply": "451 4.3.0 Try again later"}
    filters = flow(HERE, {"type": "respond", "rules": [rule]}, operator=operator)
    mail = """
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<bob@h.example>
        S: 250 2.1.5 *
        C: DATA
        S: 354 *
        C: x: y
        C: .
    """
    relay = relay_for({"flows": {"only": filters}})
    dialogue(
        f"""
        S: 220 *
        C: EHLO client.example
        S: 250-...
        {mail}
        S: 451 4.3.0 Try again later
        {mail}
        S: 451 4.3.0 Try again later
        {mail}
        S: 250 2.0.0 *
        """,
        on=relay,
    )
    assert len(relay.mails()) == 1


def test_a_scripted_421_ends_the_connection(dialogue: Dialogue, relay_for: Make) -> None:
    for phase, before in (("connect", ""), ("mail", "C: MAIL FROM:<a@client.example>")):
        hello = "S: 220 *\nC: EHLO client.example\nS: 250-..." if before else ""
        dialogue(
            f"""
            {hello}
            {before}
            S: 421 4.7.0 Not now
            S: <closed>
            """,
            on=relay_for(script({"phase": phase, "reply": "421 4.7.0 Not now"})),
        )


@pytest.mark.parametrize(
    ("phase", "commands"),
    [
        ("connect", []),
        ("mail", ["EHLO c.example", "MAIL FROM:<a@c.example>"]),
        ("rcpt", ["EHLO c.example", "MAIL FROM:<a@c.example>", "RCPT TO:<b@h.example>"]),
        ("data", ["EHLO c.example", "MAIL FROM:<a@c.example>", "RCPT TO:<b@h.example>", "DATA", "x: y\r\n."]),
    ],
)
def test_a_dropped_connection_ends_without_a_reply(relay_for: Make, phase: str, commands: list[str]) -> None:
    relay = relay_for(script({"phase": phase, "drop": True}))
    seen = len(relay.log())
    with Wire(relay.port) as wire:
        if commands:
            assert wire.reply().code == 220
        for command in commands[:-1]:
            assert wire.command(command).code < 400
        with pytest.raises(Closed):
            wire.command(commands[-1]) if commands else wire.reply()
    assert relay.mails() == []
    wait_until(lambda: "connection closed without a reply" in relay.log()[seen:], seconds=10, what="the line")


def test_a_failing_login_by_script_is_no_guess(relay_for: Make) -> None:
    rules = [
        {"phase": "auth", "user": "user", "nth": [1, 2], "reply": "535 5.7.8 Chaos"},
        {"phase": "auth", "nth": 3, "reply": "454 4.7.0 Later"},
    ]
    config = {"flows": {"only": flow(STATIC, {"type": "respond", "rules": rules})}}
    relay = relay_for(config, authOptional=False, allowInsecureAuth=True, maxAuthFailureRate=1)
    seen = len(relay.log())
    with Wire(relay.port) as wire:
        wire.greet()
        assert str(wire.command(f"AUTH PLAIN {GOOD}")).startswith("535 5.7.8 Chaos")
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 535
        assert str(wire.command(f"AUTH PLAIN {GOOD}")).startswith("454 4.7.0 Later")
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 235
        assert wire.command("MAIL FROM:<a@c.example>").code == 250
    assert relay.log()[seen:].count("login refused") == 3


def test_any_credentials_fail_too_if_the_script_says_so(relay_for: Make) -> None:
    relay = relay_for(script({"phase": "auth", "reply": {"code": 535}}), allowInsecureAuth=True)
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 535


def test_a_rule_about_a_user_leaves_others_alone(relay_for: Make) -> None:
    rules = [{"phase": "mail", "user": ["glob:ci-*", "bob"], "reply": "550 5.7.1 Not you"}]
    relay = relay_for(script(*rules), allowInsecureAuth=True)
    for name, code in (("ci-7", 550), ("bob", 550), ("Bob", 250), ("alice", 250)):
        with Wire(relay.port) as wire:
            wire.greet()
            given = b64encode(f"\0{name}\0x".encode()).decode()
            assert wire.command(f"AUTH PLAIN {given}").code == 235
            assert wire.command("MAIL FROM:<a@c.example>").code == code
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@c.example>").code == 250


def test_a_delay_holds_one_client_and_its_place_and_no_other_client(relay_for: Make) -> None:
    relay = relay_for(script({"to": "slow@h.example", "delay": "1.5s"}), maxClients=2)
    with Wire(relay.port) as slow, Wire(relay.port) as other:
        for wire in (slow, other):
            wire.greet()
            assert wire.command("MAIL FROM:<a@c.example>").code == 250
        began = time.monotonic()
        slow.send(b"RCPT TO:<slow@h.example>\r\n")
        for number in range(20):
            assert other.command(f"RCPT TO:<b{number}@h.example>").code == 250
        assert time.monotonic() - began < 1.4
        with Wire(relay.port) as third:
            assert third.reply().code == 421
        assert slow.reply().code == 250
        assert time.monotonic() - began >= 1.5


def test_a_delay_may_be_longer_than_the_filter_timeout(relay_for: Make) -> None:
    relay = relay_for({**script({"phase": "mail", "delay": 1_200}), "filterTimeout": 300})
    began = time.monotonic()
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@c.example>").code == 250
    assert time.monotonic() - began >= 1.2


def test_a_recipient_asks_for_its_answer_by_its_plus_address(dialogue: Dialogue, relay_for: Make) -> None:
    relay = relay_for(script(plusAddresses=True))
    began = time.monotonic()
    dialogue(
        """
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<user+450@h.example>
        S: 450 4.2.0 *
        C: RCPT TO:<user+5.7.1@h.example>
        S: 550 5.7.1 *
        C: RCPT TO:<user+delay1+552@h.example>
        S: 552 5.2.2 *
        C: RCPT TO:<user+news@h.example>
        S: 250 2.1.5 *
        """,
        on=relay,
    )
    assert time.monotonic() - began >= 1
    with Wire(relay.port) as wire:
        wire.greet()
        wire.command("MAIL FROM:<a@c.example>")
        with pytest.raises(Closed):
            wire.command("RCPT TO:<user+drop@h.example>")


def test_plus_addresses_are_ordinary_where_they_are_not_switched_on(relay_for: Make) -> None:
    with Wire(relay_for(script()).port) as wire:
        wire.greet()
        wire.command("MAIL FROM:<a@c.example>")
        assert wire.command("RCPT TO:<user+450@h.example>").code == 250


def test_commands_sent_together_are_answered_up_to_the_drop(relay_for: Make) -> None:
    relay = relay_for(script({"to": "drop@h.example", "drop": True}))
    with Wire(relay.port) as wire:
        wire.greet()
        wire.send(b"MAIL FROM:<a@c.example>\r\nRCPT TO:<b@h.example>\r\nRCPT TO:<drop@h.example>\r\nDATA\r\n")
        assert [wire.reply().code, wire.reply().code] == [250, 250]
        with pytest.raises(Closed):
            wire.reply()


def test_each_recipient_in_lmtp_gets_the_reply_of_its_flow(relay_for: Make) -> None:
    rule = {"phase": "data", "reply": "452 4.2.2 Full"}
    to_bob = {"type": "whitelist", "to": ["bob@h.example"]}
    to_eve = {"type": "whitelist", "to": ["eve@h.example"]}
    flows = {"bob": flow(HERE, to_bob, {"type": "respond", "rules": [rule]}), "eve": flow(HERE, to_eve)}
    relay = relay_for({"flows": flows}, lmtp=True)
    with Wire(relay.port) as wire:
        wire.reply()
        assert wire.command("LHLO c.example").code == 250
        for command in ("MAIL FROM:<a@c.example>", "RCPT TO:<bob@h.example>", "RCPT TO:<eve@h.example>"):
            assert wire.command(command).code == 250
        assert wire.command("DATA").code == 354
        assert str(wire.command("x: y\r\n.")).startswith("452 4.2.2 Full")
        assert wire.reply().code == 250
    assert len(relay.mails()) == 1
