"""The ratios to go-smtp, and to itself, that this server is to reach, with those measured beside them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.measure import Sample

RIVAL: Final = "go-smtp"
HEAD: Final = ("| load | what | ratio | goal | met |", "|---|---|---:|---:|---|")


@dataclass(frozen=True)
class Goal:
    """A bound for a server's figure divided by its rival's in the same round. CPU is bounded from above, the
    rate from below."""

    load: str
    measure: str  # CPU, rate
    server: str
    bound: float
    fsync: bool = False
    rival: str = RIVAL

    @property
    def what(self) -> str:
        """What is divided by what."""
        mode = ", fsync" if self.fsync else ""
        return f"{self.measure}, {self.server} / {self.rival}{mode}"

    def ratios(self, samples: Sequence[Sample]) -> list[float]:
        """One for each round that measured both."""
        mine, theirs = (self._of(samples, server) for server in (self.server, self.rival))
        return [self._figure(a) / self._figure(b) for a, b in zip(mine, theirs, strict=False)]

    def met(self, ratio: float) -> bool:
        """True within the bound."""
        return ratio <= self.bound if self.measure == "CPU" else ratio >= self.bound

    def _of(self, samples: Sequence[Sample], server: str) -> list[Sample]:
        return [
            sample
            for sample in samples
            if (sample.server, sample.workload, sample.fsync) == (server, self.load, self.fsync)
        ]

    def _figure(self, sample: Sample) -> float:
        # The kernel counts CPU in hundredths of a second.
        return max(sample.cpu_per_1000, 10 / sample.mails) if self.measure == "CPU" else sample.rate


GOALS: Final = (
    Goal("ii", "CPU", "relay", 1.0),
    Goal("i", "CPU", "relay", 1.2),
    Goal("ii", "rate", "relay, workers 2", 1.0),
    Goal("ii", "rate", "relay", 1.2, fsync=True),
    Goal("iii", "CPU", "relay", 0.34),
    Goal("iv", "CPU", "relay", 0.31),
    Goal("v", "CPU", "relay", 0.8),
    Goal("ii", "CPU", "relay, sending", 1.03, rival="relay"),
)


def table(samples: Sequence[Sample]) -> str:
    """The goals whose servers and loads were measured; "" if none were."""
    rows = list(_rows(samples))
    return "\n".join([*HEAD, *rows]) + "\n" if rows else ""


def _rows(samples: Sequence[Sample]) -> Iterable[str]:
    for goal in GOALS:
        if not (ratios := goal.ratios(samples)):
            continue
        ratio = median(ratios)
        sign = "≤" if goal.measure == "CPU" else "≥"
        cells = [
            goal.load,
            goal.what,
            f"**{ratio:.2f}** ({min(ratios):.2f}–{max(ratios):.2f})",
            f"{sign} {goal.bound:g}",
            "yes" if goal.met(ratio) else "no",
        ]
        yield "| " + " | ".join(cells) + " |"
