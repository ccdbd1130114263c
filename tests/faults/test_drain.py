"""Relays are replaced behind HAProxy, and no client notices: each transaction ends in 250, each mail
is delivered once."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.faults.balancer import Balancer, Tally, clients, haproxy
from tests.support import process
from tests.support.clients.load import numbered
from tests.support.clients.wire import Wire, stuffed
from tests.support.mails.stored import strip_added_fields
from tests.support.net import HOST, answers, free_port, wait_until
from tests.support.servers.relay import Relay

pytestmark = pytest.mark.slow

_CHKDOWN = 22
"""Column of HAProxy's statistics: how often a server went from UP to DOWN."""

_NUMBER = re.compile(rb"X-Number: (\d+)\r\n")


class Site:
    """A relay `a`, and with a balancer before it also `b`."""

    def __init__(self, folder: Path, *, workers: int = 1, balanced: bool = False) -> None:
        self.relays: dict[str, Relay] = {}
        self.health: dict[str, int] = {}
        for name in "ab" if balanced else "a":
            self.health[name] = free_port()
            config = {"health": {"portNumber": self.health[name], "bind": HOST}, "workers": workers}
            self.relays[name] = Relay(folder / name, config, useProxy=[HOST] if balanced else False)

    def start(self) -> None:
        for relay in self.relays.values():
            relay.start()

    def ports(self) -> dict[str, tuple[int, int]]:
        return {name: (relay.port, self.health[name]) for name, relay in self.relays.items()}

    def audit(self, tally: Tally) -> None:
        """Every mail that a client counts as delivered is stored once, and whole."""
        for relay in self.relays.values():
            assert relay.stop() == 0
            assert "Traceback" not in relay.log()
        found: list[int] = []
        for relay in self.relays.values():
            for stored in relay.mails():
                number = int(_NUMBER.search(stored)[1])  # type: ignore[index]
                assert strip_added_fields(stored) == numbered(number)
                found.append(number)
        assert len(found) == len(set(found)), "stored twice"
        assert tally.delivered <= set(found), "answered 250 and not stored"


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    made = Site(tmp_path, **getattr(request, "param", {}))
    made.start()
    yield made
    for relay in made.relays.values():
        if relay.alive:
            relay.kill()


def grow(tally: Tally, by: int) -> None:
    """Wait for so many more mails."""
    target = len(tally.delivered) + by
    wait_until(lambda: len(tally.delivered) >= target or bool(tally.failed), seconds=30, what="mails")


def replace(site: Site, balancer: Balancer, name: str) -> None:
    """The steps of a rolling update: no new connections, SIGTERM, a new container, connections again."""
    balancer.command(f"set server relays/{name} state drain")
    assert site.relays[name].stop() == 0
    site.relays[name].start()
    balancer.command(f"set server relays/{name} state ready")
    balancer.wait_up(name)


def replace_worker(relay: Relay) -> None:
    """SIGTERM to one worker alone, until another serves in its place. Without both there would be no
    server."""
    wait_until(lambda: _listening(relay.port) == 2, seconds=20, what="both workers")
    victim = _workers(relay)[0]
    os.kill(victim, signal.SIGTERM)
    wait_until(
        lambda: victim not in process.tree(relay.pid) and _listening(relay.port) == 2,
        seconds=20,
        what="another worker",
    )


@contextmanager
def healthy(site: Site, name: str) -> Iterator[None]:
    """`/healthz` of a relay answers 200 at all times during the block."""
    stop = threading.Event()
    said: Counter[int] = Counter()

    def ask() -> None:
        with httpx.Client(base_url=f"http://{HOST}:{site.health[name]}", timeout=10) as client:
            while not stop.wait(0.01):
                said[client.get("/healthz").status_code] += 1

    wait_until(lambda: answers(site.health[name]), seconds=10, what="health")
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(15)
    assert said.keys() == {200}, said
    assert said[200] > 20


@pytest.mark.parametrize("site", [{"balanced": True}], indirect=True)
def test_containers_are_replaced_one_after_the_other(site: Site, tmp_path: Path) -> None:
    tally = Tally()
    with haproxy(tmp_path / "haproxy", site.ports()) as balancer:
        for name in "ab":
            balancer.wait_up(name)
        with clients(balancer.port, tally, 8):
            for name in "ab":
                grow(tally, 20)
                replace(site, balancer, name)
            grow(tally, 20)
    assert tally.failed == []
    site.audit(tally)


@pytest.mark.parametrize("site", [{"workers": 2}], indirect=True)
def test_workers_are_replaced_one_after_the_other(site: Site) -> None:
    """SIGTERM to a worker: it finishes its present work, while the other takes new connections."""
    tally = Tally()
    relay = site.relays["a"]
    with healthy(site, "a"), clients(relay.port, tally, 6):
        for _ in range(2):
            grow(tally, 20)
            replace_worker(relay)
        grow(tally, 20)
    assert tally.failed == []
    site.audit(tally)


@pytest.mark.parametrize("site", [{"workers": 2, "balanced": True}], indirect=True)
def test_workers_are_replaced_behind_a_balancer(site: Site, tmp_path: Path) -> None:
    """The balancer sees nothing of it: its server stays UP all the time."""
    tally = Tally()
    with haproxy(tmp_path / "haproxy", site.ports()) as balancer:
        for name in "ab":
            balancer.wait_up(name)
        downs = balancer.row("a")[_CHKDOWN]
        with healthy(site, "a"), clients(balancer.port, tally, 8):
            for _ in range(2):
                grow(tally, 20)
                replace_worker(site.relays["a"])
            grow(tally, 20)
        assert balancer.row("a")[_CHKDOWN] == downs
    assert tally.failed == []
    site.audit(tally)


def test_a_client_that_just_connected_still_sends_its_mail(site: Site) -> None:
    relay = site.relays["a"]
    with Wire(relay.port) as fresh, Wire(relay.port) as used:
        fresh.greet()
        used.begin()
        used.send(stuffed(numbered(1)))
        assert used.reply().code == 250
        assert relay.process is not None
        relay.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not answers(relay.port), seconds=10, what="the port to be closed")
        fresh.envelope()
        fresh.send(stuffed(numbered(2)))
        assert fresh.reply().code == 250
        assert fresh.command("QUIT").code == 221
        assert used.command("MAIL FROM:<a@client.example>").code == 421
    assert relay.process.wait(20) == 0
    assert len(relay.files()) == 2


def test_a_silent_client_holds_no_drain_up(site: Site) -> None:
    relay = site.relays["a"]
    with Wire(relay.port) as wire:
        wire.greet()
        assert relay.stop() == 0
        assert wire.reply().code == 421


def _workers(relay: Relay) -> list[int]:
    """The serving processes; the first child serves health."""
    helpers = (b"resource_tracker", b"forkserver")
    children = [
        pid
        for pid in process.tree(relay.pid)[1:]
        if (command := process.command_line(pid)) and not any(helper in command for helper in helpers)
    ]
    return sorted(children)[1:]


def _listening(port: int) -> int:
    """How many sockets take connections on a port (proc(5); state 0A is LISTEN)."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = (line.split() for line in lines)
    return sum(
        int(local.rpartition(":")[2], 16) == port and state == "0A" for _, local, _, state, *_ in fields
    )
