"""The observer that counts events (docs/metrics.md). Imported only when `prometheus` is configured.

An event costs a dictionary lookup and one to three stores into shared memory: no lock in the event loop,
no system call, no flush. The events of delivery threads take a lock, because adding to a double is a
read and a write.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from threading import Lock
from typing import Any, Final

from functions.delivery.events import Status
from listener.api.decision import Phase, Verdict
from listener.monitoring import families as f
from listener.monitoring.board import SharedMetrics, WorkerMetrics
from listener.monitoring.events import Events, Stage

_BUCKETS: Final = f.SECONDS
_ABOVE: Final = len(_BUCKETS)  # index of the bucket above the last bound
_SUM: Final = _ABOVE + 1


class _SeriesIndex(dict[Any, int]):
    """Label value (a tuple if there are several) to the start of the series' values."""

    def __init__(self, region: WorkerMetrics, family: f.Family, lock: Lock) -> None:
        self._region = region
        self._family = family
        self._lock = lock

    def __missing__(self, key: Any) -> int:
        labels = key if isinstance(key, tuple) else (key,)
        with self._lock:
            if key not in self:
                self[key] = self._region.add(self._family, tuple(map(str, labels)))
            return self[key]


class _Pairs(dict[tuple[Any, ...], tuple[int, int]]):
    """Maps the arguments of an event that counts and times to both places, so it costs one lookup.

    `count` and `time` give the label values of the two from the arguments.
    """

    def __init__(
        self,
        counts: _SeriesIndex,
        count: Callable[..., tuple[str, ...]],
        times: _SeriesIndex,
        time: Callable[..., Any],
    ) -> None:
        self._counts, self._count = counts, count
        self._times, self._time = times, time

    def __missing__(self, key: tuple[Any, ...]) -> tuple[int, int]:
        pair = self[key] = self._counts[self._count(*key)], self._times[self._time(*key)]
        return pair


class _Largest:
    """A gauge of the largest value of the minute in which it was last set."""

    def __init__(self, values: memoryview[float], places: _SeriesIndex) -> None:
        self._values = values
        self._places = places
        self._minutes: dict[Any, float] = {}

    def set(self, key: tuple[str, ...], value: float) -> None:
        place, minute = self._places[key], time.monotonic() // 60
        if self._minutes.get(key) != minute:
            self._minutes[key] = minute
            self._values[place] = value
        elif value > self._values[place]:
            self._values[place] = value


