"""AUTH (RFC 4954; PLAIN RFC 4616; LOGIN), as docs/concepts.md describes it."""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.clients.wire import Closed, Wire
from tests.support.net import HOST
from tests.support.servers.relay import Relay, flow

STATIC: Final = {"type": "static-auth", "username": "user", "password": "plain:pass:word"}
HERE: Final = {"type": "whitelist", "ips": [HOST]}


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


GOOD: Final = b64("\0user\0pass:word")
BAD: Final = b64("\0user\0wrong")


@pytest.fixture
def guarded(relay_for: Callable[..., Relay]) -> Relay:
    """Accepts mail only from authenticated clients; AUTH is offered in clear text."""
    return relay_for({"flows": {"in": flow(STATIC)}}, authOptional=False, allowInsecureAuth=True)


Dialogue = Callable[..., None]


def test_plain_with_initial_response(dialogue: Dialogue, guarded: Relay) -> None:
    dialogue(
        f"""
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        S: 530 5.7.0 Authentication required
        C: AUTH PLAIN {GOOD}
        S: 235 2.7.0 *
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<b@server.example>
        S: 250 2.1.5 *
        C: DATA
        S: 354 *
        C: x: y
        C: .
        S: 250 2.0.0 *
        """,
        on=guarded,
    )
    assert b" with ESMTPA id " in guarded.mails()[0]


def test_ehlo_offers_it_until_it_is_done(guarded: Relay) -> None:
    with Wire(guarded.port) as wire:
        assert "AUTH PLAIN LOGIN" in wire.greet().lines
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 235
        assert not any(line.startswith("AUTH") for line in wire.command("EHLO client.example").lines)


@pytest.mark.parametrize("mechanism", ["PLAIN", "plain", "Plain"])
def test_plain_in_two_steps(guarded: Relay, mechanism: str) -> None:
    with Wire(guarded.port) as wire:
        wire.greet()
        assert wire.command(f"AUTH {mechanism}") == (334, ("",))
        assert wire.command(GOOD).code == 235


def test_plain_with_the_same_authorization_identity(guarded: Relay) -> None:
    with Wire(guarded.port) as wire:
        wire.greet()
        assert wire.command(f"AUTH PLAIN {b64('user' + chr(0) + 'user' + chr(0) + 'pass:word')}").code == 235


def test_login(dialogue: Dialogue, guarded: Relay) -> None:
    dialogue(
        f"""
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: auth login
        S: 334 VXNlcm5hbWU6
        C: {b64("user")}
        S: 334 UGFzc3dvcmQ6
        C: {b64("pass:word")}
        S: 235 2.7.0 *
        """,
        on=guarded,
    )


def test_login_with_initial_response(dialogue: Dialogue, guarded: Relay) -> None:
    dialogue(
        f"""
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: AUTH LOGIN {b64("user")}
        S: 334 UGFzc3dvcmQ6
        C: {b64("pass:word")}
        S: 235 2.7.0 *
        """,
        on=guarded,
    )


def test_after_helo(dialogue: Dialogue, guarded: Relay) -> None:
    dialogue(
        f"""
        S: 220 *
        C: HELO client.example
        S: 250 *
        C: AUTH PLAIN {GOOD}
        S: 235 2.7.0 *
        C: MAIL FROM:<a@client.example>
        S: 250 *
        """,
        on=guarded,
    )


def test_before_hello_and_inside_a_mail(dialogue: Dialogue, relay_for: Callable[..., Relay]) -> None:
    relay = relay_for(
        {"flows": {"in": flow(STATIC, HERE, operator="OR")}}, authOptional=True, allowInsecureAuth=True
    )
    dialogue(
        f"""
        S: 220 *
        C: AUTH PLAIN {GOOD}
        S: 503 5.5.1 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        S: 250 *
        C: AUTH PLAIN {GOOD}
        S: 503 5.5.1 *
        C: RSET
        S: 250 *
        C: AUTH PLAIN {GOOD}
        S: 235 2.7.0 *
        C: AUTH PLAIN {GOOD}
        S: 503 5.5.1 *
        """,
        on=relay,
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["AUTH"], "501 5.5.4"),
        (["AUTH FOO"], "504 5.5.4"),
        (["AUTH CRAM-MD5"], "504 5.5.4"),
        ([f"AUTH PLAIN {GOOD} more"], "501 5.5.4"),
        (["AUTH PLAIN", "*"], "501 5.7.0"),
        (["AUTH LOGIN", "*"], "501 5.7.0"),
        (["AUTH LOGIN", b64("user"), "*"], "501 5.7.0"),
        (["AUTH PLAIN not base64!"], "501 5.5."),
        (["AUTH PLAIN ===="], "501 5.5.2"),
        (["AUTH PLAIN", "ab"], "501 5.5.2"),
        (["AUTH PLAIN", "/w=="], "501 5.5.2"),
        (["AUTH LOGIN", "!!!!"], "501 5.5.2"),
        (["AUTH LOGIN", b64("user"), "!!!!"], "501 5.5.2"),
        ([f"AUTH PLAIN {b64('nothing')}"], "501 5.5.2"),
        ([f"AUTH PLAIN {b64('a' + chr(0) * 3 + 'b')}"], "501 5.5.2"),
    ],
)
def test_malformed(guarded: Relay, lines: list[str], expected: str) -> None:
    with Wire(guarded.port) as wire:
        wire.greet()
        for line in lines[:-1]:
            assert wire.command(line).code == 334
        reply = wire.command(lines[-1])
        assert str(reply).startswith(expected), reply
        # The attempt leaves no trace.
        assert wire.command("MAIL FROM:<a@client.example>").code == 530
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 235


