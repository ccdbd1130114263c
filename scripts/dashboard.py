"""Write Grafana's dashboard and Prometheus' alert rules, from the families of listener/monitoring.

    python -m scripts.dashboard             writes infra/monitoring/dashboard.json and alerts.yaml
    python -m scripts.dashboard --check     writes nothing; exit 1 with a line for each file that differs

The dashboard has the JSON model of Grafana 8 and newer (schemaVersion 36, grafana.com/docs, "JSON model").
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from listener.monitoring import families as f
from scripts.alerts import rules

ROOT: Final = Path(__file__).resolve().parents[1]
FOLDER: Final = ROOT / "infra" / "monitoring"

SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
CHOSEN: Final = '{job=~"$job",instance=~"$instance"}'
WIDTH: Final = 24
"""Columns of Grafana's grid."""


# --- queries -------------------------------------------------------------------------------


def rate(family: f.Family, by: str = "", suffix: str = "", only: str = "") -> str:
    """A counter's events in a second, or those of a histogram's part, by labels of the family. `only` narrows
    its series, in PromQL."""
    labels = [label for label in by.split(", ") if label and label != "le"]
    if strange := set(labels) - set(family.labels):
        raise ValueError(f"{family.name} has no label {', '.join(strange)}")
    chosen = CHOSEN if not only else CHOSEN.replace("}", f",{only}}}")
    return f"sum by ({by}) (rate({family.name}{suffix}{chosen}[$__rate_interval]))"


def quantile(family: f.Family, by: str = "") -> str:
    """The time within which 95 of 100 events ended."""
    return f"histogram_quantile(0.95, {rate(family, ', '.join(filter(None, ('le', by))), '_bucket')})"


def over_time(name: str, how: str, by: str = "") -> str:
    """A gauge of all chosen instances."""
    return f"{how} by ({by}) ({name}{CHOSEN})"


class Panel(NamedTuple):
    """One panel: `queries` are pairs of a query and a legend, `width` of the grid's 24 columns."""

    title: str
    about: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    width: int = 8
    kind: str = "timeseries"


def stat(title: str, about: str, query: str, unit: str = "short") -> Panel:
    """One figure."""
    return Panel(title, about, ((query, title),), unit, 4, "stat")


