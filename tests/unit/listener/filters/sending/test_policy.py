"""`sending-policy` as a filter: the memory that a client can take, and limits that a table answers later."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from listener.api.decision import ABSTAIN, Decision
from listener.api.session import Session, Transaction
from listener.filters.sending import policy as policy_module
from listener.filters.sending import table
from listener.filters.sending.counts import FILE, Counts
from listener.filters.sending.options import SendingPolicyOptions
from listener.filters.sending.policy import SendingPolicy
from listener.filters.sending.reservations import MOST_OPEN
from listener.filters.sending.slots import Taken, Window
from listener.filters.sending.table import TableCounts


def mail_of(head: bytes) -> Any:
    """A mail of which only the header is read."""
    return SimpleNamespace(head=head, crlf=False)


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


FROM: Final = mail_of(b"From: ann@example.com\r\n")


class Served:
    """A policy at work, with the figures that operators see."""

    def __init__(self, folder: Path, *limits: str) -> None:
        options = {"user": "ann", "limits": list(limits)}
        given = SendingPolicyOptions.model_validate({"type": "sending-policy", "rules": [options]})
        self.guard = SendingPolicy("policy", given, "out", folder, {})
        self.guard.observe(self)
        self.counted = 0
        self.number = 0

    def mail_auth(self, name: str, method: str, result: str) -> None: ...

    def over_limit(self, name: str, rule: str, limit: str) -> None: ...

    def recipient_counted(self, name: str, rule: str, share: float) -> None:
        assert (name, rule) == ("policy", "rules[0]")
        self.counted += 1

    def begin(self, *recipients: str) -> tuple[Transaction, list[Any]]:
        """A mail up to the last recipient, and the answers at RCPT."""
        self.number += 1
        mail, ann = Transaction(str(self.number), "ann@example.com"), session("ann")
        assert self.guard.on_mail(ann, mail) is ABSTAIN
        answers = []
        for one in recipients:
            answers.append(self.guard.on_rcpt(ann, mail, one))
            if answers[-1] is ABSTAIN:
                mail.add(one, ())
        return mail, answers

    def data(self, mail: Transaction) -> Any:
        return self.guard.on_data(session("ann"), mail, FROM, tuple(mail.recipients))

    def end(self, mail: Transaction, *taken: str) -> None:
        self.guard.mail_ended(mail, taken)

    def used(self, folder: Path) -> int:
        return sum(one.used for one in Counts(folder / FILE).used())


def test_each_recipient_of_a_high_limit_counts_once_and_what_was_not_stored_comes_back(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        served = Served(tmp_path, "20000/day", "3/mail")
        await served.guard.start()
        for _ in range(100):
            mail, answers = served.begin("a@d.example", "b@d.example", "a@d.example")
            assert answers == [ABSTAIN] * 3
            assert served.data(mail) is ABSTAIN
            served.end(mail, "a@d.example", "b@d.example")
        assert served.used(tmp_path) == 200
        assert served.counted == 200
        for _ in range(100):
            mail, _ = served.begin("a@d.example", "b@d.example")
            served.end(mail, "b@d.example")
        assert served.used(tmp_path) == 300
        mail, answers = served.begin("a@d.example", "b@d.example", "c@d.example", "d@d.example")
        assert answers[:3] == [ABSTAIN] * 3
        assert "3/mail" in answers[3].reply.text
        assert served.used(tmp_path) == 303
        Counts(tmp_path / FILE).reset()
        served.end(mail)
        assert served.used(tmp_path) == 0
        mail, _ = served.begin("a@d.example")
        assert served.used(tmp_path) == 1
        await served.guard.stop()
        assert served.used(tmp_path) == 1
        assert served.data(mail) is ABSTAIN
        served.end(mail, "a@d.example")
        assert not mail.records
        assert not any(served.guard._reservations._opened.values())

    asyncio.run(run())


def test_a_limit_is_used_up_exactly_on_the_short_way(tmp_path: Path) -> None:
    async def run() -> int:
        served, sent = Served(tmp_path, "5000/day"), 0
        await served.guard.start()
        while True:
            mail, (answer,) = served.begin("a@d.example")
            if answer is not ABSTAIN:
                assert "5000/day" in answer.reply.text
                return sent
            assert served.data(mail) is ABSTAIN
            served.end(mail, "a@d.example")
            sent += 1

    assert asyncio.run(run()) == 5_000


def test_a_client_has_a_bounded_number_of_mails_on_their_way(tmp_path: Path) -> None:
    async def run() -> None:
        served = Served(tmp_path, "1000000/day")
        await served.guard.start()
        mails = [served.begin("a@d.example") for _ in range(MOST_OPEN)]
        assert all(answers == [ABSTAIN] for _, answers in mails)
        _, (answer,) = served.begin("a@d.example")
        assert "Too many mails" in answer.reply.text
        served.end(mails[0][0])
        assert served.begin("a@d.example")[1] == [ABSTAIN]
        assert served.used(tmp_path) == MOST_OPEN

    asyncio.run(run())


def test_a_mail_that_came_in_whole_leaves_its_place_to_another_one(tmp_path: Path) -> None:
    async def run() -> None:
        served = Served(tmp_path, "1000000/day", "2/mail")
        await served.guard.start()
        stored = [served.begin("a@d.example")[0] for _ in range(MOST_OPEN)]
        assert [served.data(mail) for mail in stored] == [ABSTAIN] * MOST_OPEN
        later = [served.begin("a@d.example", "b@d.example") for _ in range(MOST_OPEN)]
        assert all(answers == [ABSTAIN] * 2 for _, answers in later)
        assert "Too many mails" in served.begin("a@d.example")[1][0].reply.text
        for mail, _ in later:
            served.end(mail)
        served.end(stored[0])
        served.end(stored[1], "a@d.example")
        assert served.used(tmp_path) == MOST_OPEN - 1
        assert served.begin("a@d.example")[1] == [ABSTAIN]

    asyncio.run(run())


def test_a_mail_that_is_counted_again_at_the_final_dot_leaves_its_place_too() -> None:
    async def run() -> None:
        guard = policy(
            {"user": "ann", "from": "ann@example.com", "headerFrom": "ann@example.com"},
            {"user": "ann", "headerFrom": "news@example.com", "limits": ["1000000/day"]},
            {"user": "ann", "limits": ["2/mail"]},
            counts=TableCounts("limits", Items),
        )
        ann, opened = session("ann"), []
        for head in (b"From: news@example.com\r\n", b"From: bob@example.com\r\n") * 2:
            mail = Transaction(str(len(opened)), "ann@example.com")
            assert guard.on_rcpt(ann, mail, "a@d.example") is ABSTAIN
            answer = guard.on_data(ann, mail, mail_of(head), ("a@d.example",))
            assert (answer if isinstance(answer, Decision) else await answer) is ABSTAIN
            opened.append(mail.id)
        assert not any(guard._reservations._opened.values())

    asyncio.run(run())


def test_two_guards_keep_their_records_of_one_mail_apart(tmp_path: Path) -> None:
    async def run() -> None:
        one, other = (Served(tmp_path / name, "1000000/day") for name in ("one", "other"))
        for served in (one, other):
            await served.guard.start()
        for _ in range(10):
            mail, _ = one.begin("a@d.example")
            assert other.guard.on_rcpt(session("ann"), mail, "a@d.example") is ABSTAIN
            assert [served.data(mail) for served in (one, other)] == [ABSTAIN] * 2
            one.end(mail)
            other.end(mail, "a@d.example")
        assert (one.used(tmp_path / "one"), other.used(tmp_path / "other")) == (0, 10)

    asyncio.run(run())


@pytest.mark.parametrize("limits", [["1000000/day", "9/mail"], []])
@pytest.mark.parametrize("crlf", [True, False])
@pytest.mark.parametrize("edits", [{}, {"From": "Eve <eve@victim.example>"}])
def test_a_header_is_judged_alike_however_often_the_client_wrote_the_same_field(
    tmp_path: Path, limits: list[str], crlf: bool, edits: dict[str, object]
) -> None:
    async def run() -> None:
        options = {"user": "ann", "from": "glob:*@example.com", "limits": limits}
        given = SendingPolicyOptions.model_validate({"type": "sending-policy", "rules": [options]})
        guard = SendingPolicy("policy", given, "out", tmp_path, edits)
        await guard.start()
        ann, number = session("ann"), 0

        def permits(head: bytes) -> bool:
            nonlocal number
            number += 1
            mail, told = Transaction(str(number), "ann@example.com"), mail_of(head)
            told.crlf = crlf
            assert guard.on_rcpt(ann, mail, "a@d.example") is ABSTAIN
            return guard.on_data(ann, mail, told, ("a@d.example",)) is ABSTAIN

        ours, theirs = b"From: ann@example.com\r\nTo: x\r\n", b"From: eve@victim.example\r\nTo: x\r\n"
        for _ in range(5):
            assert permits(ours) == permits(ours) == (not edits)
            assert not permits(theirs)
            assert not permits(ours + theirs)
            assert not permits(ours.replace(b"To", b" <eve@victim.example>\r\nTo"))
            assert not permits(ours + b"Sender: eve@victim.example\r\n")
            assert permits(ours.replace(b"ann", b"bob")) == (not edits)
            assert permits(ours) == (not edits)

    asyncio.run(run())


async def _short_ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, froms: list[bytes]) -> int:
    served, asked = Served(tmp_path, "1000000/day"), []
    await served.guard.start()
    slow = policy_module.author_field
    monkeypatch.setattr(
        policy_module, "author_field", lambda head, crlf: asked.append(head) or slow(head, crlf=crlf)
    )
    for one in froms:
        mail, _ = served.begin("a@d.example")
        told = mail_of(b"From: %b@example.com\r\nTo: x\r\n" % one)
        told.crlf = True
        assert served.guard.on_data(session("ann"), mail, told, ("a@d.example",)) is ABSTAIN
        assert not any(served.guard._reservations._opened.values())
    return len(froms) - len(asked)


@pytest.mark.parametrize(
    ("froms", "short"), [([b"ann"] * 10, 7), ([b"ann", b"bob"] * 5, 0), ([b"ann"] * 5 + [b"bob"] * 5, 4)]
)
def test_a_client_that_writes_the_same_field_again_is_judged_by_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, froms: list[bytes], short: int
) -> None:
    assert asyncio.run(_short_ways(monkeypatch, tmp_path, froms)) == short
