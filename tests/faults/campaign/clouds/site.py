"""The campaign in a cloud: the listener spools into a bucket, the function delivers from it, and
everything between them and the cloud fails. The differences between clouds are in `Site`."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, Protocol

from functions.bucket.marks import Marks, dead_name, spooled_id
from tests.faults.campaign.clocked import set_clock
from tests.faults.campaign.clouds.observation import doubts, entries
from tests.faults.campaign.clouds.peers import Peers
from tests.faults.campaign.clouds.proxy import Proxy, proxy
from tests.faults.campaign.dependencies import Hook, NextHop, TokenEndpoint
from tests.faults.campaign.numbered_mails import DOOR
from tests.faults.campaign.relay_under_test import Clocked
from tests.support import process
from tests.support.net import HOST
from tests.support.servers.relay import ROOT
from tests.support.servers.smarthost import Smarthost, smarthost

if TYPE_CHECKING:
    from tests.faults.campaign.spoiling import Spoiled

PREFIX: Final = "relay/"
WORKERS: Final = 2
STUCK: Final = 1_000.0
"""Seconds without a finished mail after which a site counts as stuck. A claim that a killed run left under
a wrong clock holds for 900."""

FILED_FLOW: Final = "filed"
RELAYED_FLOW: Final = "relayed"
PUBLISHED_FLOW: Final = "published"

HOP: Final = "hop"
LOGIN: Final = "login"
SMTP: Final[Mapping[str, str]] = dict.fromkeys((HOP, LOGIN), "SMTP cannot ask whether a mail came through")
"""The outputs that send to another server, with the reason of their copies."""


class Behaves(Protocol):
    """A part around a site."""

    behaviour: str


class Around(NamedTuple):
    """One more part, how it may behave, and its behaviour in an outage."""

    name: str
    part: Behaves
    behaviours: Sequence[str]
    out: str


class Site(ABC):
    """A deployment with a proxy before each of its services:

    - `store`: the bucket, as the listener sees it;
    - `home`: the buckets, as the function sees them;
    - `calls`: the other services that the function calls;
    - `next_hop`: the smarthost of the `hop` output;
    - `around`: the other parts.
    """

    repeating: ClassVar[Mapping[str, str]]
    """Outputs whose API has no idempotent send, with the reason why a copy cannot be avoided."""

    published: ClassVar[Sequence[str]] = ()
    """Those of them that get the mails to PUBLISHED only."""

    def __init__(self, folder: Path, seed: str, on_doubt: str, stack: ExitStack) -> None:
        self.folder = folder
        self.on_doubt = on_doubt
        self.clock = folder / "clock"
        self.function_clock = folder / "function-clock"
        self.log = folder / "functions.log"
        self.set_clocks(0.0, 0.0)
        self.next_hop = NextHop(seed)
        self.smarthost: Smarthost = stack.enter_context(smarthost(self.next_hop))
        self.peers = Peers(folder, seed, stack)
        self.around = [
            Around("webhook", self.peers.hook, Hook.BEHAVIOURS, "hook down"),
            Around("tokens", self.peers.tokens, TokenEndpoint.BEHAVIOURS, "down"),
        ]
        self.copies: dict[str, Counter[str]] = {name: Counter() for name in self.repeating}
        """Output to how often each mail's id came out of it."""
        self.known: list[str] = []
        """Keys that were in the spool at some time."""
        self.struck: Counter[str] = Counter()
        """Fault to the number of its effects, for faults that count them."""
        self.spoiled: dict[str, Spoiled] = {}
        """Id to the damage of a stored mail."""
        self.entries_failed = 0
        """Events that EventBridge answered 200 and did not take."""
        self.outage_ends = 0.0
        self._apart: list[subprocess.Popen[bytes]] = []
        self.store: Proxy
        self.home: Proxy
        self.calls: Proxy
        self.relay: Clocked

    def set_clocks(self, listener: float, function: float) -> None:
        """Set the wall clocks so far ahead of the real one."""
        set_clock(self.clock, listener)
        set_clock(self.function_clock, function)

    def proxy(self, stack: ExitStack, port: int, name: str) -> Proxy:
        """One more proxy."""
        return stack.enter_context(proxy(port, name))

    def flows(self, filed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Flows by recipient: into the cloud's own outputs, to the next hops, and to the webhook."""
        loopback = {"type": "whitelist", "ips": [HOST]}
        hop = {
            "host": HOST, "port": self.smarthost.port, "ignoreTLS": True, "pool": True,
            "connectionTimeout": 2_000, "greetingTimeout": 2_000, "socketTimeout": 3_000,
        }  # fmt: skip
        return {
            FILED_FLOW: {
                "filters": [loopback, {"type": "whitelist", "to": [r"regexp:.*@server\.example"]}],
                "outputs": list(filed),
            },
            RELAYED_FLOW: {
                "filters": [loopback, {"type": "whitelist", "to": [r"regexp:.*@relay\.example"]}],
                "outputs": [{"type": "mailer", "nodemailer": hop, "name": HOP}],
            },
            "posted": {
                "filters": [loopback, {"type": "whitelist", "to": [r"regexp:.*@hook\.example"]}],
                "outputs": [self.peers.webhook()],
            },
            "logged-in": {
                "filters": [loopback, {"type": "whitelist", "to": [r"regexp:.*@login\.example"]}],
                "outputs": [self.peers.mailer()],
            },
        }

    def listen(self, raw: Mapping[str, Any], spool: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        """Make the listener."""
        config = {
            **raw,
            "spool": {**spool, "timeout": 3_000},
            "workers": WORKERS,
            "loggers": [{"type": "CONSOLE", "format": "json"}],
        }
        self.relay = Clocked(self.folder / "relay", config, env=environ, closeTimeout=8_000)
        self.relay.clock = self.clock

    def workers(self) -> list[int]:
        """The listener's serving processes."""
        helpers = (b"resource_tracker", b"forkserver")
        return [
            pid
            for pid in process.tree(self.relay.pid)[1:]
            if (command := process.command_line(pid)) and not any(each in command for each in helpers)
        ]

    @property
    @abstractmethod
    def spool_url(self) -> str:
        """The spool."""

    @property
    @abstractmethod
    def plain(self) -> Mapping[str, str]:
        """The environment of a process that reaches the cloud past all proxies."""

    @abstractmethod
    def output(self) -> str:
        """All that the function printed."""

    @abstractmethod
    def keys(self, below: str) -> list[str]:
        """The spool's keys below `PREFIX` and this."""

    @abstractmethod
    def read_spooled(self, key: str) -> bytes | None:
        """An object of the spool's bucket, past all proxies; None if it does not exist."""

    @abstractmethod
    def write_spooled(self, key: str, data: bytes) -> None:
        """Store an object there, and replace any old one."""

    @abstractmethod
    def stored(self) -> dict[str, bytes]:
        """The objects that the `store` output stored, by key."""

    @abstractmethod
    def collect(self) -> None:
        """Count in `copies` the deliveries since the last call."""

    @abstractmethod
    def notify(self, keys: Sequence[str]) -> None:
        """Send the cloud's event for each of these keys."""

    @abstractmethod
    def ring_late(self, keys: Sequence[str], moments: random.Random) -> str:
        """Have events of these keys arrive late, in another order."""

    @abstractmethod
    def silence(self, seconds: float) -> None:
        """Lose every event for a while."""

    @abstractmethod
    def kill_function(self, moments: random.Random) -> str:
        """SIGKILL to a process of the function."""

    @abstractmethod
    def stop_function(self, moments: random.Random) -> str:
        """SIGTERM to a process of the function."""

    @abstractmethod
    def at_once(self, keys: Sequence[str], runs: int, moments: random.Random) -> None:
        """Deliver the same events in several runs at the same time."""

    @abstractmethod
    def receipts(self, ids: Sequence[str]) -> set[tuple[str, str]]:
        """Mail and output of each effect that has its receipt, of the outputs in `repeating`."""

    def waiting(self) -> list[str]:
        """Keys of mails that are neither finished nor parked."""
        marks: dict[str, Marks] = {}
        for key in self.keys("dead/"):
            if (name := dead_name(key, PREFIX)) is not None:
                marks.setdefault(name[0], Marks()).add(name[1])
        found = []
        for key in self.keys("spool/"):
            mail_id = spooled_id(key, PREFIX)
            if mail_id is not None and not (mail_id in marks and marks[mail_id].is_parked):
                found.append(key)
        return found

    def see(self) -> list[str]:
        """The keys of mails in the spool; they are remembered."""
        keys = [key for key in self.keys("spool/") if spooled_id(key, PREFIX)]
        self.known = [*dict.fromkeys([*self.known[-2_000:], *keys])]
        return keys

    def command(self, *arguments: str, clock: float = 0.0) -> str:
        """Run `smtp-relay` beside everything; returns its output."""
        clock_file = self.folder / f"clock-{os.urandom(4).hex()}"
        set_clock(clock_file, clock)
        config = self.folder / "command.json"
        config.write_text(json.dumps({"spool": self.spool_url, "flows": {}}))
        at_end = ["--config", str(config)] if arguments[0] == "deadletter" else [str(config)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.campaign.clocked", str(clock_file), *arguments, *at_end],
            cwd=self.folder,
            env={**os.environ, **self.plain, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        clock_file.unlink()
        assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
        return done.stdout

    def sweep(self) -> None:
        """A sweep under a clock by which all mails in the spool are due."""
        self.command("sweep", clock=905.0)

    def apart(self, module: str, *arguments: str, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
        """Start a run of the function in a process of its own, in the function's environment."""
        run = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=self.folder,
            env={**os.environ, **environ, "PYTHONPATH": f"{environ['PYTHONPATH']}{os.pathsep}{ROOT}"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._apart.append(run)
        return run

    def all_well(self) -> None:
        """Everything works again."""
        self.store.behaviour = self.home.behaviour = self.calls.behaviour = self.next_hop.behaviour = "fine"
        for one in self.around:
            one.part.behaviour = "fine"
        self.set_clocks(0.0, 0.0)

    def finish(self) -> None:
        """Send notifications until all mails are finished. Claims of killed runs run out by themselves,
        so this takes as long as a run may. Raises TimeoutError if nothing makes progress any more."""
        for run in self._apart:
            run.wait(120)
        left, ends = sys.maxsize, 0.0
        while waiting := self.waiting():
            if len(waiting) < left:
                left, ends = len(waiting), time.monotonic() + STUCK
            elif time.monotonic() > ends:
                tail = "\n".join(str(entry) for entry in entries(self.log)[-30:])
                raise TimeoutError(f"{len(waiting)} mails are still owed: {waiting[:3]}\n{tail}")
            self.notify(waiting)
            wait_until_calm(self, waiting)
        self.collect()

    def doubts(self) -> Counter[tuple[str, str]]:
        """How often the function's log reports a mail and an output as in doubt."""
        return doubts(entries(self.log))


def wait_until_calm(site: Site, waiting: Sequence[str], seconds: float = 12) -> None:
    """Wait until all of these are done, or none was for a while."""
    ends = time.monotonic() + seconds
    left = len(waiting)
    while left and time.monotonic() < ends:
        site.collect()
        time.sleep(0.3)
        now = len(site.waiting())
        if now < left:
            left, ends = now, time.monotonic() + seconds


@contextmanager
def running(site: Site) -> Iterator[Mapping[str, int]]:
    """The listener runs during the block; the ports of its listeners by name."""
    site.relay.start()
    try:
        yield {DOOR: site.relay.port}
    finally:
        for run in site._apart:
            with contextlib.suppress(OSError):
                run.kill()
            run.wait()
        if site.relay.alive:
            site.relay.kill()


def together(work: Sequence[Callable[[], object]]) -> list[threading.Thread]:
    """Begin all of it at the same time; the threads."""
    threads = [threading.Thread(target=each, daemon=True) for each in work]
    for thread in threads:
        thread.start()
    return threads