@pytest.mark.parametrize(
    "line", [f"AUTH PLAIN {BAD}", "AUTH PLAIN =", f"AUTH PLAIN {b64(chr(0) + 'user' + chr(0))}"]
)
def test_wrong_credentials(guarded: Relay, line: str) -> None:
    with Wire(guarded.port) as wire:
        wire.greet()
        reply = wire.command(line)
        assert reply.code in (535, 501), reply
        assert wire.command("MAIL FROM:<a@client.example>").code == 530


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("user", "wrong"),
        ("nobody", "pass:word"),
        ("USER", "pass:word"),
        ("user", ""),
        ("", ""),
        ("user", "pass"),
    ],
)
def test_the_reply_to_wrong_ones_comes_late(guarded: Relay, name: str, password: str) -> None:
    with Wire(guarded.port) as wire:
        wire.greet()
        began = time.monotonic()
        reply = wire.command(f"AUTH PLAIN {b64(chr(0) + name + chr(0) + password)}")
        if name and password:
            assert (reply.code, reply.text[:5]) == (535, "5.7.8"), reply
            assert time.monotonic() - began > 0.2
        else:
            assert reply.code in (501, 535), reply
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 235


def test_five_failures_end_the_connection(guarded: Relay) -> None:
    with Wire(guarded.port) as wire:
        wire.greet()
        codes = []
        try:
            for _ in range(7):
                codes.append(wire.command(f"AUTH PLAIN {BAD}").code)
        except (Closed, ConnectionError):
            pass
        else:
            codes.append(wire.reply().code)
        assert [code for code in codes if code == 535] in ([535] * 4, [535] * 5), codes
        assert codes[-1] == 421, codes
        assert wire.rest() == b""


def test_waiting_for_one_failure_holds_up_nobody_else(guarded: Relay) -> None:
    with Wire(guarded.port) as slow, Wire(guarded.port) as other:
        slow.greet()
        other.greet()
        slow.send(f"AUTH PLAIN {BAD}\r\n".encode())
        began = time.monotonic()
        assert other.command(f"AUTH PLAIN {GOOD}").code == 235
        assert time.monotonic() - began < 0.25
        assert slow.reply().code == 535


def test_nothing_is_carried_out_while_a_failure_waits(guarded: Relay) -> None:
    with Wire(guarded.port) as wire:
        wire.greet()
        wire.send(f"AUTH PLAIN {BAD}\r\nNOOP\r\n".encode())
        assert wire.reply().code == 535
        assert wire.reply().code == 250


def test_clear_text_is_not_offered_unless_told_so(relay_for: Callable[..., Relay]) -> None:
    relay = relay_for({"flows": {"in": flow(STATIC)}}, authOptional=False)
    with Wire(relay.port) as wire:
        assert not any(line.startswith("AUTH") for line in wire.greet().lines)
        reply = wire.command(f"AUTH PLAIN {GOOD}")
        assert reply.code in (530, 538), reply
        assert reply.text.startswith("5.7."), reply
        assert wire.command("MAIL FROM:<a@client.example>").code == 530


@pytest.mark.parametrize("option", [{"hideSTARTTLS": True}, {"disabledCommands": ["STARTTLS"]}])
def test_no_starttls_permits_clear_text(relay_for: Callable[..., Relay], option: dict[str, Any]) -> None:
    relay = relay_for({"flows": {"in": flow(STATIC)}}, authOptional=False, **option)
    with Wire(relay.port) as wire:
        assert "AUTH PLAIN LOGIN" in wire.greet().lines
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 235


def test_auth_disabled_lifts_the_requirement(relay_for: Callable[..., Relay]) -> None:
    relay = relay_for(authOptional=False, disabledCommands=["AUTH"])
    with Wire(relay.port) as wire:
        assert not any(line.startswith("AUTH") for line in wire.greet().lines)
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 502
        assert wire.command("MAIL FROM:<a@client.example>").code == 250


def test_methods_can_be_chosen(relay_for: Callable[..., Relay]) -> None:
    relay = relay_for({"flows": {"in": flow(STATIC)}}, authMethods=["LOGIN"], allowInsecureAuth=True)
    with Wire(relay.port) as wire:
        assert "AUTH LOGIN" in wire.greet().lines
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 504


def test_without_a_filter_that_checks_any_credentials_do(relay_for: Callable[..., Relay]) -> None:
    relay = relay_for(authOptional=False, allowInsecureAuth=True)
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>").code == 530
        assert wire.command(f"AUTH PLAIN {b64(chr(0) + 'anybody' + chr(0) + 'anything')}").code == 235
        assert wire.command("MAIL FROM:<a@client.example>").code == 250


def test_the_message_of_530(relay_for: Callable[..., Relay]) -> None:
    relay = relay_for({"flows": {"in": flow(STATIC)}}, authOptional=False, authRequiredMessage="Log in first")
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>") == (530, ("5.7.0 Log in first",))


def test_passwords_never_reach_the_log(new_relay: Callable[..., Relay]) -> None:
    relay = new_relay(
        {"flows": {"in": flow(STATIC)}, "loggers": [{"type": "CONSOLE", "level": "DEBUG"}]},
        allowInsecureAuth=True,
    ).start()
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command(f"AUTH PLAIN {b64(chr(0) + 'user' + chr(0) + 'Hunter2Hunter2')}").code == 535
        assert wire.command(f"AUTH PLAIN {GOOD}").code == 235
    log = relay.log()
    for secret in ("Hunter2", "pass:word", GOOD, b64("\0user\0Hunter2Hunter2")):
        assert secret not in log
