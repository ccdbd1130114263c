"""A disk that loses writes and reports it once: no mail that was answered 250 is gone after the next
power cut, and no mail is answered 250 while that could happen."""

from __future__ import annotations

import contextlib
import itertools
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.support.clients.load import Load, numbered, settle
from tests.support.clients.wire import Closed, submit
from tests.support.net import HOST, free_port, wait_until
from tests.support.servers.relay import Relay
from tests.support.thin_disk import ThinDisk, thin_disk

Make = Callable[..., Relay]

HELD: Final = {"mode": "events"}
"""No output delivers: mails stay in the spool."""

IMPATIENT: Final = {"wait": 3000, "retry": {"first": 200, "max": 400}}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[ThinDisk]:
    with thin_disk(tmp_path / "disk") as made:
        yield made


class Sender:
    """Sends numbered mails, one after the other, and remembers which were answered 250."""

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.load = Load()
        self.number = 0

    def send(self, *, large: bool | None = None) -> int:
        """The answer to the next mail: its code, 0 if there was none. Large mails are files of the
        spool."""
        self.number += 1
        while large is not None and large != (self.number % 7 == 0):
            self.number += 1
        self.load.sent.add(self.number)
        try:
            code = submit(self.relay.port, numbered(self.number)).code
        except (AssertionError, OSError, Closed):
            return 0
        if code == 250:
            self.load.answered.add(self.number)
        return code

    def until(self, code: int, *, seconds: float = 120, large: bool | None = None) -> None:
        """Send until a mail gets that answer."""
        deadline = time.monotonic() + seconds
        while (said := self.send(large=large)) != code:
            assert time.monotonic() < deadline, f"{said} all the time:\n{self.relay.log()[-3_000:]}"
            time.sleep(0.02)

    def taken(self, count: int) -> None:
        """Send until so many more were answered 250."""
        for _ in range(count):
            self.until(250)


