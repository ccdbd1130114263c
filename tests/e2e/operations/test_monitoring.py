"""Prometheus scrapes a running relay and answers the dashboard's queries, and judges the alert rules.

Grafana is in no package registry: a plain page shows the answers instead of it.
"""

from __future__ import annotations

import json
import os
import re
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest
import yaml

from scripts import alerts, dashboard
from scripts.setup import PROMETHEUS
from tests.support.inbox.browser import a_page, chromium
from tests.support.net import HOST, free_port, wait_until
from tests.support.programs import run
from tests.support.servers.relay import Relay, flow

RULES: Final = dashboard.FOLDER / "alerts.yaml"
WINDOW: Final = "10s"
"""For Grafana's $__rate_interval."""


def tool(name: str) -> Path:
    """Prometheus' program. Skips the test when it is not here."""
    if not (PROMETHEUS / name).exists():
        pytest.skip(f"{name} is missing (Debian package prometheus; `make test` unpacks it where root)")
    return PROMETHEUS / name


# --- rules --------------------------------------------------------------------------------------


class Case(NamedTuple):
    """Series, as promtool writes them, at which a rule fires, or does not, after some minutes."""

    minutes: int
    fires: Mapping[str, str]
    silent: tuple[Mapping[str, str], ...]


def _emails(status: str) -> str:
    return f'smtp_relay_emails_total{{flow="f",job="r",output="o",status="{status}"}}'


UP: Final = 'up{instance="a:9090",job="smtp-relay"}'
INFO: Final = 'smtp_relay_build_info{job="r",version="3"}'
ACCEPTED: Final = _emails("accepted")
FREE: Final = 'smtp_relay_spool_free_bytes{instance="a"}'
SIZE: Final = 'smtp_relay_spool_size_bytes{instance="a"}'
OUTPUT: Final = '{flow="f",job="r",output="o"}'

CASES: Final[dict[str, Case]] = {
    "SmtpRelayDown": Case(
        5, {UP: "0x9", INFO: "1x9"}, ({UP: "1x9", INFO: "1x9"}, {UP: "0x3 1x6", INFO: "1x9"})
    ),
    "SmtpRelaySpoolOld": Case(
        9,
        {'smtp_relay_oldest_unfinished_seconds{instance="a"}': "1801x9"},
        (
            {'smtp_relay_oldest_unfinished_seconds{instance="a"}': "1799x9"},
            {'smtp_relay_oldest_unfinished_seconds{instance="a"}': "1801x5 0x4"},
        ),
    ),
    "SmtpRelayDiskNearlyFull": Case(
        9,
        {FREE: "500000000x9", SIZE: "10000000000x9"},
        ({FREE: "50000000000x9", SIZE: "1000000000000x9"}, {FREE: "9000000000x9", SIZE: "20000000000x9"}),
    ),
    "SmtpRelaySpoolErrors": Case(
        3,
        {'smtp_relay_spool_errors_total{instance="a",job="r"}': "0 0 1x3"},
        ({'smtp_relay_spool_errors_total{instance="a",job="r"}': "3x5"},),
    ),
    "SmtpRelayDeadLetters": Case(
        3,
        {f"smtp_relay_dead_letters_total{OUTPUT}": "0 0 1x3"},
        ({f"smtp_relay_dead_letters_total{OUTPUT}": "7x5"},),
    ),
    "SmtpRelayDeliveriesFail": Case(
        35,
        {_emails("error"): "0+6x40", _emails("delivered"): "0+1x40"},
        (
            {_emails("error"): "0+1x40", _emails("delivered"): "0+6x40"},
            {_emails("error"): "0x40", _emails("delivered"): "0x40"},
        ),
    ),
    "SmtpRelayAuthFailures": Case(
        15,
        {'smtp_relay_auth_failures_total{job="r",listener="l"}': "0+6x20"},
        ({'smtp_relay_auth_failures_total{job="r",listener="l"}': "0+4x20"},),
    ),
    "SmtpRelayCertificateEnds": Case(
        65,
        {'smtp_relay_tls_expiry_days{listener="l"}': "13.9x70"},
        ({'smtp_relay_tls_expiry_days{listener="l"}': "14.1x70"},),
    ),
    "SmtpRelayQuiet": Case(
        770,
        {ACCEPTED: "5x800", INFO: "1x800"},
        (
            {ACCEPTED: "5x700 6x100", INFO: "1x800"},
            # It began to run an hour ago.
            {ACCEPTED: "_x710 5x90", INFO: "_x710 1x90"},
        ),
    ),
    "SmtpRelayInDoubt": Case(
        3,
        {f"smtp_relay_in_doubt_total{OUTPUT}": "0 0 1x3"},
        ({f"smtp_relay_in_doubt_total{OUTPUT}": "1x5"},),
    ),
    "SmtpRelayMetricsLost": Case(
        15,
        {'smtp_relay_metrics_lost_series{instance="a"}': "1x20"},
        ({'smtp_relay_metrics_lost_series{instance="a"}': "0x20"},),
    ),
}


