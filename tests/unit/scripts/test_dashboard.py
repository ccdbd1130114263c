"""The dashboard and the alert rules fit the metrics that the listener exposes, and Grafana's JSON model."""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from listener.monitoring import families
from listener.monitoring.board import SharedMetrics
from listener.monitoring.exposition import Exposition
from listener.monitoring.metrics import Metrics
from listener.monitoring.process import process_lines
from scripts import alerts, dashboard

NAMED: Final = re.compile(r"\b(?:smtp_relay|process)_\w+")
PANELS: Final[list[dict[str, Any]]] = dashboard.dashboard()["panels"]
QUERIES: Final = [target["expr"] for panel in PANELS for target in panel["targets"]]


def exposed() -> set[str]:
    """The names of all samples that a listener may expose."""
    names = {
        family.name + end
        for family in families.FAMILIES
        for end in (("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",))
    }
    shared = SharedMetrics()
    Metrics(shared)
    lines = Exposition(shared, spool_folder=Path("/")).render().decode().splitlines()
    lines += process_lines([(0, os.getpid())], lambda _: "")
    return names | {re.split(r"[{ ]", line)[0] for line in lines if not line.startswith("#")}


def test_the_committed_files_are_those_of_the_families() -> None:
    for path, text in dashboard.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make dashboard`"


@pytest.mark.parametrize(
    "queries", [QUERIES, [one.expression for one in alerts.ALERTS]], ids=["panels", "rules"]
)
def test_a_query_names_only_what_the_listener_exposes(queries: list[str]) -> None:
    named = {name for query in queries for name in NAMED.findall(query)}
    assert named
    assert named - exposed() == set()


def test_every_family_is_on_the_dashboard() -> None:
    text = "\n".join(QUERIES)
    assert [family.name for family in families.FAMILIES if family.name not in text] == []


def test_a_label_that_the_family_does_not_have_is_a_mistake() -> None:
    renamed = replace(families.RETRIES, labels=("flow", "destination"))
    with pytest.raises(ValueError, match="smtp_relay_retries_total has no label output"):
        dashboard.rate(renamed, "output")
    with pytest.raises(ValueError, match="smtp_relay_retries_total has no label output"):
        alerts._increase(renamed, "1h", "job, output")


# --- Grafana's JSON model (grafana.com/docs: "Dashboard JSON model") --------------------------------


def test_the_dashboard_has_what_grafanas_model_wants() -> None:
    made = dashboard.dashboard()
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,40}", made["uid"])
    assert made["title"]
    assert isinstance(made["schemaVersion"], int)
    assert made["schemaVersion"] >= 36  # targets name their data source by type and uid from there on
    assert "id" not in made  # Grafana gives it
    assert {"from", "to"} <= made["time"].keys()
    variables = {one["name"]: one for one in made["templating"]["list"]}
    assert next(iter(variables)) == "datasource"  # the others ask it
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    used = set(re.findall(r"\$\{?(\w+)\}?", str([PANELS, made["templating"]])))
    assert used - {"__rate_interval", "__all"} == variables.keys()


def test_panels_have_their_own_ids_and_queries_their_own_letters() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len({panel["title"] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["datasource"] == dashboard.SOURCE
        letters = [target["refId"] for target in panel["targets"]]
        assert letters
        assert len(set(letters)) == len(letters)
        assert all(target["expr"] and target["datasource"] == dashboard.SOURCE for target in panel["targets"])


def test_panels_do_not_overlap_and_leave_no_hole() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    cells = [
        set(itertools.product(range(one["x"], one["x"] + one["w"]), range(one["y"], one["y"] + one["h"])))
        for one in places
    ]
    everything = set().union(*cells)
    assert len(everything) == sum(map(len, cells))
    assert max(x for x, _ in everything) == 23
    assert len(everything) == 24 * (1 + max(y for _, y in everything))


# --- rules --------------------------------------------------------------------------------------


def test_a_rule_says_what_is_wrong_and_what_to_do_without_a_link() -> None:
    (group,) = yaml.safe_load(alerts.rules())["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"]) > 8
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        notes = rule["annotations"]
        assert notes["summary"]
        assert len(notes["description"]) > 50
        assert "://" not in notes["summary"] + notes["description"]


def test_the_labels_in_a_rules_texts_are_those_of_its_result() -> None:
    """Prometheus shows nothing for a label that the result does not have."""
    for one in alerts.ALERTS:
        used = set(re.findall(r"\$labels\.(\w+)", one.summary + one.remedy))
        grouped = re.search(r"by \((.+?)\)", one.expression)
        if grouped:
            assert used <= set(grouped[1].split(", ")), one.name
        else:
            (first, *_) = NAMED.findall(one.expression)
            family = families.BY_NAME.get(first)
            assert used <= {"job", "instance", *(family.labels if family else ())}, one.name
