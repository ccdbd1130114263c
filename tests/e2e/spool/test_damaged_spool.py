"""A running relay whose spool is damaged, unreadable, or served under a clock that jumps: through the
real listener, to a real next hop."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from functions.local import layout as folder
from tests.faults.campaign.clocked import set_clock
from tests.faults.campaign.relay_under_test import Clocked
from tests.support.clients.wire import submit
from tests.support.mails.damage import DAMAGED, DAMAGES, flipped
from tests.support.mails.dead_letters import attempts, deadletter, held, records, wait_for_records, waiting
from tests.support.mails.stored import strip_added_fields
from tests.support.net import HOST, wait_until
from tests.support.servers.smarthost import Heard, Smarthost, smarthost

MAIL: Final = b"From: ann@client.example\r\nSubject: x\r\n\r\nhello\r\n"
LARGE: Final = MAIL + b"0123456789\r\n" * 30_000
HUGE: Final = MAIL + b"0123456789\r\n" * 2_500_000

DAYS: Final = 4 * 86_400.0


class Hop:
    """A next hop that refuses connections for a while."""

    def __init__(self) -> None:
        self.down = True
        self.refuse = 0
        """The number of mails that it defers once it is up."""

    def __call__(self, heard: Heard) -> str | None:
        if heard.verb == "MAIL" and (self.down or self.refuse > 0):
            self.refuse -= not self.down
            return "451 4.3.2 not now"
        return None


@pytest.fixture
def hop() -> Hop:
    return Hop()


@pytest.fixture
def host(hop: Hop) -> Iterator[Smarthost]:
    with smarthost(hop) as made:
        yield made


@pytest.fixture
def relay(tmp_path: Path, host: Smarthost) -> Iterator[Clocked]:
    output = {"type": "mailer", "nodemailer": {"host": HOST, "port": host.port, "ignoreTLS": True}}
    flows = {"out": {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [output]}}
    delivery = {"retry": {"first": 100, "max": 200}}
    made = Clocked(tmp_path / "relay", {"flows": flows, "delivery": delivery}, closeTimeout=2_000)
    made.clock = tmp_path / "clock"
    set_clock(made.clock, 0.0)
    yield made
    if made.alive:
        made.kill()


@contextmanager
def database(relay: Clocked) -> Iterator[Any]:
    (part,) = folder.parts(relay.spool)
    with closing(part.connect()) as db:
        yield db


def send(relay: Clocked, mail: bytes = MAIL) -> None:
    assert submit(relay.port, mail, "ann@client.example", "bob@server.example").code == 250


def spoil(relay: Clocked, how: Callable[[bytes], bytes]) -> None:
    """Damage the stored body of the mail that waits."""
    with database(relay) as db:
        mail_id, body = db.execute("SELECT id, body FROM mail").fetchone()
        if body is not None:
            db.execute("UPDATE mail SET body = ?", (how(body),))
            return
    (path,) = relay.spool.glob(f"part-*/large/{mail_id}.eml")
    path.write_bytes(how(path.read_bytes()))


def log_of(relay: Clocked) -> str:
    log = relay.log()
    assert "Traceback" not in log
    return log


@pytest.mark.parametrize("mail", [MAIL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("how", ["a bit flipped", "half of it gone", "nothing left"])
@pytest.mark.parametrize("killed", [False, True])
def test_a_damaged_mail_reaches_no_output_and_stays(
    relay: Clocked, host: Smarthost, hop: Hop, mail: bytes, how: str, killed: bool
) -> None:
    relay.start()
    send(relay, mail)
    wait_until(lambda: attempts(relay) >= 1, seconds=20, what="an attempt")
    if killed:
        relay.kill()
    spoil(relay, DAMAGES[how])
    hop.down = False
    if killed:
        relay.start()
    (letter,) = wait_for_records(relay, 1)
    assert (letter["reason"], letter["recipients"]) == (DAMAGED, ["bob@server.example"])
    assert letter["id"] in deadletter(relay, "list")
    deadletter(relay, "replay", "--all")
    (letter,) = wait_for_records(relay, 1)
    assert letter["reason"] == DAMAGED
    assert (held(relay), waiting(relay)) == (1, 0)
    assert not host.taken
    assert relay.stop() == 0
    log_of(relay)


def test_damage_that_is_found_on_the_way_ends_the_transfer_before_its_final_dot(
    relay: Clocked, host: Smarthost, hop: Hop
) -> None:
    """The mail is read in pieces: damage after the first look is not delivered either."""
    spoiled: list[Path] = []

    def script(heard: Heard) -> str | None:
        if heard.verb == "CONTENT":
            (path,) = relay.spool.glob("part-*/large/*.eml")
            with path.open("r+b") as file:
                file.seek(-3, 2)
                file.write(b"?")
            spoiled.append(path)
        return None

    hop.down = False
    host.script = script
    host.content_cut = 1_000
    relay.start()
    send(relay, HUGE)
    (letter,) = wait_for_records(relay, 1)
    assert letter["reason"] == DAMAGED
    assert spoiled
    assert not host.taken
    assert not [line for line in host.heard if line == "."]
    assert spoiled[0].exists()
    assert relay.stop() == 0
    log_of(relay)


def test_rows_that_cannot_be_read_are_dead_and_delay_no_other(
    relay: Clocked, host: Smarthost, hop: Hop
) -> None:
    damage: list[tuple[str, Any]] = [
        ("envelope = ?", b"{"),
        ("envelope = ?", b"[" * 100_000),
        ("envelope = ?", 7),
        ("envelope = replace(envelope, '\"schema\":1', '\"schema\":9')", None),
        ("body = ?", "text"),
        ("body = ?", None),
        ("id = ?", "01890a5d-ac96-774b-bcce-b302099a8001"),
    ]
    relay.start()
    for _ in range(len(damage) + 1):
        send(relay)
    wait_until(lambda: attempts(relay) >= len(damage) + 1, seconds=20, what="attempts")
    assert relay.stop() == 0
    with database(relay) as db:
        numbers = [row[0] for row in db.execute("SELECT seq FROM mail ORDER BY seq")]
        for seq, (change, value) in zip(numbers[1:], damage, strict=True):
            values = (seq,) if "?" not in change else (value, seq)
            db.execute(f"UPDATE mail SET {change} WHERE seq = ?", values)
    before = len(relay.log())
    hop.down = False
    relay.start()
    letters = wait_for_records(relay, len(damage))
    assert all(letter["reason"] and letter["code"] for letter in letters)
    wait_until(lambda: len(host.taken) == 1, seconds=20, what="the mail that is whole")
    wait_until(lambda: waiting(relay) == 0, seconds=20, what="nothing to wait")
    assert held(relay) == len(damage)
    time.sleep(1.0)  # several times the longest wait between two attempts
    told = [line for line in log_of(relay)[before:].splitlines() if "given up" in line]
    assert len(told) == len(damage), told
    assert len(deadletter(relay, "list", "--json").splitlines()) == len(damage)
    assert deadletter(relay, "show", "--json", *[letter["id"] for letter in letters])
    assert len(host.taken) == 1
    assert relay.stop() == 0


def test_a_clock_four_days_ahead_for_four_seconds_gives_nothing_up(
    relay: Clocked, host: Smarthost, hop: Hop
) -> None:
    relay.start()
    for _ in range(3):
        send(relay)
    wait_until(lambda: attempts(relay) >= 20, seconds=30, what="attempts")
    assert relay.clock is not None
    set_clock(relay.clock, DAYS)
    before = attempts(relay)
    time.sleep(4.0)
    wait_until(lambda: attempts(relay) > before + 6, seconds=30, what="attempts under the wrong clock")
    assert records(relay) == []
    set_clock(relay.clock, 0.0)
    hop.down = False
    wait_until(lambda: len(host.taken) == 3, seconds=20, what="the mails")
    assert records(relay) == []
    assert relay.stop() == 0
    log_of(relay)


@pytest.mark.parametrize("days", [-DAYS, DAYS])
def test_a_clock_that_is_set_for_good_delays_no_attempt(
    relay: Clocked, host: Smarthost, hop: Hop, days: float
) -> None:
    relay.start()
    send(relay)
    wait_until(lambda: attempts(relay) >= 3, seconds=30, what="attempts")
    assert relay.clock is not None
    set_clock(relay.clock, days)
    send(relay)
    before = attempts(relay)
    wait_until(lambda: attempts(relay) > before + 6, seconds=10, what="attempts under another clock")
    hop.down = False
    wait_until(lambda: len(host.taken) == 2, seconds=10, what="both mails")
    assert records(relay) == []
    assert relay.stop() == 0


@pytest.mark.parametrize("refuse", [0, 4])
def test_a_server_that_slept_a_weekend_tries_before_it_gives_up(
    relay: Clocked, host: Smarthost, hop: Hop, refuse: int
) -> None:
    relay.start()
    send(relay)
    wait_until(lambda: attempts(relay) >= 2, seconds=20, what="attempts")
    assert relay.stop() == 0
    assert relay.clock is not None
    set_clock(relay.clock, DAYS)
    hop.down, hop.refuse = False, refuse
    relay.start()
    wait_until(lambda: len(host.taken) == 1 or bool(records(relay)), seconds=20, what="an end")
    assert records(relay) == []
    assert strip_added_fields(host.taken[0].content) == MAIL
    assert relay.stop() == 0


def test_what_fails_for_long_enough_is_given_up_after_five_attempts(
    relay: Clocked, host: Smarthost, hop: Hop
) -> None:
    relay.config["delivery"]["giveUpAfter"] = 500
    relay.start()
    send(relay)
    (letter,) = wait_for_records(relay, 1)
    assert letter["attempts"] >= 5
    assert letter["last"] - letter["first"] >= 500
    assert re.search(r"451 4\.3\.2 not now", letter["reason"])
    hop.down = False
    replayed = json.loads(deadletter(relay, "replay", "--json", letter["id"]))
    assert replayed["id"] == letter["id"]
    wait_until(lambda: len(host.taken) == 1, seconds=20, what="the replayed mail")
    assert relay.stop() == 0


def test_a_spoiled_copy_in_the_folder_of_kept_mail_is_not_replayed(
    relay: Clocked, host: Smarthost, hop: Hop
) -> None:
    relay.config |= {"keepCache": True, "cachePath": "kept/${id}.eml"}
    hop.down = False
    relay.start()
    send(relay)
    wait_until(lambda: len(host.taken) == 1 and held(relay) == 0, seconds=20, what="the delivery")
    (kept,) = (relay.folder / "kept").iterdir()
    kept.write_bytes(flipped(kept.read_bytes()))
    with pytest.raises(AssertionError, match=DAMAGED):
        deadletter(relay, "replay", "--kept", kept.stem)
    assert held(relay) == 0
    assert kept.exists()
    assert relay.stop() == 0