def _alone(rules: list[dict[str, Any]], name: str, folder: Path) -> Path:
    """A file with one rule only: what it is given is enough for it, not for the others."""
    path = folder / f"{name}.rules.yaml"
    path.write_text(
        json.dumps({"groups": [{"name": "one", "rules": [one for one in rules if one["alert"] == name]}]})
    )
    return path


def test_promtool_takes_the_rules() -> None:
    done = run([tool("promtool"), "check", "rules", RULES])
    assert f"{len(alerts.ALERTS)} rules found".encode() in done.stdout


def test_each_rule_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    assert CASES.keys() == {rule["alert"] for rule in group["rules"]}
    for name, case in CASES.items():
        path = _alone(group["rules"], name, tmp_path)
        for number, (series, fires) in enumerate(
            [(case.fires, True), *((one, False) for one in case.silent)]
        ):
            given = [{"series": one, "values": values} for one, values in series.items()]
            # promtool compares all labels and texts; the count is enough, and says "fires".
            asked = f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)'
            test = {
                "rule_files": [str(path)],
                "evaluation_interval": "1m",
                "tests": [
                    {
                        "interval": "1m",
                        "input_series": given,
                        "promql_expr_test": [
                            {
                                "expr": asked,
                                "eval_time": f"{case.minutes}m",
                                "exp_samples": [{"labels": "{}", "value": int(fires)}],
                            }
                        ],
                    }
                ],
            }
            file = tmp_path / f"{name}-{number}.test.yaml"
            file.write_text(json.dumps(test))
    files = sorted(tmp_path.glob("*.test.yaml"))
    assert len(files) == sum(1 + len(case.silent) for case in CASES.values())
    run([tool("promtool"), "test", "rules", *files])


# --- a running relay ----------------------------------------------------------------------------


