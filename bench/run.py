"""Compare this relay with the servers of others. `make bench`, or `python -m bench.run -h`.

A server that is not here is left out, and a line says what it needs.

A quick comparison of two checkouts:
`python -m bench.run --quick --load ii --server relay --server stock --against ../other --no-fsync`
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import goals, latency, report, workloads
from bench.measure import Sample, one_round
from bench.peers.install import Missing
from bench.peers.servers import GoSmtp, Haraka, MailDev, Mailpit, Sink, Stock
from bench.servers import ROOT, Server

_SERVERS: Final[dict[str, Server]] = {
    "relay": Server("relay"),
    "relay2": Server("relay, workers 2", workers=2),
    "sending": Server("relay, sending", sending=True),
    "stock": Stock("stock"),
    "go": GoSmtp("go-smtp"),
    "haraka": Haraka("Haraka"),
    "maildev": MailDev("MailDev"),
    "mailpit": Mailpit("Mailpit"),
    "sink": Sink("smtp-sink"),
}
_TIMED: Final = 5_000
"""The size of mail, in bytes, up to which the times of single mails are taken."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 8192:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    servers, left_out = _ready([_SERVERS[name] for name in options.server or _SERVERS])
    if options.against:
        servers.append(Server(f"relay at {options.against.name}", root=options.against.resolve()))
    if not servers:
        raise SystemExit(2)
    loads = [
        workloads.ALL[name].scaled(0.25 if options.quick else 1) for name in options.load or workloads.ALL
    ]
    modes = options.modes or [False, True]
    timed = latency.MAILS // (4 if options.quick else 1)
    rounds = options.rounds or (1 if options.quick else 3)
    samples: list[Sample] = []
    options.work.mkdir(parents=True, exist_ok=True)
    # On ext4: spread the rounds' folders over the disk, away from files that were lately deleted.
    subprocess.run(["chattr", "+T", str(options.work)], check=False, capture_output=True)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        for number in range(rounds):
            for fsync in modes:
                for load in loads:
                    # In turn, because a server pays for what the one before it left on the disk.
                    for server in (*servers[number % len(servers) :], *servers[: number % len(servers)]):
                        if fsync and not server.syncs:
                            continue
                        place = Path(folder) / f"round-{len(samples)}"
                        sample = one_round(
                            server,
                            server.given(load),
                            place,
                            fsync=fsync,
                            pin=options.pin,
                            timed=timed if load.size <= _TIMED else 0,
                        )
                        samples.append(sample)
                        _tell(number + 1, rounds, sample)
    print("\n" + report.table(samples))
    print(goals.table(samples))
    if options.raw:
        options.raw.write_text(json.dumps([sample.record() for sample in samples], indent=1))
    if options.out:
        command = shlex.join(["python", "-m", "bench.run", *sys.argv[1:]])
        page = report.page(
            samples,
            command=command,
            rounds=rounds,
            servers={server.name: server.about for server in servers} | left_out,
            timed=timed,
            place=options.work,
            part=options.part,
        )
        report.write(options.out, options.part, page)


def _ready(wanted: Sequence[Server]) -> tuple[list[Server], dict[str, str]]:
    """The servers that can run here, and a line about each other by its name, which is also printed."""
    found, left_out = [], {}
    for server in wanted:
        try:
            server.ready()
        except Missing as error:
            left_out[server.name] = f"left out: {error}"
            print(f"{server.name} is left out: {error}", file=sys.stderr)
        else:
            found.append(server)
    return found, left_out


def _tell(number: int, rounds: int, sample: Sample) -> None:
    mode = "fsync   " if sample.fsync else "no fsync"
    print(
        f"round {number}/{rounds}  {mode}  {sample.workload:4} {sample.server:18} "
        f"{sample.rate:8,.0f} mails/s {sample.cpu_per_1000:7.2f} CPU s/1,000 {sample.memory / 1e6:6.0f} MB",
        *_times(sample),
        flush=True,
    )


def _times(sample: Sample) -> list[str]:
    return [
        f"{each.p50 * 1000:.2f} / {each.p99 * 1000:.2f} ms" for each in (sample.alone, sample.loaded) if each
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description=__doc__)
    parser.add_argument(
        "--load", action="append", choices=list(workloads.ALL), help="repeatable; all when left out"
    )
    parser.add_argument(
        "--server", action="append", choices=list(_SERVERS), help="repeatable; all when left out"
    )
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="also measure the relay of another checkout"
    )
    parser.add_argument("--rounds", type=int, help="interleaved rounds: 3, or 1 with --quick")
    parser.add_argument("--quick", action="store_true", help="a quarter of the mails, one round")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--no-fsync", dest="modes", action="store_const", const=[False])
    modes.add_argument("--fsync", dest="modes", action="store_const", const=[True])
    parser.add_argument("--pin", action="store_true", help="one core for the server, another for the load")
    parser.add_argument(
        "--out", type=Path, help="write its part of the page of results there (bench/RESULTS.md)"
    )
    parser.add_argument("--part", choices=("", "peers"), default="", help="the part of that page")
    parser.add_argument("--raw", type=Path, help="write every sample there as JSON")
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".state" / "bench", help="folder for spools and mails"
    )
    return parser


if __name__ == "__main__":
    main()
