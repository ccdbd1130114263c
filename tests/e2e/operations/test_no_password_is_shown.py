"""A canary password is in no log at any level, in no dead record and in no output of a command, whoever
logs in, however it goes wrong, and whatever the next server repeats."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients.wire import Wire, submit
from tests.support.mails.dead_letters import deadletter, wait_for_records
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay, flow
from tests.support.servers.smarthost import EXTENSIONS, Heard, Smarthost, smarthost

CANARY: Final = "canary-4wxQ8zT1"
RIGHT: Final = "Right-canary-77aK"
MAIL: Final = b"From: ann@client.example\r\nSubject: x\r\n\r\nsecret of the mail\r\n"
LOGGERS: Final = [
    {"type": "CONSOLE", "level": "TRACE"},
    {"type": "FILE", "filepath": "{folder}/text.log", "level": "TRACE"},
    {"type": "FILE", "filepath": "{folder}/json.log", "level": "TRACE", "format": "json"},
]


def b64(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def forms(secret: str) -> Iterator[str]:
    """The password, and its base64 wherever it begins in a longer text."""
    yield secret
    for before in range(3):
        yield b64(b"\0" * before + secret.encode())[4 if before else 0 :].rstrip("=")[:-2]


def shown(relay: Relay) -> dict[str, str]:
    """All that the server and its commands show."""
    files = {name: (relay.folder / name).read_text() for name in ("text.log", "json.log")}
    spool = b"".join(path.read_bytes() for path in relay.spool.rglob("*") if path.is_file())
    found = files | {"console": relay.log(), "spool": spool.decode("latin-1")}
    return found | {"deadletter": deadletter(relay, "list", "--json")}


def no_canary(relay: Relay) -> None:
    texts = shown(relay)
    for secret in (CANARY, RIGHT):
        for form in forms(secret):
            assert [name for name, text in texts.items() if form in text] == [], form
    assert all(json.loads(line) for line in texts["json.log"].splitlines())


def cram(user: str, password: str, challenge: str) -> str:
    digest = hmac.digest(password.encode(), base64.b64decode(challenge), hashlib.md5).hex()
    return b64(f"{user} {digest}")


@pytest.fixture
def server(new_relay: Callable[..., Relay]) -> Relay:
    """Knows alice, whose password is RIGHT."""
    known = {"type": "static-auth", "username": "alice", "password": f"plain:{RIGHT}"}
    return new_relay(
        {"flows": {"in": flow(known)}, "loggers": LOGGERS},
        hideSTARTTLS=True,
        authOptional=False,
        authMethods=["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"],
    ).start()


LOGINS: Final[dict[str, tuple[str, ...]]] = {
    "PLAIN": (f"AUTH PLAIN {b64(f'{chr(0)}bob{chr(0)}{CANARY}')}",),
    "PLAIN in two steps": ("AUTH PLAIN", b64(f"\0bob\0{CANARY}")),
    "PLAIN for another user": (f"AUTH PLAIN {b64(f'eve{chr(0)}bob{chr(0)}{CANARY}')}",),
    "PLAIN without a NUL": (f"AUTH PLAIN {b64(f'bob:{CANARY}')}",),
    "PLAIN not in base64": (f"AUTH PLAIN bob:{CANARY}",),
    "PLAIN in three words": (f"AUTH PLAIN bob {CANARY}",),
    "lower case": (f"auth plain {b64(f'{chr(0)}bob{chr(0)}{CANARY}')}",),
    "a tab": (f"AUTH\tPLAIN\t{b64(f'{chr(0)}bob{chr(0)}{CANARY}')}",),
    "blanks before": (f"  AUTH PLAIN {b64(f'{chr(0)}bob{chr(0)}{CANARY}')}",),
    "LOGIN": ("AUTH LOGIN", b64("bob"), b64(CANARY)),
    "LOGIN with the name at once": (f"AUTH LOGIN {b64('bob')}", b64(CANARY)),
    "LOGIN with all of PLAIN": (f"AUTH LOGIN {b64(f'{chr(0)}bob{chr(0)}{CANARY}')}", b64(CANARY)),
    "LOGIN not in base64": ("AUTH LOGIN", b64("bob"), f"!{CANARY}"),
    "LOGIN that is cancelled": ("AUTH LOGIN", b64("bob"), "*", CANARY),
    "a password after a failed login": ("AUTH LOGIN", b64("bob"), b64("no"), CANARY, b64(CANARY)),
    "CRAM-MD5 with a password": ("AUTH CRAM-MD5", b64(f"bob {CANARY}")),
    "CRAM-MD5 with PLAIN": ("AUTH CRAM-MD5", b64(f"\0bob\0{CANARY}")),
    "CRAM-MD5 at once": (f"AUTH CRAM-MD5 {b64(f'bob {CANARY}')}",),
    "XOAUTH2": (f"AUTH XOAUTH2 {b64(f'user=bob{chr(1)}auth=Bearer {CANARY}{chr(1)}{chr(1)}')}", ""),
    "XOAUTH2 without a user": (f"AUTH XOAUTH2 {b64(f'auth=Bearer {CANARY}{chr(1)}{chr(1)}')}",),
    "an unknown mechanism": (f"AUTH NTLM {b64(CANARY)}", b64(CANARY), CANARY),
    "a mechanism that is the password": (f"AUTH {CANARY}",),
    "a name with no verb": (f"LOGIN bob {CANARY}", f"USER bob {CANARY}", f"PASS {CANARY}"),
    "another verb": (
        f"NOOP {CANARY}",
        f"HELP {CANARY}",
        f"RSET {CANARY}",
        f"VRFY {CANARY}",
        f"DATA {CANARY}",
    ),
    "MAIL without FROM": (f"MAIL {CANARY}", f"RCPT {CANARY}", f"EHLO bob {CANARY}", f"EHLO bob:{CANARY}@x"),
}


@pytest.mark.parametrize("lines", LOGINS.values(), ids=LOGINS)
def test_a_client_s_login_is_not_shown(server: Relay, lines: tuple[str, ...]) -> None:
    with Wire(server.port) as wire:
        wire.greet()
        for line in lines:
            wire.command(line)
        wire.command("QUIT")
    with Wire(server.port) as wire:  # all at once
        wire.greet()
        wire.send("".join(f"{line}\r\n" for line in (*lines, "*", "QUIT")).encode())
        assert b"221 " in wire.rest()
    with Wire(server.port) as wire:
        wire.greet()
        challenge = wire.command("AUTH CRAM-MD5").text
        assert wire.command(cram("bob", CANARY, challenge)).code == 535
        assert wire.command(f"AUTH PLAIN {b64(f'{chr(0)}alice{chr(0)}{RIGHT}')}").code == 235
        assert wire.command("MAIL FROM:<ann@client.example>").code == 250
        assert wire.command("RCPT TO:<you@x.example>").code == 250
        assert wire.command("DATA").code == 354
        wire.send(MAIL + b".\r\n")
        assert wire.reply().code == 250
    assert server.stop() == 0
    no_canary(server)
    texts = shown(server)
    for name in ("console", "text.log", "json.log"):
        assert "C: MAIL FROM:<ann@client.example>" in texts[name]
        assert "S: 354 End data with" in texts[name]
        assert f"C: ({len(MAIL)} bytes of mail)" in texts[name]
        assert "C: AUTH PLAIN ***" in texts[name]
        assert "secret of the mail" not in texts[name]
    (mail,) = [
        one for one in map(json.loads, texts["json.log"].splitlines()) if one["message"] == "mail accepted"
    ]
    assert mail["user"] == "alice"


def echo(heard: Heard) -> str:
    """All that the client said on this connection, as a server that debugs would repeat it."""
    return " ".join(heard.session.heard)[-1_500:] + f" {heard.session.user} {heard.session.password}"


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"])
@pytest.mark.parametrize("refused", ["login", "recipient", "with reasons", "nonsense"])
def test_the_login_of_an_output_is_not_shown(
    new_relay: Callable[..., Relay], mechanism: str, refused: str
) -> None:
    def script(heard: Heard) -> str | None:
        if heard.verb == "AUTH" and refused == "with reasons":
            return f"334 {b64(json.dumps({'status': '401', 'said': echo(heard)}))}"
        if heard.verb == "AUTH" and refused == "nonsense":
            return f"999 {heard.session.password} {b64(CANARY)}"
        if heard.verb == "AUTH" and refused == "login":
            return f"535 5.7.8 refused: {echo(heard)}"
        if heard.verb == "RCPT":
            return f"550 5.7.1 refused: {echo(heard)} {b64(CANARY)}"
        return None

    auth: dict[str, Any] = {"user": "bob", "pass": CANARY}
    if mechanism == "XOAUTH2":
        auth = {"type": "OAuth2", "user": "bob", "accessToken": CANARY}
    with smarthost(script, extensions=(*EXTENSIONS, f"AUTH {mechanism}")) as host:
        relay = _forwarding(new_relay, host, auth)
        submit(relay.port, MAIL, "ann@client.example", "a@x.example")
        if refused == "recipient":
            wait_for_records(relay, 1)
        else:
            wait_until(lambda: "will be tried again" in relay.log(), seconds=30, what="the failure")
        assert relay.stop() == 0
    no_canary(relay)
    text = (relay.folder / "json.log").read_text()
    assert f"C: AUTH {mechanism}" in text
    assert "did not accept the login" in text or refused in {"recipient", "nonsense"}


def _forwarding(new_relay: Callable[..., Relay], host: Smarthost, auth: dict[str, Any]) -> Relay:
    transport = {"host": HOST, "port": host.port, "auth": auth, "ignoreTLS": True}
    output = {"type": "mailer", "nodemailer": transport}
    flows = {"out": {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [output]}}
    return new_relay({"flows": flows, "loggers": LOGGERS, "delivery": {"retry": {"first": 200}}}).start()


def test_the_configuration_s_passwords_are_not_shown(new_relay: Callable[..., Relay]) -> None:
    """A mistake beside a password, and a password in a place of another kind."""
    wrong = {"type": "static-auth", "username": "alice", "password": f"plain:{CANARY}", "passwd": CANARY}
    relay = new_relay({"flows": {"in": flow(wrong)}})
    assert relay.spawn().wait(60) == 2
    assert "unknown key 'passwd'" in relay.log()
    assert CANARY not in relay.log()
    assert Path(relay.path).exists()
