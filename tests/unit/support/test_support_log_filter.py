"""The filters of tests mean what Cloud Logging's language says."""

from __future__ import annotations

import pytest

from tests.support.infra.log_filter import matches

ENTRY = {
    "logName": "projects/p/logs/cos_containers",
    "resource": {"type": "gce_instance", "labels": {"zone": "a"}},
    "jsonPayload": {
        "id": "0a",
        "to": "Bob@example.com,carol@example.com",
        "dead": 2,
        "in_doubt": True,
        "a.b": "c",
    },
}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('resource.type="gce_instance"', True),
        ('resource.type=("a" OR "GCE_instance")', True),
        ('log_id("cos_containers")', True),
        ('log_id("containers")', False),
        ('jsonPayload.to:"bob@EXAMPLE.com"', True),
        ('jsonPayload.to="bob@example.com"', False),
        ('jsonPayload.to=~"^bob"', False),
        ('jsonPayload.to=~"^Bob"', True),
        ("jsonPayload.dead>1", True),
        ("jsonPayload.dead>2", False),
        ("jsonPayload.in_doubt=true", True),
        ('jsonPayload."a.b"="c"', True),
        ('jsonPayload.missing:""', False),
        # OR binds tighter than AND.
        ('jsonPayload.id="x" AND jsonPayload.id="y" OR jsonPayload.id="0a"', False),
        ('(jsonPayload.id="x" AND jsonPayload.id="y") OR jsonPayload.id="0a"', True),
        ('jsonPayload.id="0a" OR jsonPayload.id="x" AND jsonPayload.id="y"', False),
    ],
)
def test_a_filter(text: str, found: bool) -> None:
    assert matches(text, ENTRY) is found


@pytest.mark.parametrize("text", ['jsonPayload.id != "x"', "NOT a=b", '(a="b"', 'a="b" c="d"'])
def test_what_is_not_understood_is_no_match(text: str) -> None:
    with pytest.raises((ValueError, IndexError)):
        matches(text, ENTRY)
