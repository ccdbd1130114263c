"""`sending-policy` as clients see it: who may send as whom, how much, and what is given back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.support.clients.wire import Wire
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

USERS: Final = {"ann@example.com": "plain:pw", "bob": "plain:pw", "bulk": "plain:pw", "eve": "plain:pw"}
LOGIN: Final = {"type": "static-auth", "users": USERS}
GOOD: Final = "From: Ann <ann@example.com>\r\n"


def policy(*rules: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"type": "sending-policy", "rules": list(rules), **options}


def served(make: Make, *rules: dict[str, Any], **config: Any) -> Relay:
    given = {"flows": {"out": flow(policy(*rules), LOGIN)}, **config}
    relay = make(given, authOptional=False, allowInsecureAuth=True)
    return relay if relay.alive else relay.start()


def login(wire: Wire, user: str = "ann@example.com") -> Wire:
    wire.greet()
    token = b64encode(f"\0{user}\0pw".encode()).decode()
    assert wire.command(f"AUTH PLAIN {token}").code == 235
    return wire


def open_mail(wire: Wire, *recipients: str) -> None:
    """Begins a mail of ann, up to the last recipient."""
    assert wire.command("MAIL FROM:<ann@example.com>").code == 250
    for one in recipients:
        assert wire.command(f"RCPT TO:<{one}>").code == 250


def data(wire: Wire, content: bytes) -> str:
    """Sends a mail of which the recipients are given, and returns the reply."""
    assert wire.command("DATA").code == 354
    wire.send(content + b"\r\n.\r\n")
    return str(wire.reply())


def send(
    wire: Wire,
    head: str | bytes = GOOD,
    sender: str = "ann@example.com",
    recipients: tuple[str, ...] = ("c@d.example",),
) -> str:
    """The first reply that is no success, or the last one."""
    wire.command("RSET")
    if (reply := wire.command(f"MAIL FROM:<{sender}>")).code != 250:
        return str(reply)
    for one in recipients:
        if (reply := wire.command(f"RCPT TO:<{one}>")).code != 250:
            return str(reply)
    return data(wire, (head.encode() if isinstance(head, str) else head) + b"\r\nhi")


ITSELF: Final = {"user": "glob:*", "from": ["${user}", "glob:${user}+*", "${user}@example.com"]}


@pytest.fixture
def itself(relay_for: Make) -> Relay:
    """Every user may send as itself."""
    return served(relay_for, ITSELF)


PERMITTED: Final = {
    "a name": "From: Ann <ann@example.com>\r\n",
    "case": "FROM: Ann <ANN@Example.COM>\r\n",
    "an encoded name": "From: =?utf-8?q?Anna_M=C3=BCller?= <ann@example.com>\r\n",
    "a name with a comma": 'From: "Ann, of Example" <ann@example.com>\r\n',
    "a comment": "From: ann@example.com (Ann)\r\n",
    "a fold": "From: Ann\r\n <ann@example.com>\r\n",
    "its own address as name": 'From: "ann@example.com" <ann@example.com>\r\n',
    "8 bits in a name": "From: Änn <ann@example.com>\r\n".encode(),
    "8 bits of another charset": b"From: \xc4nn <ann@example.com>\r\n",
    "a group": "From: Team: ann@example.com, Ann <ann@example.com>;\r\n",
    "Sender": GOOD + "Sender: ann@example.com\r\n",
    "Resent-From": GOOD + "Resent-From: ann@example.com\r\nResent-Sender: <ann@example.com>\r\n",
    "another Reply-To": GOOD + "Reply-To: bob@elsewhere.example\r\n",
    "a fold before the address": "From:\r\n ann@example.com\r\n",
}


@pytest.mark.parametrize("head", PERMITTED.values(), ids=PERMITTED)
def test_a_user_may_send_as_itself(itself: Relay, head: str | bytes) -> None:
    with Wire(itself.port) as wire:
        assert send(login(wire), head).startswith("250"), head


SPOOFED: Final = {
    "another address": "From: bob@victim.example\r\n",
    "no From": "Subject: x\r\n",
    "an empty From": "From:\r\n",
    "an empty From of blanks": "From: \r\n \r\n",
    "two From": GOOD + "From: bob@victim.example\r\n",
    "two From, good one last": "From: bob@victim.example\r\n" + GOOD,
    "the same From twice": GOOD + GOOD,
    "two addresses": "From: ann@example.com, bob@victim.example\r\n",
    "a semicolon": "From: ann@example.com; bob@victim.example\r\n",
    "a member of a group": "From: Team: ann@example.com, bob@victim.example;\r\n",
    "an empty group": "From: Team:;\r\n",
    "a group's end": "From: Team: bob@victim.example; ann@example.com\r\n",
    "Sender": GOOD + "Sender: bob@victim.example\r\n",
    "an unreadable Sender": GOOD + "Sender: bob\r\n",
    "Resent-From": GOOD + "Resent-From: bob@victim.example\r\n",
    "Resent-Sender": GOOD + "Resent-Sender: bob@victim.example\r\n",
    "the second Resent-From": GOOD + "Resent-From: ann@example.com\r\nResent-From: bob@victim.example\r\n",
    "a name before the address": "From: bob@victim.example <ann@example.com>\r\n",
    "an address as name": 'From: "bob@victim.example" <ann@example.com>\r\n',
    "an encoded address as name": "From: =?utf-8?q?bob=40victim=2Eexample?= <ann@example.com>\r\n",
    "a wide at in the name": "From: bob\uff20victim.example <ann@example.com>\r\n".encode(),
    "an encoded address alone": "From: =?utf-8?q?bob=40victim=2Eexample?=\r\n",
    "an encoded address in brackets": "From: =?utf-8?q?=3Cbob=40victim=2Eexample=3E?= <ann@example.com>\r\n",
    "an encoded separator": "From: =?utf-8?q?bob=40victim.example=2C?= ann@example.com\r\n",
    "base64": "From: =?utf-8?b?Ym9iQHZpY3RpbS5leGFtcGxl?= <ann@example.com>\r\n",
    "a comment": "From: ann@example.com (bob@victim.example)\r\n",
    "a comment that hides": "From: bob@victim.example (ann@example.com)\r\n",
    "a comment in the address": "From: ann(@example.com)@victim.example\r\n",
    "a comment that never ends": "From: bob@victim.example (ann@example.com\r\n",
    "a quote that never ends": 'From: "ann@example.com <bob@victim.example>\r\n',
    "a Cyrillic letter": "From: ann@exаmple.com\r\n".encode(),
    "an A-label of one": "From: ann@xn--exmple-4nf.com\r\n",
    "a quoted local part": 'From: "ann@example.com"@victim.example\r\n',
    "a quoted local part of the domain": 'From: "bob@victim.example"@example.com\r\n',
    "two at": "From: ann@example.com@victim.example\r\n",
    "a route": "From: <@victim.example:ann@example.com>\r\n",
    "a source route": "From: <@example.com:bob@victim.example>\r\n",
    "a percent": "From: bob%victim.example@victim.example\r\n",
    "a fold": "From: ann@example.com,\r\n bob@victim.example\r\n",
    "a fold in the address": "From: bob@\r\n victim.example\r\n",
    "NUL": b"From: ann@example.com\x00 <bob@victim.example>\r\n",
    "NUL between": b"From: ann@example.com\x00bob@victim.example\r\n",
    "8 bits": b"From: \xe4nn@example.com\r\n",
    "a tab before the colon": "From\t: bob@victim.example\r\n",
    "a second From with a tab": GOOD + "From\t: bob@victim.example\r\n",
    "a second From with NUL": GOOD.encode() + b"From\x00: bob@victim.example\r\n",
    "a second From with a blank before": GOOD.encode() + b"\xc2\xa0From: bob@victim.example\r\n",
    "a byte order mark": b"\xef\xbb\xbfFrom: bob@victim.example\r\n",
    "a byte order mark and one": b"\xef\xbb\xbfFrom: bob@victim.example\r\n" + GOOD.encode(),
    "a From folded before the colon": GOOD + "From\r\n : bob@victim.example\r\n",
    "nested brackets": "From: <<bob@victim.example>>\r\n",
    "two brackets": "From: <ann@example.com> <bob@victim.example>\r\n",
    "no at": "From: ann\r\n",
    "no domain": "From: ann@\r\n",
    "very long": "From: " + ",\r\n ".join(["ann@example.com"] * 2_000) + "\r\n",
    "very long with a blank name": "From: "
    + "\r\n ".join(["x" * 70] * 200)
    + "\r\n <bob@victim.example>\r\n",
    "no header": "\r\nFrom: ann@example.com\r\n",
    "From after a line that is no field": "nonsense\r\nFrom: bob@victim.example\r\n",
}


@pytest.mark.parametrize("head", SPOOFED.values(), ids=SPOOFED)
def test_no_header_names_another_sender(itself: Relay, head: str | bytes) -> None:
    with Wire(itself.port) as wire:
        # NUL is refused by the server itself.
        assert send(login(wire), head).startswith(("550 5.7.1", "550 5.6.0 The mail holds a NUL")), head


def test_a_bare_line_end_hides_no_sender(itself: Relay) -> None:
    hidden = b"From: bob@victim.example\r\n" + GOOD.encode()
    itself.forget()
    with Wire(itself.port) as wire:
        assert send(login(wire), b"Subject: x\n" + hidden).startswith("550 5.7.1")
        # A bare CR becomes a blank.
        assert send(wire, b"Subject: x\r" + hidden).startswith("250")
    assert b"Subject: x From: bob@victim.example\r\n" in itself.mails()[0]


@pytest.mark.parametrize("sender", ["bob@victim.example", "", '"ann@example.com"@victim.example'])
def test_another_reverse_path_is_refused_at_mail(itself: Relay, sender: str) -> None:
    with Wire(itself.port) as wire:
        assert send(login(wire), sender=sender).startswith("553 5.7.1")


def test_the_first_rule_that_applies_decides_and_none_means_refused(relay_for: Make) -> None:
    relay = served(
        relay_for,
        {"user": "bob", "to": "glob:*@inside.example"},
        {"user": "bob", "from": ["<>", "bounce@example.com"], "headerFrom": "glob:*@example.com"},
        {"user": "ann@*", "from": "nobody@example.com"},
    )
    with Wire(relay.port) as wire:
        login(wire, "bob")
        assert send(wire, "From: x@y.example\r\n", "x@y.example", ("a@inside.example",)).startswith("250")
        assert send(wire, "From: x@y.example\r\n", "x@y.example", ("a@outside.example",)).startswith("550")
        assert send(wire, GOOD, "", ("a@outside.example",)).startswith("250")
        assert send(wire, "From: x@y.example\r\n", "", ("a@outside.example",)).startswith("550")
        both = ("a@inside.example", "b@outside.example")
        assert send(wire, GOOD, "bounce@example.com", both).startswith("250")
        assert send(wire, "From: x@y.example\r\n", "bounce@example.com", both).startswith("550")
    with Wire(relay.port) as wire:
        assert "may not send" in send(login(wire, "eve"), sender="x@y.example")


def test_clients_are_known_by_their_network(relay_for: Make) -> None:
    here = {"type": "whitelist", "ips": [HOST]}
    rules = policy({"ip": "127.0.0.0/8", "from": "glob:*@example.com"})
    relay = relay_for({"flows": {"out": flow(rules, here)}})
    with Wire(relay.port) as wire:
        wire.greet()
        assert send(wire).startswith("250")
        assert send(wire, sender="a@b.example").startswith("553 5.7.1")
    relay = relay_for({"flows": {"out": flow(policy({"ip": "192.0.2.0/24"}), here)}})
    with Wire(relay.port) as wire:
        wire.greet()
        assert "not logged in" in send(wire)


def test_the_header_is_judged_as_mail_headers_leave_it(relay_for: Make) -> None:
    edits = {"-From": "", "From": "ann@example.com", "-Sender": ""}
    relay = served(relay_for, ITSELF, mailHeaders=edits)
    with Wire(relay.port) as wire:
        assert send(login(wire), "From: bob@victim.example\r\nSender: x@y.example\r\n").startswith("250")
    relay = served(relay_for, ITSELF, mailHeaders={"From": "bob@victim.example", "-From": ""})
    with Wire(relay.port) as wire:
        assert send(login(wire)).startswith("550 5.7.1")


def test_recipients_above_a_limit_are_deferred_or_refused_and_the_reply_names_the_limit(
    new_relay: Make,
) -> None:
    relay = served(
        new_relay,
        {"user": "bob", "limits": ["3/hour"], "over": "refuse"},
        {"user": "bulk", "limits": ["2/mail"]},
        {"user": "glob:*", "limits": "3/day"},
    )
    three = ("a@d.example", "b@d.example", "c@d.example")
    with Wire(relay.port) as wire:
        login(wire, "bob")
        assert send(wire, recipients=three).startswith("250")
        assert send(wire).startswith("550 5.7.1 Sending limit of 3/hour")
    with Wire(relay.port) as wire:
        login(wire)
        assert send(wire, recipients=three).startswith("250")
        assert send(wire).startswith("451 4.7.1 Sending limit of 3/day")
    with Wire(relay.port) as wire:
        login(wire, "bulk")
        for _ in range(3):
            assert send(wire, recipients=three[:2]).startswith("250")
        assert send(wire, recipients=three).startswith("451 4.7.1 Sending limit of 2/mail")


def used(relay: Relay) -> dict[str, int]:
    """What `quota show` says of each user."""
    command = [sys.executable, "-m", "listener.cli.main", "quota", "show", "--json", "-c", str(relay.path)]
    done = subprocess.run(command, cwd=relay.folder, capture_output=True, text=True, check=True)
    return {row["who"]: row["used"] for row in map(json.loads, done.stdout.splitlines())}


LIMITED: Final = {"user": "glob:*", "from": "glob:*@example.com", "limits": ["5/hour"]}


def test_what_was_not_stored_is_given_back(new_relay: Make) -> None:
    relay = served(new_relay, LIMITED)
    three = ("a@d.example", "b@d.example", "c@d.example")
    with Wire(relay.port) as wire:
        login(wire)
        open_mail(wire, *three)
        assert used(relay) == {"ann@example.com": 3}
        wire.command("RSET")
        assert used(relay) == {}
        assert send(wire, "From: bob@victim.example\r\n", recipients=three).startswith("550")
        assert used(relay) == {}
        open_mail(wire, *three)
        wire.command("EHLO again.example")
        open_mail(wire, *three)
    wait_until(lambda: used(relay) == {}, what="the recipients", seconds=20)
    with Wire(relay.port) as wire:
        login(wire)
        assert send(wire, recipients=three).startswith("250")
        assert used(relay) == {"ann@example.com": 3}


def test_a_recipient_that_another_filter_refuses_is_given_back(new_relay: Make) -> None:
    listed = {"type": "blacklist", "to": "bad@d.example"}
    given = {"flows": {"out": flow(policy(LIMITED), listed, LOGIN)}}
    relay = new_relay(given, authOptional=False, allowInsecureAuth=True).start()
    with Wire(relay.port) as wire:
        login(wire)
        open_mail(wire, "a@d.example")
        for _ in range(3):
            assert wire.command("RCPT TO:<bad@d.example>").code == 550
        assert data(wire, GOOD.encode() + b"\r\nhi").startswith("250")
        assert used(relay) == {"ann@example.com": 1}


def test_a_client_that_hangs_up_after_the_final_dot_has_spent_its_recipients(new_relay: Make) -> None:
    relay = served(new_relay, {**LIMITED, "limits": ["7/hour"]})
    for _ in range(7):
        wire = Wire(relay.port)
        login(wire)
        open_mail(wire, "a@d.example")
        assert wire.command("DATA").code == 354
        wire.send(GOOD.encode() + b"\r\nhi\r\n.\r\n")
        wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        wire.socket.close()
    wait_until(lambda: len(relay.mails()) == 7, what="the mails", seconds=20)
    assert used(relay) == {"ann@example.com": 7}
    with Wire(relay.port) as wire:
        assert send(login(wire)).startswith("451 4.7.1")


def test_limits_survive_a_restart_and_a_kill_and_quota_reset_frees_them(new_relay: Make) -> None:
    relay = served(new_relay, LIMITED, workers=2)
    with Wire(relay.port) as wire:
        login(wire)
        assert send(wire, recipients=("a@d.example", "b@d.example")).startswith("250")
        open_mail(wire, "c@d.example", "d@d.example")
        for pid in (relay.pid, *_children(relay.pid)):
            os.kill(pid, signal.SIGKILL)
    relay.kill()
    relay.restart()
    with Wire(relay.port) as wire:
        login(wire)
        assert send(wire).startswith("250")
        assert send(wire).startswith("451 4.7.1")
        command = [sys.executable, "-m", "listener.cli.main", "quota", "reset", "ANN@example.com"]
        subprocess.run([*command, "-c", str(relay.path)], cwd=relay.folder, check=True, capture_output=True)
        assert send(wire).startswith("250")


def _children(pid: int) -> Iterator[int]:
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    yield from map(int, done.stdout.split())


def test_four_workers_with_clients_that_fail_in_every_way_never_pass_the_limit(new_relay: Make) -> None:
    relay = served(new_relay, {**LIMITED, "limits": ["200/day"]}, workers=4)
    accepted = 0
    begun = time.monotonic()
    for number in range(120):
        with Wire(relay.port) as wire:
            login(wire)
            reply = send(wire, recipients=tuple(f"r{number}.{one}@d.example" for one in range(3)))
            if reply.startswith("250"):
                accepted += 3
            if number % 4 == 0:
                wire.command("RSET")
                wire.command("MAIL FROM:<ann@example.com>")
                wire.command("RCPT TO:<open@d.example>")
    assert time.monotonic() - begun < 100
    assert accepted == 198
