"""The filters of Terraform's output `queries` find one mail in the lines that both halves really write."""

from __future__ import annotations

import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.bundle.gcp import listener_config
from tests.support.clouds.gcp_stack import Stack
from tests.support.infra.gcp_queries import queries
from tests.support.infra.log_filter import Entry, matches, of_machine, of_service
from tests.support.net import HOST
from tests.support.servers.relay import Relay


@pytest.fixture
def entries(
    stack_for: Callable[..., Stack], listener_for: Callable[..., Relay]
) -> Callable[[bool], list[Entry]]:
    """Both halves' entries after two mails, one for bob with the Message-ID <1.A@app.example.net>."""

    def run(addresses: bool) -> list[Entry]:
        outputs = [{"type": "gcp", "name": "archive", "storage": {"bucket": "{bucket}"}}, {"type": "log"}]
        settings = listener_config({"logAddresses": addresses})
        del settings["health"]
        stack = stack_for({"in": outputs}, settings=settings)
        relay = listener_for(stack)
        with smtplib.SMTP(HOST, relay.port) as client:
            for name, ident in (("bob", "1.A"), ("carol", "2.B")):
                mail = f"Subject: hello\r\nMessage-ID: <{ident}@app.example.net>\r\n\r\nhi\r\n"
                client.sendmail("ada@example.com", [f"{name}@example.com"], mail)
        stack.settled()
        assert relay.stop() == 0
        lines = [line for line in relay.log().splitlines() if line.startswith("{")]
        found = [of_machine("mx-listener", line) for line in lines]
        said = [line for line in stack.function.log().splitlines() if line.startswith("{")]
        return found + [of_service("mx-delivery", line) for line in said]

    return run


def told(found: list[Entry], filter_: str, **known: str) -> list[dict[str, Any]]:
    for name, value in known.items():
        filter_ = filter_.replace(name.replace("_", "-"), value)
    return [dict(entry["jsonPayload"]) for entry in found if matches(filter_, entry)]


def test_a_recipient_or_a_message_id_leads_to_the_id_and_the_id_to_the_story(
    entries: Callable[[bool], list[Entry]], tmp_path: Path
) -> None:
    found = entries(True)
    query = {name: one["filter"] for name, one in queries(tmp_path, "external").items()}
    (by_recipient,) = told(found, query["recipient"], RECIPIENT="Bob@example.com")
    (by_message,) = told(found, query["message_id"], MESSAGE_ID="<1.a@app.example.net>")
    assert by_recipient == by_message
    story = told(found, query["id"], ID=by_message["id"])
    assert [line["message"] for line in story[:1]] == ["mail accepted"]
    assert {"stored", "delivered", "finished"} <= {line["message"] for line in story}
    assert {line["output"] for line in story if line["message"] == "delivered"} == {"archive", "log_1"}
    assert not told(found, query["recipient"], RECIPIENT="dave@example.com")
    assert not told(found, query["id"], ID="0" * 36)


def test_without_log_addresses_only_the_id_finds_it(
    entries: Callable[[bool], list[Entry]], tmp_path: Path
) -> None:
    found = entries(False)
    query = {name: one["filter"] for name, one in queries(tmp_path, "external").items()}
    assert not told(found, query["recipient"], RECIPIENT="bob@example.com")
    assert not told(found, query["message_id"], MESSAGE_ID="1.A@app.example.net")
    ids = {entry["jsonPayload"]["id"] for entry in found if "id" in entry["jsonPayload"]}
    assert len(ids) == 2
    for ident in ids:
        assert "finished" in {line["message"] for line in told(found, query["id"], ID=ident)}