class Metrics(Events):
    """Counts into one worker's region of the board."""

    __slots__ = (
        "_accepted",
        "_attempts",
        "_auth_failures",
        "_bytes",
        "_command_errors",
        "_connection_seconds",
        "_connections",
        "_dead",
        "_dead_letters",
        "_deferred",
        "_in_doubt",
        "_limit_used",
        "_lock",
        "_mail_auth",
        "_no_login",
        "_oldest",
        "_open",
        "_outputs",
        "_over_limit",
        "_recipients_counted",
        "_refused",
        "_rejected",
        "_respond",
        "_retries",
        "_spool_errors",
        "_spool_seconds",
        "_stages",
        "_tls_expiry",
        "_unfinished",
        "_untrusted_proxies",
        "_values",
        "_verdicts",
    )

    def __init__(self, shared_metrics: SharedMetrics, worker: int = 0) -> None:
        region = shared_metrics.regions[worker]
        left = region.claim()
        self._values = region.values
        self._lock = Lock()
        registry = Lock()
        at = {family: _SeriesIndex(region, family, registry) for family in f.FAMILIES}
        for series in left:
            key = series.labels[0] if len(series.labels) == 1 else series.labels
            at[series.family][key] = series.start
            if series.family.kind == "gauge":
                self._values[series.start] = 0.0  # the process that wrote these is gone
        self._connections = at[f.CONNECTIONS]
        self._open = at[f.CONNECTIONS_OPEN]
        self._refused = at[f.CONNECTIONS_REFUSED]
        self._connection_seconds = at[f.CONNECTION_SECONDS]
        self._untrusted_proxies = at[f.UNTRUSTED_PROXIES]
        self._stages = at[f.STAGE_SECONDS]
        self._auth_failures = at[f.AUTH_FAILURES]
        self._command_errors = at[f.COMMAND_ERRORS]
        self._verdicts = _Pairs(
            at[f.FILTER_VERDICTS],
            lambda name, phase, verdict: (name, phase.name.lower(), verdict),
            at[f.FILTER_SECONDS],
            lambda name, phase, verdict: name,
        )
        self._mail_auth = at[f.MAIL_AUTH]
        self._recipients_counted = at[f.RECIPIENTS_COUNTED]
        self._limit_used = _Largest(self._values, at[f.LIMIT_USED])
        self._over_limit = at[f.OVER_LIMIT]
        self._outputs = at[f.EMAILS]
        self._attempts = _Pairs(
            at[f.EMAILS],
            lambda flow, output, status: (flow, status, output),
            at[f.OUTPUT_SECONDS],
            lambda flow, output, status: (flow, output),
        )
        self._retries = at[f.RETRIES]
        self._dead_letters = at[f.DEAD_LETTERS]
        self._no_login = at[f.NO_LOGIN]
        self._in_doubt = at[f.IN_DOUBT]
        self._tls_expiry = at[f.TLS_EXPIRY]
        self._accepted: dict[str, int] = {}
        self._rejected = at[f.EMAILS]["", "rejected", ""]
        self._deferred = at[f.EMAILS]["", "deferred", ""]
        self._bytes = at[f.BYTES][()]
        self._spool_seconds = at[f.SPOOL_SECONDS][()]
        self._spool_errors = at[f.SPOOL_ERRORS][()]
        self._oldest = at[f.OLDEST][()]
        self._unfinished = at[f.UNFINISHED][()]
        self._dead = at[f.DEAD][()]
        self._respond = at[f.RESPOND][()]

    def expect(self, listeners: Iterable[str], flows: Mapping[str, Iterable[str]]) -> None:
        """Show the series of these listeners, and of these flows with their outputs' names, from the
        start, because a series that appears with its first event hides that event from `increase()`."""
        for listener in listeners:
            for places in (self._connections, self._open, self._auth_failures, self._untrusted_proxies):
                places[listener]
            for code in ("500", "501", "530"):
                self._command_errors[listener, code, ""]
        for flow, outputs in flows.items():
            self._outputs[flow, "accepted", ""]
            for output in outputs:
                for status in ("delivered", "error"):
                    self._outputs[flow, status, output]
                for places in (self._retries, self._dead_letters, self._no_login, self._in_doubt):
                    places[flow, output]

    def scripted(self, active: bool) -> None:
        self._values[self._respond] = float(active)

    def connection_opened(self, listener: str) -> None:
        values = self._values
        values[self._connections[listener]] += 1
        values[self._open[listener]] += 1

    def connection_closed(self, listener: str, seconds: float) -> None:
        values = self._values
        values[self._open[listener]] -= 1
        start = self._connection_seconds[listener]
        values[start + bisect_left(_BUCKETS, seconds)] += 1
        values[start + _SUM] += seconds

    def connection_refused(self, listener: str, reason: str) -> None:
        self._values[self._refused[listener, reason]] += 1

    def untrusted_proxy(self, listener: str) -> None:
        self._values[self._untrusted_proxies[listener]] += 1

    def bytes_received(self, octets: int) -> None:
        self._values[self._bytes] += octets

    def stage(self, stage: Stage, seconds: float) -> None:
        values = self._values
        start = self._stages[stage]
        values[start + bisect_left(_BUCKETS, seconds)] += 1
        values[start + _SUM] += seconds

    def auth_failed(self, listener: str) -> None:
        self._values[self._auth_failures[listener]] += 1

    def command_error(self, listener: str, code: int, mechanism: str) -> None:
        self._values[self._command_errors[listener, str(code), mechanism]] += 1

    def filter_verdict(self, name: str, phase: Phase, verdict: Verdict, seconds: float) -> None:
        values = self._values
        place, start = self._verdicts[name, phase, verdict]
        values[place] += 1
        values[start + bisect_left(_BUCKETS, seconds)] += 1
        values[start + _SUM] += seconds

    def mail_auth(self, name: str, method: str, result: str) -> None:
        self._values[self._mail_auth[name, method, result]] += 1

    def recipient_counted(self, name: str, rule: str, share: float) -> None:
        self._values[self._recipients_counted[name, rule]] += 1
        self._limit_used.set((name, rule), share)

    def over_limit(self, name: str, rule: str, limit: str) -> None:
        self._values[self._over_limit[name, rule, limit]] += 1

    def mail_accepted(self, flows: Iterable[str]) -> None:
        values, accepted = self._values, self._accepted
        for flow in flows:
            place = accepted.get(flow)
            if place is None:
                place = accepted[flow] = self._outputs[flow, "accepted", ""]
            values[place] += 1

    def mail_rejected(self) -> None:
        self._values[self._rejected] += 1

    def mail_deferred(self) -> None:
        self._values[self._deferred] += 1

    def spool_stored(self, seconds: float) -> None:
        values, start = self._values, self._spool_seconds
        values[start + bisect_left(_BUCKETS, seconds)] += 1
        values[start + _SUM] += seconds

    def spool_error(self) -> None:
        self._values[self._spool_errors] += 1

    def output_done(self, flow: str, output: str, status: Status, seconds: float) -> None:
        values = self._values
        place, start = self._attempts[flow, output, status]
        with self._lock:
            values[place] += 1
            values[start + bisect_left(_BUCKETS, seconds)] += 1
            values[start + _SUM] += seconds

    def retry(self, flow: str, output: str) -> None:
        place = self._retries[flow, output]
        with self._lock:
            self._values[place] += 1

    def dead_letter(self, flow: str, output: str) -> None:
        place = self._dead_letters[flow, output]
        with self._lock:
            self._values[place] += 1

    def no_login(self, flow: str, output: str) -> None:
        place = self._no_login[flow, output]
        with self._lock:
            self._values[place] += 1

    def in_doubt(self, flow: str, output: str) -> None:
        place = self._in_doubt[flow, output]
        with self._lock:
            self._values[place] += 1

    def backlog(self, oldest: float | None, unfinished: int, dead: int) -> None:
        values = self._values
        # A Unix time, so the shown age goes on growing until the next sweep.
        values[self._oldest] = 0.0 if oldest is None else time.time() - oldest
        values[self._unfinished] = unfinished
        values[self._dead] = dead

    def tls_expiry(self, listener: str, not_after: float | None) -> None:
        self._values[self._tls_expiry[listener]] = not_after or 0.0
