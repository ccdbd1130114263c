"""The facts about a connection and its mails."""

from __future__ import annotations

import pytest

from listener.api.decision import Reply
from listener.api.session import Transaction
from tests.support.scripted import a_session


def test_mails_share_their_client_until_it_is_another() -> None:
    session = a_session()
    first = session.client
    assert (first.ip, first.port, first.name) == ("192.0.2.1", 40_000, "[192.0.2.1]")
    assert session.client is first
    session.named("a.example")
    assert session.client.name == "a.example"
    session.become("2001:db8::1", 7)
    assert session.client.model_dump() == {"ip": "2001:db8::1", "port": 7, "name": "[2001:db8::1]"}
    assert first.name == "[192.0.2.1]", "envelopes that have it keep it"


@pytest.mark.parametrize(
    ("host", "server"), [("192.0.2.1", "192.0.2.1:25"), ("2001:db8::1", "[2001:db8::1]:25")]
)
def test_the_local_address_has_brackets_where_its_colons_need_them(host: str, server: str) -> None:
    session = a_session()
    session.reached(host, 25)
    assert session.server == server


def test_refused_recipients_are_taken_once() -> None:
    transaction = Transaction("id", "a@example.com")
    assert transaction.take_refused() is None
    transaction.refuse("x@example.com", Reply(550, "5.1.1", "no"))
    transaction.refuse("y@example.com", Reply(450, "4.2.0", "later"))
    taken = transaction.take_refused()
    assert taken is not None
    assert (taken.refused, taken.deferred, taken.shown) == (1, 1, ["x@example.com", "y@example.com"])
    assert taken.first_reply == "550 5.1.1 no"
    assert transaction.take_refused() is None
