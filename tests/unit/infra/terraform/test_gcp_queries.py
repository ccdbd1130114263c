"""The queries that find one mail on Google Cloud: their places, links and the page about them."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.infra.gcp_queries import queries
from tests.support.infra.log_filter import matches, of_machine, of_service
from tests.support.servers.relay import ROOT

LINE = (
    '{"logger":"smtp_relay.smtp","message":"mail accepted","id":"ID",'
    '"to":"RECIPIENT","message_id":"<MESSAGE-ID>"}'
)
NAMES = ["id", "message_id", "recipient"]


@pytest.mark.parametrize("kind", ["external", "internal", "sidecar", "worker-pool", "none"])
def test_every_kind_of_listener_is_searched_and_the_function(tmp_path: Path, kind: str) -> None:
    found = queries(tmp_path, kind)
    assert sorted(found) == NAMES
    pool = {
        **of_service("", LINE),
        "resource": {"type": "cloud_run_worker_pool", "labels": {"worker_pool_name": "mx-listener"}},
    }
    places = {
        "grouped": of_machine("mx-listener", LINE),
        "sidecar": of_service("mx-app", LINE),
        "worker-pool": pool,
        "function": of_service("mx-delivery", LINE),
        "other machine": of_machine("other-listener", LINE),
        "other function": of_service("other-delivery", LINE),
    }
    own = {"external": {"grouped"}, "internal": {"grouped"}, "none": set()}.get(kind, {kind})
    for name, query in found.items():
        seen = {place for place, entry in places.items() if matches(query["filter"], entry)}
        assert seen == own | {"function"}, name


def test_a_link_opens_the_filter_itself(tmp_path: Path) -> None:
    for query in queries(tmp_path, "external").values():
        split = urlsplit(query["link"])
        assert (split.scheme, split.netloc, split.query) == (
            "https",
            "console.cloud.google.com",
            "project=my-project",
        )
        path, asked, duration = split.path.split(";")
        assert path == "/logs/query"
        assert duration == "duration=P30D"
        assert unquote(asked.removeprefix("query=")) == query["filter"]


def test_the_page_has_the_same_terms(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operate-gcp.md").read_text().partition("## Find one mail")[2]
    shown = re.findall(r"gcloud logging read '([^']+)'", page.partition("\n## ")[0])
    filters = [query["filter"] for query in queries(tmp_path, "none").values()]
    assert sorted(shown) == sorted(text.partition(")) AND ")[2] for text in filters)
