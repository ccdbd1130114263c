"""`sending-policy` as a filter: the memory that a client can take, and limits that a table answers later."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from listener.api.decision import ABSTAIN, Decision
from listener.api.session import Session, Transaction
from listener.filters.sending import table
from listener.filters.sending.options import SendingPolicyOptions
from listener.filters.sending.policy import SendingPolicy
from listener.filters.sending.slots import Taken, Window
from listener.filters.sending.table import TableCounts


def mail_of(head: bytes) -> Any:
    """A mail of which only the header is read."""
    return SimpleNamespace(head=head)


def policy(*rules: dict[str, object], counts: TableCounts | None = None) -> SendingPolicy:
    options = SendingPolicyOptions.model_validate({"type": "sending-policy", "rules": rules})
    return SendingPolicy("policy", options, "out", None, {}, counts)


def session(user: str) -> Session:
    found = Session("s", "smtp", "127.0.0.1", 1, "[127.0.0.1]", "127.0.0.1:25")
    found.authenticated(user)
    return found


class Items:
    """A table in memory, which several threads may use."""

    class exceptions:
        class ConditionalCheckFailedException(Exception):
            pass

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}

    def get_item(self, *, Key: Any, **_: Any) -> Any:
        return {"Item": self.items[Key["id"]["S"]]} if Key["id"]["S"] in self.items else {}

    def put_item(self, *, Item: Any, ConditionExpression: str, **asked: Any) -> None:
        before = self.items.get(Item["id"]["S"])
        version = asked.get("ExpressionAttributeValues", {}).get(":version")
        if (before and before["version"]) != version:
            raise self.exceptions.ConditionalCheckFailedException
        self.items[Item["id"]["S"]] = Item


def test_headers_with_many_senders_take_no_memory_for_long() -> None:
    guard = policy({"user": "ann", "from": "glob:*@example.com"})
    ann = session("ann")

    def send(number: int) -> None:
        value = b",".join(b"%x%x@example.com" % (number, one) for one in range(400))
        head = b"".join(b"%b: %b\r\n" % (name, value) for name in (b"From", b"Sender", b"Resent-From"))
        mail = Transaction(str(number), f"ann{number % 8}@example.com")
        assert guard.on_data(ann, mail, mail_of(head), ("bob@example.net",)) is ABSTAIN

    send(0)
    tracemalloc.start()
    try:
        for number in range(1, 65):
            send(number)
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()


def test_a_mail_whose_header_chooses_another_rule_has_no_more_recipients_than_that_rule_permits() -> None:
    async def mail(number: int) -> Decision:
        guard = policy(
            {"user": "ann", "from": "ann@example.com", "headerFrom": "ann@example.com"},
            {"user": "ann", "headerFrom": "news@example.com", "limits": ["2/mail", "1000/day"]},
            counts=TableCounts("limits", Items),
        )
        ann, transaction = session("ann"), Transaction("1", "ann@example.com")
        recipients = tuple(f"{one}@example.net" for one in range(number))
        for one in recipients:
            assert guard.on_rcpt(ann, transaction, one) is ABSTAIN
            transaction.add(one, ())
        answer = guard.on_data(ann, transaction, mail_of(b"From: news@example.com\r\n"), recipients)
        return answer if isinstance(answer, Decision) else await answer

    assert asyncio.run(mail(2)) is ABSTAIN
    answer = asyncio.run(mail(3))
    assert answer.reply is not None
    assert "2/mail" in answer.reply.text


def test_a_table_that_does_not_answer_keeps_no_server_from_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_PATIENCE", 0.1)
    down = threading.Event()
    asked = []

    class Slow(Items):
        def get_item(self, **given: Any) -> Any:
            asked.append(given)
            if down.is_set():
                time.sleep(0.2)
                raise OSError("no answer")
            return super().get_item(**given)

    async def stop() -> int:
        counts = TableCounts("limits", Slow)
        for number in range(100):
            found = counts.take((Window.of(str(number), 86_400, 1_000, "out", "policy", "0", "1", "x"),))
            assert not isinstance(found, Taken)
            await found
        down.set()
        asked.clear()
        await counts.stop()
        return len(asked)

    assert asyncio.run(stop()) < 10
