"""Measures the inbox beside a busy server. `python -m bench.inbox -h`.

The folder holds 10,000 mails of everyday text. Load ii brings more into it over SMTP, while one client reads
the list and searches, 50 mails a page. Rounds with an inbox and without one are interleaved; CPU per mail is
that of the SMTP server alone.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final
from urllib.parse import urlencode

from bench.measure import one_round
from bench.servers import Running, Server
from bench.workloads import ALL
from tests.support import process
from tests.support.inbox.mails import MOMENT, block, mail
from tests.support.net import HOST, free_port, wait_until

MODULE: Final = b"listener.inbox.web.process"
_SYLLABLES: Final = [first + second for first in "bdfghklmnprstvw" for second in ("a", "e", "in", "or", "u")]
VOCABULARY: Final = [
    "".join(random.Random(number).choices(_SYLLABLES, k=1 + number % 4)) for number in range(5_000)
]
"""Words whose frequency falls with their place, as in a language (Zipf's law)."""

SEARCHES: Final = (
    "q", "zx", "in", VOCABULARY[2], VOCABULARY[51], VOCABULARY[1_001], "person77", "subject:invoice",
    "from:person5", f"is:unread {VOCABULARY[11]}", f"-{VOCABULARY[21]} number", "Your code",
)  # fmt: skip
GOALS: Final = {"list": 50.0, "search": 100.0}
"""Milliseconds of the 95th percentile."""


def fill(folder: Path, mails: int) -> None:
    """Store mails of 1 to 8 KB as the output does."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = random.Random(1)
    often = list(itertools.accumulate(1 / (place + 1) for place in range(len(VOCABULARY))))
    for number in range(mails):
        lines = [
            " ".join(chosen.choices(VOCABULARY, cum_weights=often, k=11))
            for _ in range(chosen.randrange(12, 120))
        ]
        made = mail(
            f"{chosen.choice(('Invoice', 'Welcome', 'Your code'))} number {number}",
            "\n".join(lines) + "\n",
            From=f"Person {number} <person{number % 500}@client.example>",
            Message_ID=f"<{number}@client.example>",
        )
        top = block(f"user{number % 20}@h.example", ms=MOMENT + number * 1_000)
        (folder / f"{number}.eml").write_bytes(top + made.as_bytes())


@dataclass
class Times:
    """Milliseconds of each request, by kind and by what it asked."""

    of: dict[str, list[float]] = field(default_factory=dict)
    memory: int = 0
    cpu: float = 0.0

    def p95(self, kind: str) -> float:
        """The 95th percentile of all requests of a kind."""
        every = [one for name, times in self.of.items() if name.startswith(kind) for one in times]
        return quantiles(every, n=20)[-1]


@dataclass(frozen=True)
class WithInbox(Server):
    """The relay, whose folder holds mails before it starts, with an inbox or without one."""

    mails: int = 10_000
    port: int = 0
    seen: Times = field(default_factory=Times)

    def _command(self, work: Path, received: Path, port: int, *, fsync: bool) -> Sequence[str]:
        command = super()._command(work, received, port, fsync=fsync)
        path = work / "relay.json"
        config = json.loads(path.read_text())
        config["flows"]["bench"]["outputs"][0]["addRawHeaders"] = True
        if self.port:
            fill(received, self.mails)
            config["inbox"] = {"port": self.port}
        path.write_text(json.dumps(config))
        return command

    def start(self, work: Path, port: int, *, fsync: bool, cpu: int | None) -> Running:
        """Also wait until the inbox has all mails."""
        running = super().start(work, port, fsync=fsync, cpu=cpu)
        return Beside(running.process, running.received, running.files, self) if self.port else running


@dataclass
class Beside(Running):
    """A started relay whose inbox is asked while the load runs."""

    server: WithInbox

    def __post_init__(self) -> None:
        wait_until(lambda: ask(self.server.port, "/livez") == b"ok", seconds=120, what="the inbox")
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def arrived(self) -> int:
        """Without the mails that were there before."""
        return super().arrived() - self.server.mails

    def cpu_seconds(self) -> float:
        """Without the inbox."""
        return super().cpu_seconds() - process.cpu_seconds(inbox_of(self.process.pid))

    def stop(self) -> None:
        """Read the meters of the inbox first."""
        self._end.set()
        self._thread.join()
        inbox = inbox_of(self.process.pid)
        self.server.seen.memory = max(self.server.seen.memory, process.peak_resident(inbox))
        self.server.seen.cpu = process.cpu_seconds(inbox)
        super().stop()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(HOST, self.server.port, timeout=60)
        for kind, path in _requests():
            if self._end.is_set():
                return
            began = time.perf_counter()
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read()
            taken = (time.perf_counter() - began) * 1_000
            if reply.status != 200 or not body.startswith(b"{"):
                raise AssertionError((path, reply.status, body[:200]))
            self.server.seen.of.setdefault(kind, []).append(taken)
            self._end.wait(0.02)


def _requests() -> Iterator[tuple[str, str]]:
    while True:
        for query in SEARCHES:
            yield "list", "/api/v1/messages?" + urlencode({"limit": 50, "start": 0})
            yield f"search {query}", "/api/v1/search?" + urlencode({"query": query, "limit": 50})


def ask(port: int, path: str) -> bytes:
    """What the inbox answers, b"" while it does not."""
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except OSError:
        return b""
    finally:
        connection.close()


def inbox_of(pid: int) -> int:
    """The process of the inbox of a server."""
    (found,) = (one for one in process.tree(pid) if MODULE in process.command_line(one))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.inbox", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stored", type=int, default=10_000, help="mails in the folder before the load")
    parser.add_argument("--mails", type=int, default=8_000, help="for each round's load")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args(arguments)
    load = ALL["ii"].scaled(options.mails / ALL["ii"].mails)
    rounds: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        for number in range(options.rounds):
            inbox = WithInbox("with", mails=options.stored, port=free_port())
            found: dict[str, Any] = {"seen": inbox.seen}
            for server in (WithInbox("without"), inbox):
                work = Path(folder) / f"{number}-{server.name}"
                found[server.name] = one_round(server, load, work, fsync=False, pin=False)
            rounds.append(found)
            _print(found)
    print(f"\nmedians of {options.rounds} rounds, {load.what}, {options.stored} stored mails")
    for kind, goal in GOALS.items():
        print(f"{kind} p95: {median(one['seen'].p95(kind) for one in rounds):.0f} ms (goal {goal:.0f})")
    print(f"CPU of SMTP: {median(_extra(one) for one in rounds):+.1f} % per mail (goal 5)")
    print(f"memory: {median(one['seen'].memory for one in rounds) / 1_048_576:.0f} MiB (goal 120 MB)")


def _extra(found: dict[str, Any]) -> float:
    return (found["with"].cpu_per_1000 / found["without"].cpu_per_1000 - 1) * 100


def _print(found: dict[str, Any]) -> None:
    seen: Times = found["seen"]
    for name, times in sorted(seen.of.items()):
        print(
            f"{name:20} {len(times):4} requests, median {median(times):6.1f} ms, worst {max(times):6.1f} ms"
        )
    for name in ("without", "with"):
        print(f"{name:8} {found[name].cpu_per_1000:.3f} s CPU/1,000, {found[name].rate:.0f} mails/s")
    print(f"inbox: {seen.cpu:.1f} s CPU since its start, {seen.memory / 1_048_576:.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