def ready(port: int) -> bool:
    """True if `/readyz` is green."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"http://{HOST}:{port}/readyz", timeout=5).status_code == 200
    return False


def delivered(relay: Relay, disk: ThinDisk, load: Load) -> None:
    """After a power cut and a start with outputs, every mail that was answered 250 exists, whole, and
    none twice."""
    if relay.alive:
        relay.kill()
    disk.cut()
    relay.config["delivery"] = IMPATIENT
    relay.start()
    wait_until(lambda: len(relay.files()) >= len(load.answered), seconds=30, what="all mails")
    settle(relay, least=len(load.answered))
    load.audit(relay.files())


class TestSpool:
    @pytest.fixture(params=[1, 2])
    def sender(self, new_relay: Make, disk: ThinDisk, request: pytest.FixtureRequest) -> Sender:
        self.health = free_port()
        self.workers = request.param
        config: dict[str, Any] = {
            "spool": f"file://{disk.path}/spool",
            "delivery": HELD,
            "workers": request.param,
            "health": {"portNumber": self.health, "bind": HOST},
        }
        return Sender(new_relay(config, minFreeSpace=0).start())

    @pytest.mark.parametrize("large", [False, None, True])
    def test_no_mail_is_taken_until_the_spool_was_written_anew(
        self, sender: Sender, disk: ThinDisk, large: bool | None
    ) -> None:
        sender.taken(5)
        wait_until(lambda: ready(self.health), seconds=20, what="/readyz")
        disk.starve()
        failed = refused(sender, large)
        assert not ready(self.health)
        if self.workers == 1:  # another's part may have the room that it needs
            for _ in range(10):
                assert sender.send(large=large) != 250
        disk.relieve()
        sender.taken(20)
        wait_until(lambda: ready(self.health), seconds=30, what="/readyz to be green again")
        assert failed
        delivered(sender.relay, disk, sender.load)

    def test_a_restart_alone_cures_nothing(self, sender: Sender, disk: ThinDisk) -> None:
        sender.taken(5)
        disk.starve()
        refused(sender, None)
        sender.relay.kill()
        disk.relieve()
        sender.relay.start()
        sender.taken(20)
        delivered(sender.relay, disk, sender.load)

    def test_started_while_the_disk_still_fails(self, sender: Sender, disk: ThinDisk) -> None:
        sender.taken(5)
        disk.starve()
        refused(sender, None)
        sender.relay.kill()
        sender.relay.start()
        assert not ready(self.health)
        if self.workers == 1:  # another's part may have the room that it needs
            for _ in range(5):
                assert sender.send() != 250
        disk.relieve()
        sender.taken(20)
        delivered(sender.relay, disk, sender.load)

    def test_stopped_and_started(self, sender: Sender, disk: ThinDisk) -> None:
        sender.taken(5)
        disk.starve()
        refused(sender, None)
        disk.relieve()
        sender.relay.config["options"]["closeTimeout"] = 1000
        assert sender.relay.stop() == 0
        sender.relay.start()
        sender.taken(20)
        delivered(sender.relay, disk, sender.load)

    def test_the_power_fails_before_the_disk_works_again(self, sender: Sender, disk: ThinDisk) -> None:
        sender.taken(30)
        disk.starve()
        refused(sender, None)
        delivered(sender.relay, disk, sender.load)

    def test_under_load(self, sender: Sender, disk: ThinDisk) -> None:
        load, relay = sender.load, sender.relay
        with load.senders(relay.port, 6):
            wait_until(lambda: len(load.answered) > 100, seconds=30, what="some mails")
            for _ in range(3):
                seen = relay.log().count("sync")  # the disk may fail before the next line is over
                disk.starve()
                wait_until(lambda s=seen: relay.log().count("sync") > s, seconds=30, what="a failed sync")  # type: ignore[misc]
                disk.relieve()
                so_far = len(load.answered)
                wait_until(lambda n=so_far: len(load.answered) > n + 50, seconds=60, what="mails after it")  # type: ignore[misc]
        delivered(relay, disk, load)
        assert "Traceback" not in relay.log()


def refused(sender: Sender, large: bool | None) -> int:
    """Send until the disk was asked for new blocks, and its loss was reported; returns the answer."""
    for _ in range(2_000):
        if (code := sender.send(large=large)) != 250:
            assert code in (451, 452), code
            return code
    raise AssertionError("every mail was taken: the disk lost nothing")


class TestOutput:
    @pytest.fixture(params=["fsync", "syncfs"])
    def burst(self, request: pytest.FixtureRequest) -> int:
        """How many mails wait for one flush: few are synced one by one, many by their file system."""
        return 3 if request.param == "fsync" else 60

    @pytest.fixture(params=[1, 2])
    def relay(self, new_relay: Make, disk: ThinDisk, request: pytest.FixtureRequest) -> Relay:
        """Its outputs are on the disk, its spool is not."""
        config: dict[str, Any] = {
            "spool": "file://{folder}/spool",
            "delivery": IMPATIENT,
            "workers": request.param,
            "flows": {
                "all": {
                    "filters": [{"type": "whitelist", "ips": [HOST]}],
                    "outputs": [
                        {"type": "file", "path": str(disk.path / "in"), "filename": "${id}.eml"},
                        {
                            "type": "file",
                            "path": str(disk.path / "copies"),
                            "filename": "${flow}/${id}.eml",
                        },
                    ],
                }
            },
        }
        for folder in ("in", "copies", "copies/all", "taken"):
            disk.make_room(disk.path / folder)
        relay = new_relay(config)
        relay.received = disk.path / "in"
        return relay.start()

    @pytest.mark.parametrize("large", [False, True])
    def test_a_mail_leaves_the_spool_when_its_files_were_written_anew(
        self, relay: Relay, disk: ThinDisk, burst: int, large: bool
    ) -> None:
        sender = Sender(relay)
        sender.taken(3)
        gone(relay)
        disk.starve()
        at_once(sender, burst, large=large)
        wait_until(lambda: "could not be made durable" in relay.log(), seconds=20, what="a failed sync")
        disk.relieve()
        gone(relay)
        relay.kill()
        disk.cut()
        sender.load.audit(relay.files())
        sender.load.audit(list((disk.path / "copies").rglob("[!.]*.eml")))

    def test_the_process_dies_before_they_were(self, relay: Relay, disk: ThinDisk, burst: int) -> None:
        sender = Sender(relay)
        sender.taken(3)
        gone(relay)
        disk.starve()
        at_once(sender, burst, large=None)
        wait_until(lambda: "could not be made durable" in relay.log(), seconds=20, what="a failed sync")
        relay.kill()
        disk.relieve()
        relay.start()
        gone(relay)
        relay.kill()
        disk.cut()
        sender.load.audit(relay.files())

    def test_a_consumer_moved_them_meanwhile(self, relay: Relay, disk: ThinDisk, burst: int) -> None:
        sender = Sender(relay)
        sender.taken(3)
        gone(relay)
        disk.starve()
        at_once(sender, burst, large=None)
        for path in relay.files():
            path.rename(disk.path / "taken" / path.name)
        wait_until(lambda: "could not be made durable" in relay.log(), seconds=20, what="a failed sync")
        disk.relieve()
        gone(relay)
        assert relay.files() == []
        relay.kill()
        os.sync()  # a consumer must sync its own renaming
        disk.cut()
        sender.load.audit(list((disk.path / "taken").iterdir()))


def at_once(sender: Sender, count: int, *, large: bool | None) -> None:
    """So many mails, as fast as they are accepted."""
    with ThreadPoolExecutor(8) as pool:
        numbers = itertools.count(1_000)
        wanted = [n for n in itertools.islice(numbers, 20 * count) if large is None or large == (n % 7 == 0)]
        sender.load.sent |= set(wanted[:count])

        def send(number: int) -> None:
            if submit(sender.relay.port, numbered(number)).code == 250:
                sender.load.answered.add(number)

        list(pool.map(send, wanted[:count]))


def gone(relay: Relay) -> None:
    """Wait until no mail is left in the spool."""

    def empty() -> bool:
        left = 0
        for path in relay.spool.glob("part-*/spool.db"):
            with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
                left += db.execute("SELECT count(*) FROM mail").fetchone()[0]
        return not left

    wait_until(empty, seconds=40, what="an empty spool", every=0.05)