class Prometheus:
    """A server that scrapes one address each second."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [
                {"job_name": "smtp-relay", "static_configs": [{"targets": [f"{HOST}:{target}"]}]},
            ],
        }
        folder.mkdir()
        (folder / "prometheus.yaml").write_text(json.dumps(config))
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [
                tool("prometheus"),
                f"--config.file={folder / 'prometheus.yaml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={HOST}:{self.port}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its HTTP interface, which must be a success."""
        answer = httpx.get(f"http://{HOST}:{self.port}/api/v1/{path}", params=parameters, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def now(self, query: str) -> list[Any]:
        """The result of a query."""
        result: list[Any] = self.ask("query", query=query)["result"]
        return result

    @property
    def ready(self) -> bool:
        try:
            return httpx.get(f"http://{HOST}:{self.port}/-/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False


def send_some(relay: Relay) -> None:
    """Mails that are taken, and a login, a recipient and a command that are refused."""
    with smtplib.SMTP(HOST, relay.port, timeout=30) as client:
        client.ehlo()
        client.docmd("NONSENSE")
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login("u", "wrong")
    with smtplib.SMTP(HOST, relay.port, timeout=30) as client:
        client.login("u", "p")
        for number in range(5):
            mail = f"From: a@a.example\r\nSubject: {number}\r\n\r\nhello\r\n"
            client.sendmail("a@a.example", ["b@b.example", "limited@b.example"], mail)


MAY_BE_EMPTY: Final = {
    "connections_refused_total": "no connection is refused",
    "mail_auth_results_total": "the filter mail-auth asks the DNS",
    "in_doubt_total": "",
}
"""Families that have no series before their first event."""


@pytest.fixture
def scraped(new_relay: Callable[..., Relay], tmp_path: Path) -> Iterator[tuple[Relay, Prometheus]]:
    port = free_port()
    nowhere = {"type": "mailer", "name": "next", "nodemailer": {"host": HOST, "port": free_port()}}
    rule = {"user": "u", "from": "a@a.example"}
    rules = [{**rule, "to": "limited@b.example", "limits": ["1/day"]}, {**rule, "limits": ["9999/day"]}]
    sending = {"type": "sending-policy", "rules": rules}
    relay = new_relay(
        {
            "prometheus": {"portNumber": port, "nodeMetrics": True},
            "flows": {
                "kept": flow({"type": "static-auth", "username": "u", "password": "plain:p"}, sending),
                "sent": {
                    "filters": [{"type": "static-auth", "username": "u", "password": "plain:p"}],
                    "outputs": [nowhere],
                },
            },
        },
        allowInsecureAuth=True,
    )
    relay.start()
    prometheus = Prometheus(tmp_path / "prometheus", port)
    try:
        wait_until(lambda: prometheus.ready, seconds=60, what="Prometheus")
        yield relay, prometheus
    finally:
        prometheus.close()


def filled(query: str) -> str:
    """A query of the dashboard with its variables as Grafana would fill them in."""
    return query.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", WINDOW)


def test_prometheus_answers_every_query_of_the_dashboard_and_every_rule(
    scraped: tuple[Relay, Prometheus], tmp_path: Path
) -> None:
    relay, prometheus = scraped
    panels = dashboard.dashboard()["panels"]
    queries = {filled(target["expr"]) for panel in panels for target in panel["targets"]}
    must = {query for query in queries if not any(name in query for name in MAY_BE_EMPTY)}
    assert len(must) >= len(queries) - 3

    def empty() -> list[str]:
        send_some(relay)
        return [query for query in must if not prometheus.now(query)]

    deadline = time.monotonic() + 60
    while (left := empty()) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert left == []
    for query in queries - must:
        prometheus.now(query)  # answered, with or without a result

    (group,) = prometheus.ask("rules")["groups"]
    wait_until(
        lambda: all(rule["health"] == "ok" for rule in prometheus.ask("rules")["groups"][0]["rules"]),
        seconds=30,
        what="the rules to be judged",
    )
    assert len(group["rules"]) == len(alerts.ALERTS)
    for metric in {name for one in alerts.ALERTS for name in _metrics(one.expression)}:
        assert prometheus.now(f"count({metric})"), metric

    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    folder.mkdir(exist_ok=True)
    page = tmp_path / "dashboard.html"
    page.write_text(_page(prometheus, panels), encoding="utf-8")
    with chromium() as browser, a_page(browser, page.as_uri()) as shown:
        assert shown.locator("section").count() == len(panels)
        shown.screenshot(path=folder / "dashboard.png", full_page=True)
    assert (folder / "dashboard.png").stat().st_size > 20_000


def _metrics(expression: str) -> set[str]:
    words = expression.replace("(", " ").replace("{", " ").replace("[", " ").split()
    return {word.strip(")") for word in words if word.startswith("smtp_relay_")} | {"up"}


COLOURS: Final = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#9467bd", "#8c564b", "#17becf", "#7f7f7f")
STYLE: Final = """
body { font: 12px sans-serif; display: grid; grid-template-columns: repeat(24, 1fr); gap: 8px; margin: 8px }
section { border: 1px solid #bbb; padding: 6px; overflow: hidden }
h2 { font-size: 13px; margin: 0 0 4px } svg { width: 100%; height: 120px; background: #f6f6f6 }
big { font-size: 28px }
"""


def _page(prometheus: Prometheus, panels: list[dict[str, Any]]) -> str:
    """A page with each panel's answers: a figure, or lines of the last 30 seconds with their last values."""
    end = time.time()
    sections = []
    for panel in panels:
        body = []
        for target in panel["targets"]:
            query = filled(target["expr"])
            answer = prometheus.ask("query_range", query=query, start=f"{end - 30}", end=f"{end}", step="1")
            body += [
                (_legend(target["legendFormat"], one["metric"]), one["values"]) for one in answer["result"]
            ]
        place = panel["gridPos"]
        head = f'<section style="grid-column: span {place["w"]}"><h2>{escape(panel["title"])}</h2>'
        sections.append(
            head + (_figure(body) if panel["type"] == "stat" else _lines(body, end)) + "</section>"
        )
    return f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>{''.join(sections)}"


def _legend(form: str, labels: Mapping[str, str]) -> str:
    for name, value in labels.items():
        form = form.replace(f"{{{{{name}}}}}", value)
    return re.sub(r"{{\w+}}", "", form)  # as Grafana shows a label that a series does not have


def _figure(body: list[tuple[str, list[Any]]]) -> str:
    return "".join(f"<big>{float(values[-1][1]):.6g}</big>" for _, values in body)


def _lines(body: list[tuple[str, list[Any]]], end: float) -> str:
    known = [(name, [(at, float(text)) for at, text in values if text != "NaN"]) for name, values in body]
    most = max((value for _, points in known for _, value in points), default=0) or 1
    drawn, names = [], []
    for number, (name, points) in enumerate(known):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{300 - (end - at) * 10:.0f},{118 - value / most * 110:.1f}" for at, value in points)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        last = f"{points[-1][1]:.4g}" if points else "–"
        names.append(f'<span style="color: {colour}">{escape(name)} {last}</span>')
    picture = f'<svg viewBox="0 0 300 120" preserveAspectRatio="none">{"".join(drawn)}</svg>'
    return picture + " · ".join(names)