PANELS: Final = (
    stat("Listeners up", "Servers that answer Prometheus.", over_time("up", "sum")),
    stat("Unfinished mails", "In the spool now.", over_time(f.UNFINISHED.name, "sum")),
    stat("Oldest unfinished mail", "Its age.", over_time(f.OLDEST.name, "max"), "s"),
    stat("Dead records", "Outputs given up: deadletter list.", over_time(f.DEAD.name, "sum")),
    stat("Room for the spool", "The least free.", over_time("smtp_relay_spool_free_bytes", "min"), "bytes"),
    stat("Certificate ends in", "The first one.", over_time(f.TLS_EXPIRY.name, "min"), "d"),
    Panel(
        "Mails",
        "Accepted by a flow, refused (5yz), deferred (4yz); delivered and error are attempts of outputs.",
        (
            (rate(f.EMAILS, "status"), "{{status}}"),
            (rate(f.RECIPIENTS_COUNTED, "rule"), "recipients of {{rule}}"),
        ),
        "mails/s",
    ),
    Panel(
        "Attempts by output",
        "What each output answered.",
        (
            (
                rate(f.EMAILS, "flow, output, status", only='status=~"delivered|error"'),
                "{{flow}} {{output}} {{status}}",
            ),
        ),
        "ops",
    ),
    Panel(
        "Retries, dead letters, in doubt",
        "Attempts to be repeated, outputs given up, calls without an answer, logins that failed.",
        (
            (rate(f.RETRIES, "output"), "retries {{output}}"),
            (rate(f.DEAD_LETTERS, "output"), "dead letters {{output}}"),
            (rate(f.IN_DOUBT, "output"), "in doubt {{output}}"),
            (rate(f.NO_LOGIN, "output"), "no login {{output}}"),
        ),
        "ops",
    ),
    Panel(
        "Spool",
        "Mails that wait, and mails that the spool did not store.",
        (
            (over_time(f.UNFINISHED.name, "sum", "instance"), "unfinished {{instance}}"),
            (over_time(f.OLDEST.name, "max", "instance"), "oldest, seconds {{instance}}"),
            (rate(f.SPOOL_ERRORS), "errors/s"),
        ),
    ),
    Panel(
        "Time until durable, and of outputs",
        "Within which 95 % ended.",
        (
            (quantile(f.SPOOL_SECONDS), "spool"),
            (quantile(f.OUTPUT_SECONDS, "output"), "{{output}}"),
        ),
        "s",
    ),
    Panel(
        "Time of each stage",
        "Within which 95 % ended: TLS, login, receiving, filters, spool, reply.",
        (
            (quantile(f.STAGE_SECONDS, "stage"), "{{stage}}"),
            (quantile(f.FILTER_SECONDS, "filter"), "filter {{filter}}"),
        ),
        "s",
    ),
    Panel(
        "Connections",
        "Open now, and accepted in a second.",
        (
            (over_time(f.CONNECTIONS_OPEN.name, "sum", "listener"), "open {{listener}}"),
            (rate(f.CONNECTIONS, "listener"), "accepted/s {{listener}}"),
            (quantile(f.CONNECTION_SECONDS, "listener"), "duration, 95 % {{listener}}"),
        ),
    ),
    Panel(
        "Refused and failed",
        "Connections, logins and commands that were refused.",
        (
            (rate(f.CONNECTIONS_REFUSED, "reason"), "connections: {{reason}}"),
            (rate(f.AUTH_FAILURES, "listener"), "logins {{listener}}"),
            (rate(f.COMMAND_ERRORS, "code"), "commands: {{code}}"),
            (rate(f.UNTRUSTED_PROXIES, "listener"), "PROXY headers {{listener}}"),
            (rate(f.OVER_LIMIT, "rule"), "over a limit of {{rule}}"),
        ),
        "ops",
    ),
    Panel("Mail content", "Received.", ((rate(f.BYTES), "received"),), "Bps"),
    Panel(
        "Filters",
        "Their answers.",
        ((rate(f.FILTER_VERDICTS, "filter, phase, verdict"), "{{filter}} {{phase}} {{verdict}}"),),
        "ops",
        6,
    ),
    Panel(
        "Authentication of mail",
        "SPF, DKIM, DMARC, ARC and BIMI of the filter mail-auth.",
        ((rate(f.MAIL_AUTH, "method, result"), "{{method}} {{result}}"),),
        "ops",
        6,
    ),
    Panel(
        "Memory",
        "Resident, of each process, with nodeMetrics.",
        ((over_time("process_resident_memory_bytes", "sum", "instance, worker"), "{{instance}} {{worker}}"),),
        "bytes",
        6,
    ),
    Panel(
        "Unusual",
        "Series without room in the shared memory; 1 if clients may get scripted answers; used limits.",
        (
            (over_time(f.LIMIT_USED.name, "max", "rule"), "limit of {{rule}}"),
            (over_time("smtp_relay_metrics_lost_series", "sum"), "lost series"),
            (over_time(f.RESPOND.name, "max"), "respond"),
        ),
        width=6,
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard, to be imported: one of these data sources is chosen at its head."""
    return {
        "uid": "smtp-relay",
        "title": "smtp-relay",
        "description": "Made by `make dashboard` from the metric families.",
        "tags": ["smtp"],
        "schemaVersion": 36,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
                _variable("job", "smtp_relay_build_info"),
                _variable("instance", 'smtp_relay_build_info{job=~"$job"}'),
            ]
        },
        "annotations": {"list": []},
        "panels": list(_panels()),
    }


def _variable(label: str, series: str) -> dict[str, Any]:
    """A choice of the values that a label has; all at first."""
    query = f"label_values({series}, {label})"
    return {
        "name": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": label},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> Iterator[dict[str, Any]]:
    x = y = 0
    for number, panel in enumerate(PANELS, 1):
        height = 4 if panel.kind == "stat" else 8
        if x + panel.width > WIDTH:
            raise ValueError(f"{panel.title} does not fit into its row")
        options: dict[str, Any] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}
        }
        if panel.kind == "stat":
            options = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
        yield {
            "id": number,
            "type": panel.kind,
            "title": panel.title,
            "description": panel.about,
            "datasource": SOURCE,
            "gridPos": {"x": x, "y": y, "w": panel.width, "h": height},
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "options": options,
            "targets": [
                {"refId": chr(ord("A") + place), "datasource": SOURCE, "expr": query, "legendFormat": legend}
                for place, (query, legend) in enumerate(panel.queries)
            ],
        }
        x, y = (0, y + height) if x + panel.width == WIDTH else (x + panel.width, y)


def named(text: str) -> set[str]:
    """The metrics that queries name, with the suffixes of histograms."""
    return set(re.findall(r"\b(?:smtp_relay|process)_\w+", text))


def files() -> dict[Path, str]:
    """What is written: path to text."""
    return {
        FOLDER / "dashboard.json": json.dumps(dashboard(), indent=2) + "\n",
        FOLDER / "alerts.yaml": rules(),
    }


def main() -> None:
    if "--check" in sys.argv[1:]:
        stale = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run `make dashboard`")
        sys.exit(1 if stale else 0)
    FOLDER.mkdir(exist_ok=True)
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
