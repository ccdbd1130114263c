from __future__ import annotations

import math
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from functions.delivery.events import DeliveryEvents
from functions.errors import ConfigError
from listener.api.decision import Phase
from listener.monitoring import families
from listener.monitoring.board import VALUES, SharedMetrics
from listener.monitoring.events import Events
from listener.monitoring.exposition import Exposition
from listener.monitoring.metrics import Metrics
from tests.support.servers.relay import ROOT


class Scrape(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """A scrape as an independent parser reads it."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                key = sample.name, frozenset(sample.labels.items())
                assert key not in self, "a sample stands twice"
                self[key] = sample.value

    def __call__(self, name: str, **labels: str) -> float:
        return self[name, frozenset(labels.items())]


def scrape(shared_metrics: SharedMetrics, **options: object) -> Scrape:
    return Scrape(Exposition(shared_metrics, **options).render())  # type: ignore[arg-type]


def exercise(metrics: Metrics) -> None:
    metrics.connection_opened("smtp")
    metrics.connection_opened("smtp")
    metrics.connection_closed("smtp", 0.2)
    metrics.connection_refused("smtp", "max-clients")
    metrics.bytes_received(5000)
    metrics.stage("receive", 0.003)
    metrics.auth_failed("smtp")
    metrics.filter_verdict("whitelist_0", Phase.RCPT, "accept", 0.00001)
    metrics.mail_accepted(("in", "copy"))
    metrics.mail_rejected()
    metrics.mail_deferred()
    metrics.spool_stored(0.004)
    metrics.spool_error()
    metrics.output_done("in", "file_0", "delivered", 0.0007)
    metrics.output_done("in", "file_0", "error", 400.0)
    metrics.retry("in", "file_0")
    metrics.dead_letter("in", "file_0")
    metrics.in_doubt("in", "file_0")
    metrics.no_login("in", "file_0")
    metrics.backlog(86_400.0, 3, 1)
    metrics.tls_expiry("smtp", 1000.0 + 86_400 * 30)


def check(found: Scrape, times: int) -> None:
    assert found("smtp_relay_connections_total", listener="smtp") == 2 * times
    assert found("smtp_relay_connections_open", listener="smtp") == times
    assert found("smtp_relay_connections_refused_total", listener="smtp", reason="max-clients") == times
    assert found("smtp_relay_connection_duration_seconds_count", listener="smtp") == times
    assert found("smtp_relay_received_bytes_total") == 5000 * times
    assert found("smtp_relay_stage_duration_seconds_sum", stage="receive") == pytest.approx(0.003 * times)
    assert found("smtp_relay_auth_failures_total", listener="smtp") == times
    assert (
        found("smtp_relay_filter_verdicts_total", filter="whitelist_0", phase="rcpt", verdict="accept")
        == times
    )
    for flow in ("in", "copy"):
        assert found("smtp_relay_emails_total", flow=flow, status="accepted", output="") == times
    assert found("smtp_relay_emails_total", flow="", status="rejected", output="") == times
    assert found("smtp_relay_emails_total", flow="", status="deferred", output="") == times
    assert found("smtp_relay_emails_total", flow="in", status="delivered", output="file_0") == times
    assert found("smtp_relay_emails_total", flow="in", status="error", output="file_0") == times
    assert found("smtp_relay_spool_duration_seconds_count") == times
    assert found("smtp_relay_spool_errors_total") == times
    for name in ("retries", "dead_letters", "in_doubt", "login_failures"):
        assert found(f"smtp_relay_{name}_total", flow="in", output="file_0") == times
    output = {"flow": "in", "output": "file_0"}
    assert found("smtp_relay_output_duration_seconds_bucket", le="0.0005", **output) == 0
    assert found("smtp_relay_output_duration_seconds_bucket", le="0.001", **output) == times
    assert found("smtp_relay_output_duration_seconds_bucket", le="300", **output) == times
    assert found("smtp_relay_output_duration_seconds_bucket", le="+Inf", **output) == 2 * times
    assert found("smtp_relay_output_duration_seconds_count", **output) == 2 * times
    assert found("smtp_relay_unfinished_mails") == 3 * times
    assert found("smtp_relay_dead_records") == times


def test_every_event_is_seen_by_an_independent_parser() -> None:
    shared_metrics = SharedMetrics()
    exercise(Metrics(shared_metrics))
    found = scrape(shared_metrics, clock=lambda: 1000.0 + 86_400)
    check(found, 1)
    assert found("smtp_relay_tls_expiry_days", listener="smtp") == 29
    assert scrape(shared_metrics)("smtp_relay_oldest_unfinished_seconds") == pytest.approx(86_400, abs=60)


def test_the_oldest_mail_grows_older_between_two_sweeps() -> None:
    shared_metrics = SharedMetrics()
    Metrics(shared_metrics).backlog(60.0, 1, 0)
    found = scrape(shared_metrics, clock=lambda: time.time() + 300)
    assert found("smtp_relay_oldest_unfinished_seconds") == pytest.approx(360, abs=60)
    Metrics(shared_metrics).backlog(None, 0, 0)
    assert scrape(shared_metrics)("smtp_relay_oldest_unfinished_seconds") == 0


def test_metrics_overrides_every_event_of_the_observer() -> None:
    events = [name for name in (*vars(Events), *vars(DeliveryEvents)) if not name.startswith("_")]
    assert events
    assert [name for name in events if name not in vars(Metrics)] == []


def test_every_family_is_documented() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert [family.name for family in families.FAMILIES if f"`{family.name}`" not in page] == []


def test_scraping_changes_nothing() -> None:
    shared_metrics = SharedMetrics()
    exercise(Metrics(shared_metrics))
    exposition = Exposition(shared_metrics, clock=lambda: 5000.0)
    first = exposition.render()
    assert all(exposition.render() == first for _ in range(20))


def test_nothing_happened_yet() -> None:
    shared_metrics = SharedMetrics()
    metrics = Metrics(shared_metrics)
    metrics.expect(["smtp"], {"in": ["file_0"]})
    found = scrape(shared_metrics)
    assert found("smtp_relay_emails_total", flow="in", status="accepted", output="") == 0
    assert found("smtp_relay_emails_total", flow="in", status="error", output="file_0") == 0
    assert found("smtp_relay_dead_letters_total", flow="in", output="file_0") == 0
    assert found("smtp_relay_in_doubt_total", flow="in", output="file_0") == 0
    assert found("smtp_relay_login_failures_total", flow="in", output="file_0") == 0
    assert found("smtp_relay_connections_total", listener="smtp") == 0
    assert found("smtp_relay_spool_errors_total") == 0
    assert found("smtp_relay_oldest_unfinished_seconds") == 0
    assert not [key for key in found if key[0] == "smtp_relay_tls_expiry_days"]


def test_default_labels_are_on_every_sample_and_names_are_escaped() -> None:
    shared_metrics = SharedMetrics()
    Metrics(shared_metrics).mail_accepted(['a"b\\c\nd', "é\ud800"])
    found = scrape(shared_metrics, default_labels={"site": 'x"y'}, process_metrics=True)
    assert found("smtp_relay_emails_total", flow='a"b\\c\nd', status="accepted", output="", site='x"y') == 1
    assert found("smtp_relay_emails_total", flow="é?", status="accepted", output="", site='x"y') == 1
    assert all(("site", 'x"y') in labels for _, labels in found)


def test_the_room_of_the_spools_disk_is_shown_once_the_folder_exists(tmp_path: Path) -> None:
    shared_metrics = SharedMetrics()
    folder = tmp_path / "spool"
    free, size = "smtp_relay_spool_free_bytes", "smtp_relay_spool_size_bytes"
    assert not {free, size} & {name for name, _ in scrape(shared_metrics, spool_folder=folder)}
    folder.mkdir()
    found = scrape(shared_metrics, spool_folder=folder, default_labels={"site": "eu"})
    disk = shutil.disk_usage(folder)
    assert found(size, site="eu") == disk.total
    assert found(free, site="eu") == pytest.approx(disk.free, rel=0.1)
    assert not {free, size} & {name for name, _ in scrape(shared_metrics)}


def test_our_own_labels_stand_over_default_ones() -> None:
    shared_metrics = SharedMetrics()
    Metrics(shared_metrics).mail_accepted(["in"])
    found = scrape(shared_metrics, default_labels={"flow": "x", "le": "y"})
    assert found("smtp_relay_emails_total", flow="in", status="accepted", output="", le="y") == 1
    for name in ("", "a-b", "1a", "__x", "ä"):
        with pytest.raises(ConfigError, match="label"):
            Exposition(shared_metrics, {name: "x"})


def test_process_metrics_tell_of_this_process() -> None:
    shared_metrics = SharedMetrics(2)
    Metrics(shared_metrics, 0)
    found = scrape(shared_metrics, process_metrics=True)
    assert found("process_resident_memory_bytes", worker="0") > 1_000_000
    assert found("process_open_fds", worker="0") >= 3
    assert found("process_cpu_seconds_total", worker="0") > 0
    assert time.time() - 86_400 * 10 < found("process_start_time_seconds", worker="0") <= time.time() + 1
    assert ("process_open_fds", frozenset({("worker", "1")})) not in found
    assert not any(name.startswith("process_") for name, _ in scrape(shared_metrics))


def work(shared_metrics: SharedMetrics, index: int, rounds: int, oldest: float | None) -> None:
    """Counts as one worker does, from its start on."""
    metrics = Metrics(shared_metrics, index)
    for _ in range(rounds):
        metrics.connection_opened("smtp")
        metrics.mail_accepted(["in"])
        metrics.stage("reply", 0.01)
    metrics.backlog(oldest, 2, 0)


def test_two_workers_are_added_up_and_a_worker_started_again_goes_on() -> None:
    shared_metrics = SharedMetrics(2)
    work(shared_metrics, 0, 100, 500.0)
    work(shared_metrics, 1, 11, 700.0)
    for _ in range(3):
        found = scrape(shared_metrics)
        assert found("smtp_relay_emails_total", flow="in", status="accepted", output="") == 111
        assert found("smtp_relay_connections_open", listener="smtp") == 111
        assert found("smtp_relay_stage_duration_seconds_count", stage="reply") == 111
        assert found("smtp_relay_oldest_unfinished_seconds") == pytest.approx(700, abs=60)
        assert found("smtp_relay_unfinished_mails") == 4
    work(shared_metrics, 1, 5, None)
    found = scrape(shared_metrics)
    assert found("smtp_relay_emails_total", flow="in", status="accepted", output="") == 116
    assert found("smtp_relay_connections_open", listener="smtp") == 105, "the dead one's are closed"
    assert found("smtp_relay_oldest_unfinished_seconds") == pytest.approx(500, abs=60)


FORK = """
import os
from listener.monitoring.board import SharedMetrics
from listener.monitoring.exposition import Exposition
from listener.monitoring.metrics import Metrics
board = SharedMetrics(2)
child = os.fork()
if child == 0:
    Metrics(board, 1).mail_accepted(["in"])
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(Exposition(board).render().decode())
"""


def test_a_forked_worker_writes_where_the_parent_reads() -> None:
    # in a process of its own, because the test runner's has threads
    run = subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, capture_output=True, check=True)
    assert Scrape(run.stdout)("smtp_relay_emails_total", flow="in", status="accepted", output="") == 1


def test_scrapes_during_writes_never_fail_or_fall() -> None:
    shared_metrics = SharedMetrics()
    metrics = Metrics(shared_metrics)
    stop = threading.Event()

    def work() -> None:
        turn = 0
        while not stop.is_set():
            metrics.mail_accepted([f"flow{turn % 50}"])
            metrics.output_done("in", "file_0", "delivered", 0.001)
            turn += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        last = -math.inf
        for _ in range(30):
            found = scrape(shared_metrics)
            done = found.get(
                (
                    "smtp_relay_emails_total",
                    frozenset({("flow", "in"), ("status", "delivered"), ("output", "file_0")}),
                ),
                0,
            )
            assert done >= last
            last = done
    finally:
        stop.set()
        thread.join()
    assert last > 0


def test_what_delivery_threads_report_is_not_lost() -> None:
    shared_metrics = SharedMetrics()
    metrics = Metrics(shared_metrics)

    def work() -> None:
        for _ in range(2000):
            metrics.output_done("in", "file_0", "delivered", 0.5)
            metrics.retry("in", "file_0")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = scrape(shared_metrics)
    assert found("smtp_relay_emails_total", flow="in", status="delivered", output="file_0") == 8000
    assert found("smtp_relay_output_duration_seconds_count", flow="in", output="file_0") == 8000
    assert found("smtp_relay_output_duration_seconds_sum", flow="in", output="file_0") == 4000
    assert found("smtp_relay_retries_total", flow="in", output="file_0") == 8000


def test_series_beyond_the_shared_memory_are_counted_and_disturb_no_other() -> None:
    shared_metrics = SharedMetrics(2)
    metrics = Metrics(shared_metrics)
    metrics.bytes_received(7)
    for number in range(VALUES // families.OUTPUT_SECONDS.width + 10):
        metrics.output_done("in", f"o{number}", "delivered", 1.0)
    found = scrape(shared_metrics)
    assert found("smtp_relay_received_bytes_total") == 7
    assert found("smtp_relay_metrics_lost_series") > 10
    counts = [v for (name, _), v in found.items() if name == "smtp_relay_output_duration_seconds_count"]
    assert len(counts) > 500
    assert set(counts) == {1.0}
    assert shared_metrics.regions[1].pid == 0
    assert list(shared_metrics.regions[1].values[:100]) == [0.0] * 100
