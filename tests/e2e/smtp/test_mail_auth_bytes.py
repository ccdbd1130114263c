"""mail-auth judges the bytes that came, whatever the relay stores: each mail of a corpus gets the verdicts
of its bytes as received, which are those of version 3.0 as well."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

import pytest

from listener.mailauth.authres import authentication_results
from listener.mailauth.check import BytesSource, Checks, check
from listener.mailauth.dns.zone import MemoryResolver
from listener.mailauth.spf import Sender
from tests.support.clients.wire import Wire, stuffed
from tests.support.net import HOST
from tests.support.servers.dns_server import DnsServer
from tests.support.servers.relay import ROOT, Relay, flow

NAME: Final = "mx.receiver.example"
HELO: Final = "mx.example.com"
RECORDED: Final[dict[str, Any]] = json.loads((ROOT / "tests" / "data" / "verdicts_before.json").read_text())
MAILBOX_LINE: Final = re.compile(rb">?From (?![ \t]*:)")


def mail_of(case: dict[str, str]) -> tuple[bytes, str]:
    """The mail as a client sends it, and its reverse-path."""
    about = RECORDED["mails"][case["mail"]]
    mail = (RECORDED["lines"].get(case["below"], "") + about["mail"]).encode("latin-1")
    return mail, about["sender"]


def verdicts(results: str) -> list[str]:
    """Each method's verdict with its domain; BIMI informs only."""
    found = []
    for part in results.split("; ")[1:]:
        domain = re.search(r" (?:header\.d|header\.from|smtp\.mailfrom|smtp\.helo)=(\S+)", part)
        found.append(part.split()[0] + (f" {domain[1]}" if domain else ""))
    return [each for each in found if not each.startswith("bimi=")]


def unfolded(field: str) -> str:
    return " ".join(field.split())


async def of_the_bytes(mail: bytes, sender: str) -> str:
    """The results for exactly these bytes, without a relay."""
    facts = Sender(HOST, HELO, sender, NAME)
    report = await check(BytesSource(mail), facts, MemoryResolver(RECORDED["zone"]), Checks())
    return unfolded(authentication_results(report, NAME))


@pytest.fixture(scope="module")
def expected() -> list[list[str]]:
    """The verdicts of version 3.0, with today's where they differ for a reason."""
    differences = RECORDED["differences"]
    return [
        differences[case["mail"]]["verdicts"] if case["mail"] in differences else case["verdicts"]
        for case in RECORDED["cases"]
    ]


async def test_the_bytes_get_the_verdicts_of_version_3(expected: list[list[str]]) -> None:
    found = [verdicts(await of_the_bytes(*mail_of(case))) for case in RECORDED["cases"]]
    assert found == expected


def test_each_difference_is_one_and_has_a_reason() -> None:
    recorded = {case["mail"]: case["verdicts"] for case in RECORDED["cases"] if not case["below"]}
    for name, difference in RECORDED["differences"].items():
        assert difference["verdicts"] != recorded[name]
        assert difference["reason"]


async def test_a_relay_that_renames_a_mailbox_line_judges_the_bytes_as_received(
    expected: list[list[str]], new_relay: Callable[..., Relay]
) -> None:
    with DnsServer(RECORDED["zone"]) as server:
        resolver = {"nameservers": [HOST], "port": server.port, "timeout": 5_000}
        only = flow({"type": "mail-auth", "mailauth": {"resolver": resolver}})
        relay = new_relay({"flows": {"in": only}}, name=NAME).start()
        renamed = 0
        for case, right in zip(RECORDED["cases"], expected, strict=True):
            mail, sender = mail_of(case)
            relay.forget()
            with Wire(relay.port) as wire:
                wire.greet(HELO)
                wire.envelope(sender, "rcpt@receiver.example")
                wire.send(stuffed(mail))
                assert wire.reply().code == 250, case
            (stored,) = relay.mails()
            field = re.match(rb"Authentication-Results: ((?:[^\r]|\r\n[ \t])*)\r\n", stored)
            assert field is not None, case
            results = unfolded(field[1].decode())
            assert results == await of_the_bytes(mail, sender), case
            assert verdicts(results) == right, case
            if MAILBOX_LINE.match(mail):
                renamed += 1
                assert b"\r\nX-Mailbox-Line: " + mail in stored, case
            else:
                assert stored.endswith(b"\r\n" + mail), case
        assert renamed > 30
