"""From samples to the markdown table: medians, and ratios paired round by round; and the parts of RESULTS.md,
which several benchmarks write.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Final

from bench import goals, latency, workloads
from bench.latency import Latency
from bench.measure import Sample
from bench.servers import ROOT

BASES: Final = {"stock": "stock", goals.RIVAL: "go"}
"""The servers that others are divided by, and the names of their columns."""

PARTS: Final = ("", "peers", "growth", "mail-auth")
"""The parts of RESULTS.md in their order. Those of bench/run.py are first; each but the first begins at its
mark."""

_TITLES: Final = {"": "# Benchmark results", "peers": "## Slower servers"}

_MARK: Final = re.compile(r"^<!-- ([\w-]+) -->\n", re.MULTILINE)
_WIDE: Final = 1.5  # if a server's rates spread more than this, its CPU time decides

_PAGE: Final = """\
{title}

`{command}` on {date}, revision {revision}.
{machine}

Load: Debian's smtp-source on the same machine. {rounds} interleaved rounds, each with a new server
process and a warm-up; figures are medians with the lowest and highest in brackets. The clock stops when
all mails are delivered and the server has no work left; then a reader counts the files. Ratios compare
the servers within a round, above 1 is better in both; where a server's rates spread by more than ×{wide}
(marked ~), the CPU ratio decides. CPU counts user and system time of the server's process tree, memory
is the highest peak of one process.

MAIL→250 is the time from MAIL to the 250 after the final dot, in milliseconds, p50 / p99: {connections}
connections send {mails} mails each, one after the other and nothing else (alone), then beside half of
the load (loaded). It is taken where mails have 5 KB.

{servers}

{loads}

{goals}{table}"""


def table(samples: Sequence[Sample]) -> str:
    """One table for each mode. Ratios are to the bases of the same round: above 1 is better in both."""
    parts = []
    for fsync in sorted({sample.fsync for sample in samples}):
        chosen = [sample for sample in samples if sample.fsync is fsync]
        bases = [base for base in BASES if any(sample.server == base for sample in chosen)]
        parts.append("### fsync before every answer" if fsync else "### Without fsync")
        parts.append("\n".join([*_head(bases), *_rows(chosen, bases)]))
    return "\n\n".join(parts) + "\n"


def page(
    samples: Sequence[Sample],
    *,
    command: str,
    rounds: int,
    servers: dict[str, str],
    timed: int,
    place: Path,
    part: str = "",
) -> str:
    """A part of bench/run.py. `servers` has a line about each by its name; `timed` is the number of mails
    of each connection that took their times; the mails were in the folder `place`."""
    reached = goals.table(samples)
    return _PAGE.format(
        title=_TITLES[part],
        command=command,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        revision=revision(),
        machine=machine(place),
        rounds=rounds,
        wide=_WIDE,
        connections=latency.CONNECTIONS,
        mails=timed,
        servers="\n".join(f"- *{name}*: {about}" for name, about in servers.items()),
        loads="\n".join(f"- **{load.name}** {load.what}" for load in workloads.ALL.values()),
        goals=f"### Goals\n\nBelow 1 is better for CPU, above 1 for the rate.\n\n{reached}\n"
        if reached
        else "",
        table=table(samples),
    )


def write(path: Path, part: str, text: str) -> None:
    """Replace one part of a page of results; the others stay as they are."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    first, *rest = _MARK.split(before)
    parts = {"": first, **dict(zip(rest[::2], rest[1::2], strict=True)), part: text}
    names = [*PARTS, *(name for name in parts if name not in PARTS)]
    written = [
        (f"<!-- {name} -->\n" if name else "") + parts[name].strip() for name in names if name in parts
    ]
    path.write_text("\n\n".join(each for each in written if each) + "\n", encoding="utf-8")


def machine(place: Path) -> str:
    """Cores, processor, memory, the file system of a folder, system and interpreter in one line."""
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
        f"Machine: {os.cpu_count()} cores {model}, {memory:.0f} GiB, {file_system(place)}, "
        f"Linux {platform.release().split('-')[0]}, "
        f"{platform.python_implementation()} {platform.python_version()} ({Path(sys.executable).resolve()}), "
        f"uvloop {version('uvloop')}."
    )


def file_system(place: Path) -> str:
    """The type of the file system that holds a folder (proc(5), mountinfo)."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        mount = fields.split()[4].encode().decode("unicode_escape")
        found[Path(mount)] = kind.split()[0]  # a later mount hides an earlier one
    resolved = place.resolve()
    return next((found[each] for each in (resolved, *resolved.parents) if each in found), "unknown")


def _head(bases: Sequence[str]) -> tuple[str, str]:
    ratios = [f"× {BASES[base]}" for base in bases]
    names = ["load", "server", "mails/s", *ratios, "CPU s/1,000", *ratios, "MB", "MAIL→250 alone", "loaded"]
    return f"| {' | '.join(names)} |", "|---|---" + "|---:" * (len(names) - 2) + "|"


def _rows(samples: Sequence[Sample], bases: Sequence[str]) -> Iterable[str]:
    loads = dict.fromkeys(sample.workload for sample in samples)
    servers = dict.fromkeys(sample.server for sample in samples)
    for load in loads:
        references = {base: _of(samples, load, base) for base in bases}
        for server in servers:
            own = _of(samples, load, server)
            if not own:
                continue
            others = {base: [] if base == server else samples for base, samples in references.items()}
            wide = "~" if _spread(own) > _WIDE else ""
            cells = [
                load,
                server,
                wide + _cell(own, lambda sample: sample.rate),
                *(_paired(own, other, lambda a, b: a.rate / b.rate) for other in others.values()),
                _cell(own, lambda sample: sample.cpu_per_1000),
                *(_paired(own, other, lambda a, b: b.cpu / max(a.cpu, 0.01)) for other in others.values()),
                f"{max(sample.memory for sample in own) / 1e6:.0f}",
                _times([sample.alone for sample in own]),
                _times([sample.loaded for sample in own]),
            ]
            yield "| " + " | ".join(cells) + " |"


def _times(found: Sequence[Latency | None]) -> str:
    taken = [each for each in found if each]
    if not taken:
        return ""
    p50, p99 = median(each.p50 for each in taken), median(each.p99 for each in taken)
    return f"{_figure(p50 * 1000)} / {_figure(p99 * 1000)}"


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


def revision() -> str:
    """The checkout's revision, with `-dirty` if files differ from it, apart from the page of results."""
    described = _git("describe", "--always")
    if described.returncode:
        return "unknown"
    changed = _git("diff", "--quiet", "HEAD", "--", ".", ":(exclude)bench/RESULTS.md").returncode
    return described.stdout.strip() + ("-dirty" if changed else "")


def _git(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
