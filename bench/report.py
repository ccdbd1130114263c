"""From samples to the markdown table: medians, and ratios paired round by round."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from bench import workloads
from bench.measure import Sample

BASE: Final = "stock"
MARK: Final = "<!-- mail-auth -->"
"""From this line on, RESULTS.md belongs to bench/mailauth.py."""
_WIDE: Final = 1.5  # if a server's rates spread more than this, its CPU time decides

_PAGE: Final = """\
# Benchmark results

`{command}` on {date}, revision {revision}.
{machine}

Load: Debian's smtp-source on the same machine. {rounds} interleaved rounds, each with a new server
process and a warm-up; figures are medians with the lowest and highest in brackets. *relay* runs its
whole pipeline: flows, envelope, log line, spool, file output, removal from the spool; its clock stops
when all mails are delivered. *stock* is aiosmtpd {aiosmtpd} on uvloop with a handler that writes each
mail to a temporary file and renames it; with fsync it syncs file and folder. *smtp-sink* throws the
mail away. Ratios compare the servers within a round; where a server's rates spread by more than
×{wide} (marked ~), the CPU ratio decides. CPU counts user and system time of the server's process
tree, memory is the highest peak of one process.

{loads}

{table}"""


def table(samples: Sequence[Sample], *, base: str = BASE) -> str:
    """One table for each mode. Ratios are to `base` in the same round: above 1 is better in both."""
    parts = []
    for fsync in sorted({sample.fsync for sample in samples}):
        chosen = [sample for sample in samples if sample.fsync is fsync]
        parts.append("### fsync before every answer" if fsync else "### Without fsync")
        parts.append("\n".join([*_HEAD, *_rows(chosen, base)]))
    return "\n\n".join(parts) + "\n"


def page(samples: Sequence[Sample], *, command: str, rounds: int) -> str:
    """The whole of RESULTS.md."""
    return _PAGE.format(
        command=command,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        revision=revision(),
        machine=machine(),
        rounds=rounds,
        aiosmtpd=_version("aiosmtpd"),
        wide=_WIDE,
        loads="\n".join(f"- **{load.name}** {load.what}" for load in workloads.ALL.values()),
        table=table(samples),
    )


def machine() -> str:
    """Cores, processor, memory, system and interpreter in one line."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"Machine: {os.cpu_count()} cores {model}, {memory:.0f} GiB, "
        f"Linux {platform.release().split('-')[0]}, "
        f"{platform.python_implementation()} {platform.python_version()}, uvloop {_version('uvloop')}."
    )


_HEAD: Final = (
    "| load | server | mails/s | × stock | CPU s/1,000 | × stock | MB |",
    "|---|---|---:|---:|---:|---:|---:|",
)


def _rows(samples: Sequence[Sample], base: str) -> Iterable[str]:
    loads = dict.fromkeys(sample.workload for sample in samples)
    servers = dict.fromkeys(sample.server for sample in samples)
    for load in loads:
        reference = _of(samples, load, base)
        for server in servers:
            own = _of(samples, load, server)
            if not own:
                continue
            wide = "~" if _spread(own) > _WIDE else ""
            cells = [
                load,
                server,
                wide + _cell(own, lambda sample: sample.rate),
                "" if server == base else _paired(own, reference, lambda a, b: a.rate / b.rate),
                _cell(own, lambda sample: sample.cpu_per_1000),
                "" if server == base else _paired(own, reference, lambda a, b: b.cpu / max(a.cpu, 0.01)),
                f"{max(sample.memory for sample in own) / 1e6:.0f}",
            ]
            yield "| " + " | ".join(cells) + " |"


def _of(samples: Sequence[Sample], load: str, server: str) -> list[Sample]:
    return [sample for sample in samples if sample.workload == load and sample.server == server]


def _spread(samples: Sequence[Sample]) -> float:
    rates = [sample.rate for sample in samples]
    return max(rates) / min(rates)


def _cell(samples: Sequence[Sample], value: Callable[[Sample], float]) -> str:
    values = [value(sample) for sample in samples]
    return f"{_figure(median(values))} ({_figure(min(values))}–{_figure(max(values))})"


def _paired(
    own: Sequence[Sample], reference: Sequence[Sample], ratio: Callable[[Sample, Sample], float]
) -> str:
    values = [ratio(a, b) for a, b in zip(own, reference, strict=False)]
    if not values:
        return ""
    return f"**{median(values):.2f}** ({min(values):.2f}–{max(values):.2f})"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)


def revision() -> str:
    """The checkout's revision, with `-dirty` if files differ from it."""
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"
