"""Prometheus' alert rules, made from the families of listener/monitoring; scripts/dashboard.py writes them.

Each says in its summary what is wrong, and in its description what to do.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from listener.monitoring import families as f


class Alert(NamedTuple):
    """One rule: it fires after the expression had a result for `wait`."""

    name: str
    expression: str
    wait: str
    severity: str
    summary: str
    remedy: str


def _increase(family: f.Family, window: str, by: str) -> str:
    if strange := set(by.split(", ")) - {*family.labels, "job", "instance"}:
        raise ValueError(f"{family.name} has no label {', '.join(strange)}")
    return f"sum by ({by}) (increase({family.name}[{window}]))"


_FAILED: Final = f'sum by (job, flow, output) (rate({f.EMAILS.name}{{status="error"}}[15m]))'
_TRIED: Final = f'sum by (job, flow, output) (rate({f.EMAILS.name}{{status=~"delivered|error"}}[15m]))'
_FREE: Final = "smtp_relay_spool_free_bytes"

ALERTS: Final = (
    Alert(
        "SmtpRelayDown",
        'up{job=~".*smtp-relay.*"} == 0 or absent(smtp_relay_build_info)',
        "2m",
        "critical",
        "No answer of smtp-relay {{ $labels.instance }}",
        "Prometheus gets no metrics. Read the server's log and restart it; if it runs, look at the port of "
        "`prometheus` in its configuration, at its `bind`, and at firewalls. The job's name must hold "
        "smtp-relay.",
    ),
    Alert(
        "SmtpRelaySpoolOld",
        f"{f.OLDEST.name} > 1800",
        "5m",
        "warning",
        "A mail waits for {{ $value | humanizeDuration }} on {{ $labels.instance }}",
        "Run `smtp-relay queue list` and `queue explain ID`: usually a destination is down, denies access or "
        "throttles. Fix the cause; `queue retry` makes mail due at once.",
    ),
    Alert(
        "SmtpRelayDiskNearlyFull",
        f"{_FREE} / smtp_relay_spool_size_bytes < 0.1 and {_FREE} < 10 * 1024 ^ 3",
        "5m",
        "warning",
        "{{ $value | humanizePercentage }} free for the spool of {{ $labels.instance }}",
        "Below `minFreeSpace` (100 MiB) the server answers 452 to every mail. Make room or enlarge the "
        "volume; limit folders that outputs fill with their retention options.",
    ),
    Alert(
        "SmtpRelaySpoolErrors",
        f"{_increase(f.SPOOL_ERRORS, '5m', 'job, instance')} > 0",
        "0m",
        "critical",
        "Mails are answered 451 by {{ $labels.instance }}: the spool does not store them",
        "The disk is full or fails, or the bucket is unreachable or denied. The log names the reason; "
        "clients send again later.",
    ),
    Alert(
        "SmtpRelayDeadLetters",
        f"{_increase(f.DEAD_LETTERS, '10m', 'job, flow, output')} > 0",
        "0m",
        "warning",
        "Output {{ $labels.output }} of flow {{ $labels.flow }} gave mails up",
        "Run `smtp-relay deadletter list`, fix the cause, then `deadletter replay` or `deadletter drop`.",
    ),
    Alert(
        "SmtpRelayDeliveriesFail",
        f"{_FAILED} / {_TRIED} > 0.5",
        "15m",
        "warning",
        "{{ $value | humanizePercentage }} of attempts of output {{ $labels.output }} fail",
        "The log has the destination's answer for each attempt. Mail waits and is tried again until "
        "`giveUpAfter`; fix the destination, its address or its permissions.",
    ),
    Alert(
        "SmtpRelayAuthFailures",
        f"{_increase(f.AUTH_FAILURES, '10m', 'job, listener')} > 50",
        "0m",
        "warning",
        "{{ $value | humanize }} failed logins in 10 minutes at listener {{ $labels.listener }}",
        "The log names clients and users. One user: a client has an old password. Many users: passwords are "
        "guessed; block the addresses, or narrow the listener to known networks.",
    ),
    Alert(
        "SmtpRelayCertificateEnds",
        f"{f.TLS_EXPIRY.name} < 14",
        "1h",
        "warning",
        "The certificate of listener {{ $labels.listener }} ends in {{ $value | humanize }} days",
        "Renew it. Changed files are read again; secret stores every hour.",
    ),
    Alert(
        "SmtpRelayQuiet",
        f'sum by (job) (increase({f.EMAILS.name}{{status="accepted"}}[12h])) == 0 '
        "and on (job) count by (job) (smtp_relay_build_info offset 12h)",
        "30m",
        "warning",
        "No mail for 12 hours",
        "Normal on a quiet relay: change the hours in the rule. Else a balancer, DNS or a firewall keeps "
        "clients out: send one with `smtp-relay send`.",
    ),
    Alert(
        "SmtpRelayInDoubt",
        f"{_increase(f.IN_DOUBT, '1h', 'job, flow, output')} > 0",
        "0m",
        "info",
        "Output {{ $labels.output }} got no answer and may have taken effect",
        "A recipient may have a mail twice, or not. The log has the mail's id; ask the destination's log.",
    ),
    Alert(
        "SmtpRelayMetricsLost",
        "smtp_relay_metrics_lost_series > 0",
        "10m",
        "info",
        "{{ $value | humanize }} series of {{ $labels.instance }} have no room",
        "Too many flows and outputs for the shared memory: run fewer workers, or give fewer names.",
    ),
)


def rules() -> str:
    """Prometheus' rule file."""
    lines = ["# Made by `make dashboard`.", "groups:", "  - name: smtp-relay", "    rules:"]
    for one in ALERTS:
        lines += [
            f"      - alert: {one.name}",
            f"        expr: {json.dumps(one.expression)}",
            f"        for: {one.wait}",
            "        labels:",
            f"          severity: {one.severity}",
            "        annotations:",
            f"          summary: {json.dumps(one.summary)}",
            f"          description: {json.dumps(one.remedy)}",
        ]
    return "\n".join(lines) + "\n"
