"""The relay under test with everything around it: two disks, a next hop, an HTTP filter, a name
server, and a wall clock that can be set."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.faults.campaign.clocked import set_clock
from tests.faults.campaign.consumers import Shelf
from tests.faults.campaign.dependencies import (
    CLIENT_SECRET,
    HOOK_SECRET,
    ZONES,
    FilterServer,
    Hook,
    NextHop,
    TokenEndpoint,
)
from tests.faults.campaign.numbered_mails import CHECKED, DOOR
from tests.faults.campaign.targets import Targets, local_targets
from tests.support import process
from tests.support.disks import Disk, SlowableDisk, slowable_disk, small_disk
from tests.support.net import HOST, free_port
from tests.support.servers.dns_server import DnsServer
from tests.support.servers.endpoint import endpoint
from tests.support.servers.receiver import receiving
from tests.support.servers.relay import Relay
from tests.support.servers.smarthost import EXTENSIONS, Smarthost, smarthost
from tests.support.servers.token_server import token_server
from tests.support.thin_disk import ThinDisk, thin_disk

if TYPE_CHECKING:
    from tests.faults.campaign.spoiling import Spoiled

SPOOL_DISK: Final = 256  # megabytes
OUTPUT_DISK: Final = 256
THIN_DISK: Final = 384


@dataclass(frozen=True)
class Plan:
    """The parts of one relay under test."""

    workers: int = 1
    durable: bool = True
    on_doubt: str = "resend"
    disks: bool = True
    """Spool and second output on small file systems of their own."""
    clock: bool = False
    """The relay's wall clock can be set."""
    thin: bool = False
    """Spool and outputs on one disk that can lose writes, and the power can fail; `disks` is then False."""
    aws: bool = False
    """Mails are published to queue, topic and bus of a local AWS."""
    oauth: bool = False
    """The next hop takes access tokens only."""
    retention: bool = False
    """The second output and the checked one list their files, and remove none, because their limit is higher
    than the number of mails; the second one's files begin with the envelope."""


class Clocked(Relay):
    """A relay that runs by the clock of a file."""

    clock: Path | None

    def command(self) -> Sequence[str]:
        usual = super().command()
        if self.clock is None:
            return usual
        serve = list(usual).index("serve")
        return [usual[0], "-m", "tests.faults.campaign.clocked", str(self.clock), *usual[serve:]]


