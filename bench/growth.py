"""CPU time and memory of one mail as flows, recipients and bytes grow. `python -m bench.growth -h`.

Each flow has a whitelist with a `regexp:` for recipients and a `file` output with a folder of its own.
The mails come one after the other over one connection, durable before each answer: a mail that comes
alone costs the most.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench import report
from bench.measure import Sample, one_round
from bench.servers import ROOT, Running, Server, relay_config
from bench.workloads import Workload

_FLOWS: Final = (1, 5, 20)
_RECIPIENTS: Final = (1, 100)
_SIZES: Final = (5_000, 39_000_000)  # bytes
_CHEAP: Final = 400  # mails with one flow and one recipient
_BOUNDS: Final = {(20, 1): 12.0, (1, 100): 6.0}
"""The most milliseconds of CPU for a mail, by flows and recipients, on the machine of the goals."""

_PAGE: Final = """\
## Growth

`{command}` on {date}, revision {revision}.
{machine}

{intro}
Medians of {rounds} interleaved rounds, each with a new server, the lowest and highest in brackets. On ext4
without a journal, files that others deleted within minutes before make each new file dearer.

{tables}"""


@dataclass(frozen=True)
class ManyFlows(Server):
    """The relay with so many flows, each with a folder in that of the mails."""

    flows: int = 1

    @property
    def files(self) -> int:
        """The number of files that one mail becomes."""
        return self.flows

    def config(self, work: Path, received: Path, port: int, *, fsync: bool) -> dict[str, Any]:
        """The configuration of a server with these flows."""
        config = relay_config(work, received, port, fsync=fsync, workers=self.workers)
        config["flows"] = {
            f"flow-{number}": {
                "filters": [{"type": "whitelist", "to": r"regexp:[^@]*@server\.example"}],
                "outputs": [{"type": "file", "path": str(received / f"flow-{number}")}],
            }
            for number in range(self.flows)
        }
        return config

    def running(self, process: subprocess.Popen[bytes], received: Path) -> Running:
        """Counts the files of all flows."""
        return _InFolders(process, received, files=True)


class _InFolders(Running):
    def arrived(self) -> int:
        return sum(1 for _, _, names in os.walk(self.received) for name in names if not name.startswith("."))


def load(flows: int, recipients: int, size: int) -> Workload:
    """The mails of one cell of a table: fewer where each costs more."""
    mails = 8 if size > 1_000_000 else max(40, _CHEAP // max(1, flows // 4, recipients // 10))
    return Workload(
        f"{flows} × {recipients}, {size:,} bytes", "", size, 1, mails, reuse=True, recipients=recipients
    )


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    places = [ROOT] if options.against is None else [ROOT, options.against.resolve()]
    cells = [(flows, recipients, _SIZES[0]) for recipients in _RECIPIENTS for flows in _FLOWS]
    cells += [(1, 1, size) for size in _SIZES[1:]]
    samples: dict[tuple[Path, tuple[int, int, int]], list[Sample]] = {}
    options.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        for number in range(options.rounds):
            for cell in cells:
                for place in places:
                    server = ManyFlows("relay", root=place, flows=cell[0])
                    work = Path(folder) / f"round-{number}-{'-'.join(map(str, cell))}-{places.index(place)}"
                    sample = one_round(server, load(*cell), work, fsync=not options.no_fsync, pin=False)
                    samples.setdefault((place, cell), []).append(sample)
                    cost = f"{sample.cpu_per_1000:7.2f} ms {sample.memory / 2**20:5.0f} MiB"
                    print(f"round {number + 1}/{options.rounds}  {sample.workload:22} {cost}  {place.name}")
    tables = "\n".join(
        _table(
            {cell: own for (at, cell), own in samples.items() if at == place}, place.name if at_all else ""
        )
        for at_all in [len(places) > 1]
        for place in places
    )
    print(f"\n{tables}")
    if options.out:
        page = _PAGE.format(
            command=shlex.join(["python", "-m", "bench.growth", *sys.argv[1:]]),
            date=f"{datetime.now(UTC):%Y-%m-%d}",
            revision=report.revision(),
            machine=report.machine(options.work),
            intro=(__doc__ or "").partition("\n\n")[2].strip(),
            rounds=options.rounds,
            tables=tables,
        )
        report.write(options.out, "growth", page)


def _table(samples: dict[tuple[int, int, int], list[Sample]], name: str) -> str:
    lines = [f"### {name}", ""] if name else []
    lines += [
        "| flows × recipients | bytes | CPU ms a mail | times 1 × 1 | goal, ms | MiB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    least = median(sample.cpu_per_1000 for sample in samples[1, 1, _SIZES[0]])
    for (flows, recipients, size), own in samples.items():
        costs = [sample.cpu_per_1000 for sample in own]
        cost = f"**{median(costs):.2f}** ({min(costs):.2f}–{max(costs):.2f})"
        times = f"{median(costs) / least:.1f}"
        bound = _BOUNDS.get((flows, recipients)) if size == _SIZES[0] else None
        goal = f"≤ {bound:g}" if bound else ""
        memory = max(sample.memory for sample in own) / 2**20
        lines.append(f"| {flows} × {recipients} | {size:,} | {cost} | {times} | {goal} | {memory:.0f} |")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds: 3")
    parser.add_argument(
        "--against", type=Path, metavar="DIR", help="also measure the relay of another checkout"
    )
    parser.add_argument("--no-fsync", action="store_true", help="answer before a mail is durable")
    parser.add_argument(
        "--out", type=Path, help="write its part of the page of results there (bench/RESULTS.md)"
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / ".state" / "bench", help="folder for spools and mails"
    )
    return parser


if __name__ == "__main__":
    main()
