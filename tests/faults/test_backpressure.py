"""With a slow spool or output, mails wait on the disk or with their clients, never in memory;
afterwards, all waiting mails are delivered."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import process
from tests.support.clients.load import Load, settle
from tests.support.clients.wire import Wire, stuffed, submit
from tests.support.net import HOST, wait_until
from tests.support.servers.endpoint import Says, endpoint
from tests.support.servers.relay import Relay, flow
from tests.support.servers.smarthost import Heard, smarthost

pytestmark = pytest.mark.slow

Make = Callable[..., Relay]

MEGABYTE = 1_048_576


def waiting(relay: Relay) -> int:
    """Unfinished mails of the spool."""
    with contextlib.closing(sqlite3.connect(relay.spool / "part-0" / "spool.db", timeout=10)) as db:
        count: int = db.execute("SELECT count(*) FROM mail").fetchone()[0]
        return count


def test_a_slow_output_fills_the_disk_not_the_memory(new_relay: Make) -> None:
    """160 mails of 100 KB while the next hop accepts none; then it accepts all."""
    open_again = threading.Event()

    def script(heard: Heard) -> str | None:
        if heard.verb == ".":
            open_again.wait(20)
        return None

    with smarthost(script) as host:
        hop = {"host": HOST, "port": host.port, "ignoreTLS": True, "pool": True, "maxConnections": 4}
        slow = flow()
        slow["outputs"] = [{"type": "mailer", "nodemailer": hop}]
        relay = new_relay({"flows": {"slow": slow}}).start()
        mail = b"Subject: x\r\n\r\n" + b"0123456789abcdef0123456789abcdef\r\n" * 3_000
        with Wire(relay.port, patience=30) as wire:
            wire.greet()
            wire.envelope()
            wire.send(stuffed(mail))
            assert wire.reply().code == 250
            memory, files = relay.resident(), relay.open_files()
            for _ in range(160):
                wire.envelope()
                wire.send(stuffed(mail))
                assert wire.reply().code == 250
        assert waiting(relay) >= 150, "the mails wait in the spool"
        assert relay.resident() - memory < 10 * MEGABYTE, "of 16 MB of mail"
        # In memory: the mails handed to the pool, 64 at most, each with its file open only for a
        # moment.
        assert relay.open_files() - files < 60
        open_again.set()
        wait_until(lambda: len(host.taken) == 161, seconds=60, what="all to be handed on")
        wait_until(lambda: waiting(relay) == 0, seconds=20, what="the spool to be empty")
    assert relay.stop() == 0


def test_a_slow_spool_makes_clients_wait_or_come_again(new_relay: Make) -> None:
    """Another process holds the database most of the time. 30 clients: those that cannot be served in
    time get 451 and keep their mails."""
    relay = new_relay({"delivery": {"wait": 1_500}}).start()
    load = Load()
    with load.senders(relay.port, 30):
        wait_until(lambda: len(load.answered) > 50, seconds=20, what="some mails")
        memory, files = relay.resident(), relay.open_files()
        ends = time.monotonic() + 4
        most = 0
        while time.monotonic() < ends:
            _hold(relay, 1.4)
            most = max(most, relay.resident())
            time.sleep(0.05)
        assert most - memory < 32 * MEGABYTE
        assert relay.open_files() - files < 70
        reached = len(load.answered)
        wait_until(lambda: len(load.answered) > reached + 50, seconds=20, what="more mails")
    settle(relay, least=len(load.answered))
    load.audit(relay.files())
    assert waiting(relay) == 0
    assert process.tree(relay.pid), "still there"
    assert relay.stop() == 0


def test_a_bucket_that_does_not_answer_makes_clients_come_again(new_relay: Make) -> None:
    """24 clients with a megabyte each, of which 4 may be on their way to the bucket."""
    with endpoint() as bucket:
        answers = threading.Event()
        bucket.answer = lambda asked: Says(200, headers={"ETag": '"1"'}, hang=answers)
        environment = {
            "AWS_ENDPOINT_URL": bucket.url.partition("/ask")[0],
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        spool = {"url": "s3://mails/relay", "timeout": 2_000, "bytesInFlight": 4 * MEGABYTE}
        flows = {"in": {**flow(), "outputs": [{"type": "log"}]}}
        relay = new_relay({"spool": spool, "flows": flows}, env=environment).start()
        mail = b"Subject: x\r\n\r\n" + b"0123456789abcdef0123456789abcde\r\n" * 31_000
        memory, files = relay.resident(), relay.open_files()
        codes: list[int] = []
        most = [0, 0]

        def send() -> None:
            codes.append(submit(relay.port, mail, "a@client.example", "b@server.example").code)

        senders = [threading.Thread(target=send, daemon=True) for _ in range(24)]
        for sender in senders:
            sender.start()
        while any(sender.is_alive() for sender in senders):
            most = [max(most[0], relay.resident()), max(most[1], relay.open_files())]
            time.sleep(0.05)
        assert codes == [451] * 24
        assert most[0] - memory < 24 * MEGABYTE, "of 24 MB of mail; the rest is the store's own"
        assert most[1] - files < 3 * 24 + 20, "a connection, a file and a part of an upload each"
        answers.set()
        wait_until(
            lambda: submit(relay.port, mail, "a@client.example", "b@server.example").code == 250,
            seconds=20,
            what="the bucket to be believed again",
        )
        wait_until(lambda: relay.open_files() - files < 12, seconds=10, what="the files to be closed")
        assert relay.stop() == 0


def _hold(relay: Relay, seconds: float) -> None:
    path: Path = relay.spool / "part-0" / "spool.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=10)) as db:
        db.execute("BEGIN IMMEDIATE")
        time.sleep(seconds)
        db.execute("ROLLBACK")
