"""Compare this relay with stock aiosmtpd, go-smtp and smtp-sink. `make bench`, or `python -m bench.run -h`.

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

from bench import report, workloads
from bench.measure import Sample, one_round
from bench.servers import GO_PACKAGES, ROOT, Server, go_smtp

_SERVERS: Final = {
    "relay": Server("relay", "relay"),
    "relay2": Server("relay, workers 2", "relay", workers=2),
    "sending": Server("relay, sending", "relay", sending=True),
    "stock": Server("stock", "stock"),
    "sink": Server("smtp-sink", "sink"),
    "go": Server("go-smtp", "go"),
}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 8192:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    servers = [_SERVERS[name] for name in options.server or _SERVERS]
    if any(server.kind == "go" for server in servers) and go_smtp() is None:
        print(f"go-smtp is left out: it needs {GO_PACKAGES}", file=sys.stderr)
        servers = [server for server in servers if server.kind != "go"]
    if options.against:
        servers.append(Server(f"relay at {options.against.name}", "relay", root=options.against.resolve()))
    loads = [
        workloads.ALL[name].scaled(0.25 if options.quick else 1) for name in options.load or workloads.ALL
    ]
    modes = options.modes or [False, True]
    rounds = options.rounds or (1 if options.quick else 3)
    samples: list[Sample] = []
    options.work.mkdir(parents=True, exist_ok=True)
    # On ext4: spread the rounds' folders over the disk, away from files that were lately deleted.
    subprocess.run(["chattr", "+T", str(options.work)], check=False, capture_output=True)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        for number in range(rounds):
            for fsync in modes:
                for load in loads:
                    for server in servers:
                        if server.kind == "sink" and fsync and False in modes:
                            continue  # it writes nothing: one mode is enough
                        place = Path(folder) / f"round-{len(samples)}"
                        sample = one_round(server, load, place, fsync=fsync, pin=options.pin)
                        samples.append(sample)
                        _tell(number + 1, rounds, sample)
    print("\n" + report.table(samples))
    if options.raw:
        options.raw.write_text(json.dumps([sample.record() for sample in samples], indent=1))
    if options.out:
        command = shlex.join(["python", "-m", "bench.run", *sys.argv[1:]])
        # Parts that other benchmarks wrote into the same file, from their mark on, stay.
        rest = options.out.read_text().partition(report.MARK) if options.out.exists() else ("", "", "")
        page = report.page(samples, command=command, rounds=rounds)
        options.out.write_text(f"{page}\n{rest[1]}{rest[2]}" if rest[1] else page)


def _tell(number: int, rounds: int, sample: Sample) -> None:
    mode = "fsync   " if sample.fsync else "no fsync"
    print(
        f"round {number}/{rounds}  {mode}  {sample.workload:4} {sample.server:18} "
        f"{sample.rate:8,.0f} mails/s {sample.cpu_per_1000:7.2f} CPU s/1,000 {sample.memory / 1e6:6.0f} MB",
        flush=True,
    )


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
    parser.add_argument("--out", type=Path, help="write the page of results there (bench/RESULTS.md)")
    parser.add_argument("--raw", type=Path, help="write every sample there as JSON")
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".state" / "bench", help="folder for spools and mails"
    )
    return parser


if __name__ == "__main__":
    main()
