"""The next server fails: every recipient gets each mail once, no recipient is forgotten, and a dead
letter names the refused ones with the server's own words. Through the real listener."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import pytest

from tests.support.clients.wire import Wire, stuffed, submit
from tests.support.mails.dead_letters import attempts, deadletter, held, records, wait_for_records, waiting
from tests.support.mails.life import lines_of, told
from tests.support.net import HOST, free_port, wait_until
from tests.support.servers.relay import Relay
from tests.support.servers.smarthost import CLOSE, RESET, SILENCE, Heard, Smarthost, refusing, smarthost

SOON: Final = {"retry": {"first": 100, "max": 300}}
MAIL: Final = b"From: ann@client.example\r\nSubject: x\r\n\r\nx\r\n"
LARGE: Final = MAIL + b"0123456789\r\n" * 500_000

Start = Callable[..., Relay]


@pytest.fixture
def start(new_relay: Callable[..., Relay]) -> Start:
    """A relay that forwards to a server, and tries again soon."""

    def run(port: int, *, delivery: Any = None, loggers: Any = None, **transport: Any) -> Relay:
        options = {"closeTimeout": 1_000}
        server = {"host": HOST, "port": port, "socketTimeout": 20_000, **transport}
        output = {"type": "mailer", "nodemailer": server}
        flows = {"out": {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [output]}}
        config = {"flows": flows, "delivery": {**SOON, **(delivery or {})}}
        return new_relay(config | ({"loggers": loggers} if loggers else {}), **options).start()

    return run


def send(relay: Relay, *recipients: str, mail: bytes = MAIL) -> None:
    assert submit(relay.port, mail, "ann@client.example", *recipients).code == 250


def served(host: Smarthost, *recipients: str) -> None:
    """Each of them got the mail, once; nothing waits any more."""
    wait_until(
        lambda: set(host.copies()) >= set(recipients), seconds=45, what=f"{recipients}, got {host.copies()}"
    )
    assert host.copies() == dict.fromkeys(recipients, 1)


def finished(relay: Relay) -> None:
    wait_until(lambda: held(relay) == 0, seconds=20, what=f"an empty spool: {relay.log()}")
    assert records(relay) == []


class TestRefusals:
    def test_some_are_refused(self, start: Start) -> None:
        words = "550 5.1.1 <no@x.example>: nobody here by that name"
        with smarthost(refusing(no=words)) as host:
            relay = start(host.port)
            send(relay, "a@x.example", "no@x.example", "b@x.example")
            served(host, "a@x.example", "b@x.example")
            (letter,) = wait_for_records(relay, 1)
            assert letter["recipients"] == ["no@x.example"]
            assert letter["code"] == "5.1.1"
            assert letter["reason"] == f"<no@x.example>: {HOST}:{host.port} said to RCPT: {words}"
            assert (letter["attempts"], letter["flow"], letter["reverse_path"]) == (
                1,
                "out",
                "ann@client.example",
            )
            assert relay.stop() == 0

    def test_the_refused_are_replayed_alone(self, start: Start) -> None:
        with smarthost(refusing(no="550 5.1.1 no")) as host:
            relay = start(host.port)
            send(relay, "a@x.example", "no@x.example")
            wait_for_records(relay, 1)
            listed = json.loads(deadletter(relay, "list", "--json"))
            assert listed["recipients"] == ["no@x.example"]
            host.script = lambda heard: None
            deadletter(relay, "replay", "--all", "--now")
            served(host, "a@x.example", "no@x.example")
            finished(relay)
            assert relay.stop() == 0

    @pytest.mark.parametrize("verb", ["MAIL", "DATA", "."])
    def test_the_mail_is_refused(self, start: Start, verb: str) -> None:
        with smarthost(lambda heard: "554 5.7.1 spam, says X" if heard.verb == verb else None) as host:
            relay = start(host.port)
            send(relay, "a@x.example", "b@x.example")
            (letter,) = wait_for_records(relay, 1)
            assert letter["recipients"] == ["a@x.example", "b@x.example"]
            assert letter["reason"].endswith(": 554 5.7.1 spam, says X")
            assert letter["code"] == "5.7.1"
            assert not host.taken
            assert relay.stop() == 0

    def test_the_client_is_told_when_everybody_is_refused_in_time(self, start: Start) -> None:
        """554 when every output failed for good; nothing is kept."""
        with smarthost(refusing(no="550 5.1.1 no")) as host:
            relay = start(host.port, delivery={"waitFor": "all"})
            reply = submit(relay.port, MAIL, "ann@client.example", "no@x.example")
            assert (reply.code, reply.text[:6]) == (554, "5.1.1 ")
            wait_until(lambda: held(relay) == 0, seconds=10, what="an empty spool")
            assert records(relay) == []
            # A recipient that the server accepted cannot be taken back: the others become a dead
            # letter.
            assert submit(relay.port, MAIL, "ann@client.example", "no@x.example", "a@x.example").code == 250
            served(host, "a@x.example")
            (letter,) = wait_for_records(relay, 1)
            assert letter["recipients"] == ["no@x.example"]
            assert relay.stop() == 0


class TestThrottling:
    @pytest.mark.parametrize("reply", ["450 4.2.1 slow down", "452 4.5.3 enough", "451 4.7.1 greylisted"])
    def test_some_are_put_off(self, start: Start, reply: str) -> None:
        """They are retried alone, twice; the others are not retried."""
        left = Counter({"later@x.example": 2})

        def script(heard: Heard) -> str | None:
            if heard.verb == "RCPT" and left[heard.address] > 0:
                left[heard.address] -= 1
                return reply
            return None

        with smarthost(script) as host:
            relay = start(host.port)
            send(relay, "a@x.example", "later@x.example", "b@x.example")
            served(host, "a@x.example", "later@x.example", "b@x.example")
            finished(relay)
            assert [sorted(each.recipients) for each in host.taken] == [
                ["a@x.example", "b@x.example"],
                ["later@x.example"],
            ]
            assert relay.stop() == 0

    @pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."])
    def test_421(self, start: Start, verb: str) -> None:
        """RFC 5321 section 3.8: at any time, and the connection is closed behind it."""
        left = [3]

        def script(heard: Heard) -> str | None:
            if heard.verb == verb and left[0]:
                left[0] -= 1
                return "421 4.7.0 too many mails from you" + CLOSE
            return None

        with smarthost(script) as host:
            relay = start(host.port, pool=True)
            send(relay, "a@x.example", "b@x.example")
            served(host, "a@x.example", "b@x.example")
            finished(relay)
            assert left == [0]
            assert relay.stop() == 0

    def test_refused_and_put_off(self, start: Start) -> None:
        """The refused recipients are asked once, however long the others take, and end in the dead letter."""
        left = [3]

        def script(heard: Heard) -> str | None:
            if heard.verb != "RCPT":
                return None
            if heard.address == "no@x.example":
                return "550 5.1.1 no"
            if heard.address == "later@x.example" and left[0]:
                left[0] -= 1
                return "450 4.2.0 later"
            return None

        with smarthost(script) as host:
            relay = start(host.port)
            send(relay, "no@x.example", "later@x.example", "a@x.example")
            served(host, "a@x.example", "later@x.example")
            (letter,) = wait_for_records(relay, 1)
            assert letter["recipients"] == ["no@x.example"]
            assert letter["attempts"] == 4
            assert host.heard.count("RCPT TO:<no@x.example>") == 1
            assert host.heard.count("RCPT TO:<a@x.example>") == 1
            assert relay.stop() == 0

    def test_given_up_after_a_while(self, start: Start) -> None:
        with smarthost(refusing(later="450 4.2.0 still not", no="550 5.1.1 no")) as host:
            relay = start(host.port, delivery={"giveUpAfter": 1_000})
            send(relay, "a@x.example", "later@x.example", "no@x.example")
            (letter,) = wait_for_records(relay, 1)
            assert sorted(letter["recipients"]) == ["later@x.example", "no@x.example"]
            assert re.fullmatch(
                r"<later@x\.example>: .* 450 4\.2\.0 still not; "
                r"refused for good: <no@x\.example>: .* 550 5\.1\.1 no",
                letter["reason"],
            )
            assert host.copies() == {"a@x.example": 1}
            assert relay.stop() == 0


class TestLosses:
    @pytest.mark.parametrize("how", [CLOSE, RESET])
    @pytest.mark.parametrize("mail", [MAIL, LARGE], ids=["small", "large"])
    def test_closed_within_the_mail(self, start: Start, mail: bytes, how: str) -> None:
        left = [3]

        def script(heard: Heard) -> str | None:
            if heard.verb == "CONTENT" and left[0]:
                left[0] -= 1
                return how
            return None

        with smarthost(script) as host:
            host.content_cut = len(mail) // 2
            relay = start(host.port)
            send(relay, "a@x.example", "b@x.example", mail=mail)
            served(host, "a@x.example", "b@x.example")
            finished(relay)
            assert host.taken[0].content.endswith(mail)
            assert len(host.sessions) == 4
            assert relay.stop() == 0

    @pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
    @pytest.mark.parametrize("how", [CLOSE, RESET])
    def test_closed_before_the_mail(self, start: Start, verb: str, how: str) -> None:
        left = [2]

        def script(heard: Heard) -> str | None:
            if heard.verb == verb and left[0]:
                left[0] -= 1
                return how
            return None

        with smarthost(script) as host:
            relay = start(host.port, pool=True)
            send(relay, "a@x.example")
            served(host, "a@x.example")
            finished(relay)
            assert relay.stop() == 0

    def test_down(self, start: Start) -> None:
        """No server listens for a while: mails wait in the spool, across a restart too."""
        with smarthost() as host:
            port = host.port
        relay = start(port)
        send(relay, "a@x.example", "b@x.example")
        send(relay, "c@x.example")
        wait_until(lambda: attempts(relay) >= 4, seconds=20, what="some attempts")
        relay.restart()
        assert waiting(relay) == 2
        with smarthost(port=port) as host:
            served(host, "a@x.example", "b@x.example", "c@x.example")
            finished(relay)
        assert relay.stop() == 0

    def test_down_for_good(self, start: Start) -> None:
        port = free_port()
        relay = start(port, delivery={"giveUpAfter": 500})
        send(relay, "a@x.example")
        (letter,) = wait_for_records(relay, 1)
        assert letter["reason"] == f"{HOST}:{port} cannot be reached: Connection refused"
        assert (letter["code"], letter["recipients"]) == ("4.4.1", ["a@x.example"])
        assert letter["attempts"] > 1
        assert relay.stop() == 0

    def test_a_server_that_hangs(self, start: Start) -> None:
        left = [1]

        def script(heard: Heard) -> str | None:
            if heard.verb == "RCPT" and left[0]:
                left[0] -= 1
                return SILENCE
            return None

        with smarthost(script) as host:
            relay = start(host.port, socketTimeout=300)
            send(relay, "a@x.example")
            served(host, "a@x.example")
            finished(relay)
            assert relay.stop() == 0

    def test_a_stopping_relay_waits_for_no_client_without_a_mail(self, start: Start) -> None:
        heard_it = threading.Event()

        def script(heard: Heard) -> str | None:
            if heard.verb == "DATA" and not heard_it.is_set():
                heard_it.set()
                return SILENCE
            return None

        with smarthost(script) as host:
            relay = start(host.port, delivery={"onDoubt": "dead-letter"}, socketTimeout=600_000)
            send(relay, "a@x.example")
            assert heard_it.wait(10)
            relay.restart()
            served(host, "a@x.example")
            finished(relay)
            assert relay.stop() == 0


class TestDoubt:
    """Lost between the final dot and its reply: it is unknown if the server has the mail."""

    @pytest.mark.parametrize("taken", [False, True])
    def test_resend(self, start: Start, taken: bool) -> None:
        def script(heard: Heard) -> str | None:
            if heard.verb == "." and heard.session.number == 0:
                if taken:
                    heard.take()
                return CLOSE
            return None

        with smarthost(script) as host:
            relay = start(host.port)
            send(relay, "a@x.example")
            finished_copies = 1 + taken
            wait_until(
                lambda: host.copies()["a@x.example"] == finished_copies, seconds=20, what="the mail again"
            )
            finished(relay)
            assert len(host.sessions) == 2
            assert relay.stop() == 0

    def test_dead_letter(self, start: Start) -> None:
        def script(heard: Heard) -> str | None:
            if heard.verb == ".":
                heard.take()
                return CLOSE
            return None

        with smarthost(script) as host:
            relay = start(host.port, delivery={"onDoubt": "dead-letter"})
            send(relay, "a@x.example")
            (letter,) = wait_for_records(relay, 1)
            assert "after it had the mail: it may have taken it" in letter["reason"]
            assert host.copies() == {"a@x.example": 1}
            assert relay.stop() == 0

    def test_killed_before_the_reply(self, start: Start) -> None:
        """The next start finds the claim: the mail in doubt is sent again, once."""
        dot = threading.Event()

        def script(heard: Heard) -> str | None:
            if heard.verb == "." and not dot.is_set():
                dot.set()
                return SILENCE
            return None

        with smarthost(script) as host:
            relay = start(host.port)
            send(relay, "a@x.example", "b@x.example")
            assert dot.wait(10)
            relay.kill()
            relay.start()
            served(host, "a@x.example", "b@x.example")
            finished(relay)
            assert relay.stop() == 0


def test_one_id_finds_the_whole_life_of_a_mail(start: Start) -> None:
    left = [1]

    def script(heard: Heard) -> str | None:
        if heard.verb == "RCPT" and heard.address.startswith("no"):
            return "550 5.1.1 nobody here"
        if heard.verb == "DATA" and left[0]:
            left[0] -= 1
            return "451 4.3.0 later"
        return None

    with smarthost(script) as host:
        relay = start(host.port, loggers=[{"type": "CONSOLE", "format": "json"}])
        reply = submit(relay.port, MAIL, "ann@client.example", "a@x.example", "no@x.example")
        mail_id = reply.text.rpartition(" ")[2]
        wait_for_records(relay, 1)
        wait_until(
            lambda: (
                told(relay.log(), mail_id)
                == ["mail accepted", "output failed, will be tried again", "output done", "output given up"]
            ),
            seconds=20,
            what=f"the life of {mail_id}: {relay.log()}",
        )
        failed, _, given_up = lines_of(relay.log(), mail_id)[1:]
        assert "451 4.3.0 later" in failed["reason"]
        assert (given_up["flow"], given_up["output"], given_up["code"]) == ("out", "mailer_0", "5.1.1")
        assert relay.stop() == 0


def test_nothing_is_smuggled_out(start: Start) -> None:
    """Line ends that some servers take for one: the client's one mail stays one, and goes out with CRLF
    only (the receiver here checks every line)."""
    attack = b"\r\nMAIL FROM:<eve@x>\r\nRCPT TO:<eve@x>\r\nDATA\r\nevil\r\n"
    bodies = [
        b"a" + end + attack for end in (b"\n.\n", b"\n.\r\n", b"\r.\r", b"\r\n.\n", b"\r\n.\r", b"\r.\r\n")
    ]
    with smarthost() as host:
        relay = start(host.port)
        with Wire(relay.port) as wire:
            wire.greet()
            for body in bodies:
                wire.envelope("ann@client.example", "a@x.example")
                wire.send(stuffed(MAIL + body))
                assert wire.reply().code == 250
        wait_until(lambda: len(host.taken) == len(bodies), seconds=20, what="the mails")
        assert host.copies() == {"a@x.example": len(bodies)}
        assert all(b"RCPT TO:<eve@x>" in each.content for each in host.taken)
        assert relay.stop() == 0


def test_a_storm(start: Start) -> None:
    """Many mails at a server that fails in every known way: each recipient once, none lost."""
    noise = random.Random(7)
    answers = [
        ("RCPT", "450 4.2.0 later"),
        ("RCPT", "421 4.7.0 bye" + CLOSE),
        ("MAIL", "451 4.3.0 no"),
        ("MAIL", CLOSE),
        ("DATA", "452 4.3.1 full"),
        ("CONTENT", RESET),
        ("CONNECT", "554 5.3.2 busy"),
        ("EHLO", CLOSE),
        (".", "451 4.3.0 try again"),
    ]

    def script(heard: Heard) -> str | None:
        if heard.address.startswith("no"):
            return "550 5.1.1 no"
        verb, answer = noise.choice(answers)
        return answer if heard.verb == verb and noise.random() < 0.5 else None

    with smarthost(script) as host:
        relay = start(host.port, pool=True, maxConnections=3)
        everybody = []
        with Wire(relay.port) as wire:
            wire.greet()
            for number in range(60):
                names = [f"r{number}-{each}@x.example" for each in range(number % 4 + 1)]
                everybody += names
                wire.envelope("ann@client.example", *names, *(["no@x.example"] if number % 10 == 0 else []))
                wire.send(stuffed(MAIL))
                assert wire.reply().code == 250
        deadline = time.monotonic() + 60
        while set(host.copies()) < set(everybody) and time.monotonic() < deadline:
            time.sleep(0.05)
        letters = wait_for_records(relay, 6)
        assert host.copies() == dict.fromkeys(everybody, 1)
        assert [each["recipients"] for each in letters] == [["no@x.example"]] * 6
        wait_until(lambda: waiting(relay) == 0, seconds=20, what="an end")
        assert relay.stop() == 0
