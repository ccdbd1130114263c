"""Names of the server, and the pages of other sites."""

from __future__ import annotations

import pytest

from listener.inbox.access.names import Names

NAMES = Names(["mail.example"], ["https://app.example", "http://localhost:3000"])


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://localhost:8025", "localhost:8025", True),
        ("http://localhost", "localhost:80", True),
        ("https://mail.example:443", "mail.example", True),
        ("https://app.example", "localhost:8025", True),
        ("https://app.example:443", "localhost:8025", True),
        ("http://localhost:3000", "localhost:8025", True),
        ("http://app.example", "localhost:8025", False),
        ("https://app.example.evil.example", "localhost:8025", False),
        ("https://evil.example", "localhost:8025", False),
        ("http://localhost:80", "localhost:8025", False),
        ("null", "localhost:8025", False),
        ("", "localhost:8025", False),
        ("http://[", "localhost:8025", False),
    ],
)
def test_only_its_own_pages_and_those_of_listed_sites_change_anything(
    origin: str, host: str, allowed: bool
) -> None:
    assert (NAMES.refusal(host, {"origin": origin}, changes=True) == "") is allowed


def test_a_listed_site_does_not_make_a_name() -> None:
    fields = {"origin": "https://app.example"}
    assert "does not go by the name" in NAMES.refusal("evil.example", fields, changes=False)
    assert NAMES.refusal("mail.example", {**fields, "sec-fetch-site": "cross-site"}, changes=True) == ""


def test_all_sites_may_be_listed() -> None:
    fields = {"origin": "https://any.example", "sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"}
    assert Names([], ["*"]).refusal("localhost", fields, changes=True) == ""
    assert Names([], []).refusal("localhost", fields, changes=False) != ""