class RelayUnderTest:
    """The relay and everything around it. `ports` are those of its listeners, by name."""

    def __init__(self, folder: Path, plan: Plan, stack: ExitStack, seed: str) -> None:
        self.folder = folder
        self.plan = plan
        self.tokens = TokenEndpoint(stack.enter_context(token_server()), seed)
        self.next_hop = NextHop(seed, self.tokens.valid if plan.oauth else None)
        self.filter_server = FilterServer()
        self.smarthost: Smarthost = stack.enter_context(
            smarthost(self.next_hop, extensions=(*EXTENSIONS, "AUTH XOAUTH2"))
        )
        self.hook = Hook(seed)
        receiver = stack.enter_context(receiving())
        receiver.react = self.hook
        self._hook_url = receiver.url
        asked = stack.enter_context(endpoint())
        asked.answer = self.filter_server
        self.targets: Targets | None = None
        if plan.aws:
            self.targets = stack.enter_context(local_targets(folder / "aws", seed))
        self.dns = stack.enter_context(DnsServer(ZONES["fine"]))
        self.spool_disk: Disk | None = None
        self.output_disk: Disk | None = None
        if plan.disks:
            self.spool_disk = stack.enter_context(small_disk(folder / "spool-disk", SPOOL_DISK))
            self.output_disk = stack.enter_context(slowable_disk(folder / "output-disk", OUTPUT_DISK))
        self.thin: ThinDisk | None = None
        self.struck: Counter[str] = Counter()
        """Counts that prove that the faults have effects."""
        self.spool = folder / "spool-disk" / "spool"
        self.second = folder / "output-disk" / "second"
        self.checked = folder / "relay" / "checked"
        first = folder / "relay" / "received"
        if plan.thin:
            self.thin = stack.enter_context(thin_disk(folder / "thin", THIN_DISK))
            first, self.second, self.checked = (
                self.thin.path / name for name in ("received", "second", "checked")
            )
            self.spool = self.thin.path / "spool"
            self._make_room(self.thin, first)
        self.shelves = [Shelf(self.second), Shelf(self.checked)]
        self.clock = folder / "clock"
        """Fault to the number of its effects, for faults that count them."""
        self.spoiled: dict[str, Spoiled] = {}
        """Id to the damage of a stored mail."""
        self.metrics_port = free_port()
        checked = free_port()
        self.set_clock(0.0)
        self.relay = Clocked(
            folder / "relay",
            self._config(checked, asked.url),
            env=self.targets.environment if self.targets else {},
        )
        self.relay.clock = self.clock if plan.clock else None
        self.relay.config.pop("port")
        self.relay.config.pop("bind")
        self.relay.config["listeners"] = [
            {"name": DOOR, "port": self.relay.port, "bind": HOST},
            {"name": CHECKED, "port": checked, "bind": HOST},
        ]
        self.first = self.relay.received = first
        self.ports: Mapping[str, int] = {DOOR: self.relay.port, CHECKED: checked}

    def _config(self, checked: int, filter_server: str) -> dict[str, Any]:
        loopback = {"type": "whitelist", "ips": [HOST]}
        limit = {"retention": {"count": 1_000_000}} if self.plan.retention else {}
        listed = {**limit, "addRawHeaders": self.plan.retention}
        resolver = {"nameservers": [HOST], "port": self.dns.port, "timeout": 300}
        hop = {
            "host": HOST, "port": self.smarthost.port, "ignoreTLS": True, "pool": True, "maxConnections": 4,
            "connectionTimeout": 2_000, "greetingTimeout": 2_000, "socketTimeout": 3_000,
        }  # fmt: skip
        if self.plan.oauth:
            client = {
                "clientId": "relay",
                "clientSecret": CLIENT_SECRET,
                "accessUrl": self.tokens.url,
            }
            hop |= {"auth": {"type": "oauth2", "user": "u@x", **client}, "maxMessages": 5}
        return {
            "spool": {
                "url": f"file://{self.spool}",
                "durability": "fsync" if self.plan.durable else "none",
            },
            "workers": self.plan.workers,
            "filterTimeout": 1_000,
            "delivery": {
                "wait": 3_000,
                "retry": {"first": 150, "max": 600},
                "onDoubt": self.plan.on_doubt,
            },
            "prometheus": {"portNumber": self.metrics_port},
            "flows": {
                "files": {
                    "listeners": [DOOR],
                    "filters": [loopback, {"type": "whitelist", "to": [r"regexp:.*@server\.example"]}],
                    "outputs": [
                        {"type": "file", "path": "{received}", "name": "first"},
                        {"type": "file", "path": str(self.second), "filename": "${id}.eml", "name": "second"}
                        | listed,
                    ],
                },
                "relayed": {
                    "listeners": [DOOR],
                    "filters": [loopback, {"type": "whitelist", "to": [r"regexp:.*@relay\.example"]}],
                    "outputs": [{"type": "mailer", "nodemailer": hop, "name": "hop"}],
                },
                "posted": {
                    "listeners": [DOOR],
                    "filters": [loopback, {"type": "whitelist", "to": [r"regexp:.*@hook\.example"]}],
                    "outputs": [
                        {
                            "type": "webhook",
                            "name": "hook",
                            "url": self._hook_url,
                            "format": "raw",
                            "secret": HOOK_SECRET,
                            "timeout": 1_000,
                            "retry": {"first": 150, "max": 600},
                            "concurrency": 4,
                        }
                    ],
                },
                "published": {
                    "listeners": [DOOR],
                    "filters": [loopback, {"type": "whitelist", "to": [r"regexp:.*@topic\.example"]}],
                    "outputs": [{"type": "log"}] if self.targets is None else self.targets.outputs(),
                },
                "checked": {
                    "listeners": [CHECKED],
                    "filters": [
                        loopback,
                        {"type": "http-filter", "url": filter_server},
                        {"type": "mail-auth", "mailauth": {"resolver": resolver}},
                    ],
                    "outputs": [{"type": "file", "path": str(self.checked), "name": "checked"} | limit],
                },
            },
            "loggers": [{"type": "CONSOLE", "format": "json"}],
            "options": {"minFreeSpace": 4_000_000, "socketTimeout": 20_000, "closeTimeout": 8_000},
        }

    def _make_room(self, disk: ThinDisk, first: Path) -> None:
        """Have all folders' own blocks on the disk."""
        parts = [self.spool / f"part-{number}" for number in range(self.plan.workers)]
        inner = [part / name for part in parts for name in ("large", "staging")]
        moved = [folder.with_name(f"{folder.name}-moved") for folder in (self.second, self.checked)]
        self.spool.mkdir(mode=0o700)
        for folder in (*parts, *inner, first, self.second, self.checked, *moved):
            disk.make_room(folder)

    def set_clock(self, seconds: float) -> None:
        """Set the relay's wall clock so far ahead of the real one."""
        set_clock(self.clock, seconds)

    def slow_output(self, longest: float, seed: str) -> contextlib.AbstractContextManager[None]:
        """During the block the second output's disk makes all processes wait for up to so many seconds,
        if the machine can do that."""
        if longest and isinstance(self.output_disk, SlowableDisk):
            return self.output_disk.slow(longest, seed)
        return contextlib.nullcontext()

    def all_well(self) -> None:
        """Everything around works again."""
        self.next_hop.behaviour = self.filter_server.behaviour = "fine"
        self.hook.behaviour = self.tokens.behaviour = "fine"
        if self.targets is not None:
            self.targets.proxy.behaviour = "fine"
        self.dns.zone = ZONES["fine"]

    def retries(self) -> int:
        """The number of failed attempts at the next hop so far, by the log."""
        return self.relay.log().count("output failed, will be tried again")

    def databases(self) -> list[Path]:
        """The spool's parts."""
        return sorted(self.spool.glob("part-*/spool.db"))

    def count(self, query: str) -> int:
        """The sum of a query's number over all parts."""
        total = 0
        for path in self.databases():
            with contextlib.closing(sqlite3.connect(path, timeout=10)) as db:
                total += db.execute(query).fetchone()[0]
        return total

    def quiet(self, seconds: float = 90) -> None:
        """Wait until all mails are finished. Raises TimeoutError with the rest."""
        deadline = time.monotonic() + seconds
        while left := self.count("SELECT count(*) FROM mail WHERE parked = 0"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{left} mails are still owed:\n{self.relay.log()[-4_000:]}")
            time.sleep(0.05)

    def workers(self) -> list[int]:
        """The serving processes: all children but multiprocessing's own helpers."""
        if self.plan.workers == 1:
            return [self.relay.pid]
        helpers = (b"resource_tracker", b"forkserver")
        found = []
        for pid in process.tree(self.relay.pid)[1:]:
            command = process.command_line(pid)
            if command and not any(helper in command for helper in helpers):
                found.append(pid)
        return found


@contextmanager
def relay_under_test(folder: Path, plan: Plan, seed: str) -> Iterator[RelayUnderTest]:
    """A running relay under test; afterwards no process of it is left."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        made = RelayUnderTest(folder, plan, stack, seed)
        try:
            made.relay.start()
            yield made
        finally:
            if made.relay.alive:
                made.relay.kill()


def may_mount() -> bool:
    """True if small disks can be made here."""
    return os.geteuid() == 0
