"""Outputs that are down, throttled, closed or missing: hours and days on an advanced clock, with the
real spool, receipts and SDK."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.aws.function import LambdaFunction
from functions.bucket.store import Times
from functions.config import load_delivery
from tests.support.clouds.aws_stack import Stack
from tests.support.clouds.virtual_queue import Context, VirtualQueue
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint

Stacks = Callable[..., Stack]

HOUR = 3600.0
DOWN = Says(503, b"{}", {"x-amzn-ErrorType": "ServiceUnavailable"})
FAST = Says(
    429,
    b'{"message":"Maximum sending rate exceeded."}',
    {"x-amzn-ErrorType": "TooManyRequestsException"},
)
QUOTA = Says(
    429,
    b'{"message":"Daily message quota exceeded."}',
    {"x-amzn-ErrorType": "TooManyRequestsException"},
)


class Ses:
    """An SES that counts the mails that it accepted."""

    def __init__(self, api: Endpoint) -> None:
        self.url = api.url.partition("/ask")[0]
        self.sent: Counter[str] = Counter()
        self.refuse: Callable[[], Says | None] = lambda: None
        api.answer = self._answer

    def _answer(self, asked: Asked) -> Says:
        refusal = self.refuse()
        if refusal is not None:
            return refusal
        raw = base64.b64decode(json.loads(asked.body)["Content"]["Raw"]["Data"])
        self.sent[raw.decode()] += 1
        return Says(body=b'{"MessageId":"m"}')


@pytest.fixture
def ses() -> Iterator[Ses]:
    with endpoint() as api:
        yield Ses(api)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[LambdaFunction, VirtualQueue]]:
    """Starts the function of a stack in this process, behind a queue of its own."""

    def start(stack: Stack, now: float) -> tuple[LambdaFunction, VirtualQueue]:
        for name, value in stack.environment().items():
            monkeypatch.setenv(name, value)
        queue = VirtualQueue(stack.bucket, now)
        function = LambdaFunction(
            load_delivery(stack.config, stack.environment()), stack.environment(), clock=queue.clock
        )
        queue.serve(function)
        return function, queue

    monkeypatch.setattr("functions.aws.output.processor._accounts", {})
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    return start


def through(ses: Ses, rate: int = 1000) -> dict[str, Any]:
    return {"type": "aws", "name": "send", "ses": {"maxSendRate": rate}, "sesClient": {"endpoint": ses.url}}


TELL = {"type": "aws", "name": "tell", "pubsub": {"topic": "{queue:out}"}}


def put(stack: Stack, count: int) -> list[str]:
    return [stack.put(b"Subject: %d\r\n\r\n" % number) for number in range(count)]


def now_of(stack: Stack) -> float:
    import time

    return time.time()


def test_two_hours_without_an_output(stack_for: Stacks, started: Any, ses: Ses) -> None:
    stack = stack_for({"in": [through(ses), TELL]}, notify=False, deployed=False)
    keys = put(stack, 5)
    _, queue = started(stack, now_of(stack))
    ses.refuse = lambda: DOWN
    queue.notify(keys)
    queue.run(2 * HOUR)
    assert not ses.sent
    assert len(stack.spooled()) == 5
    ses.refuse = lambda: None
    queue.run(3 * HOUR)
    assert not stack.spooled()
    assert list(ses.sent.values()) == [1] * 5
    assert len(stack.messages("out", least=5)) == 5, "one output's failure repeats no other's effect"
    assert queue.dead == []
    assert stack.dead_records() == []


def test_notifications_lost_the_sweep_alone_delivers(stack_for: Stacks, started: Any, ses: Ses) -> None:
    stack = stack_for({"in": [through(ses)]}, notify=False, deployed=False)
    put(stack, 3)
    _, queue = started(stack, now_of(stack))
    queue.run(HOUR)
    assert not stack.spooled()
    assert list(ses.sent.values()) == [1] * 3


def test_throttled_for_a_while_all_is_sent_once(stack_for: Stacks, started: Any, ses: Ses) -> None:
    stack = stack_for({"in": [through(ses)]}, notify=False, deployed=False)
    keys = put(stack, 6)
    _, queue = started(stack, now_of(stack))
    answers = [*([FAST] * 30), *([QUOTA] * 3)]
    ses.refuse = lambda: answers.pop() if answers else None
    queue.notify(keys)
    # The account counts its quarter of an hour on the real clock, so a new start replaces the wait.
    for _ in range(6):
        queue.run(HOUR)
        function, _ = started(stack, queue.now)
        for account in _accounts().values():
            account._closed_until = 0.0
        queue.serve(function)
    assert not stack.spooled()
    assert list(ses.sent.values()) == [1] * 6
    assert queue.dead == []
    assert stack.dead_records() == []


def _accounts() -> dict[Any, Any]:
    from functions.aws.output import processor as build

    return build._accounts


def test_down_too_long_is_given_up_with_a_record(
    stack_for: Stacks, started: Any, ses: Ses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six hours here, while three days are the default, because they take longer to play. S3's clock
    advances with this one."""
    settings = {"delivery": {"giveUpAfter": int(6 * HOUR * 1000)}}
    stack = stack_for({"in": [through(ses), TELL]}, notify=False, deployed=False, settings=settings)
    keys = put(stack, 2)
    function, queue = started(stack, now_of(stack))
    began = queue.now
    monkeypatch.setattr(function.runner.store, "times", lambda key: Times(began, queue.now))
    ses.refuse = lambda: DOWN
    queue.notify(keys)
    queue.run(6 * HOUR)
    assert stack.dead_records() == []
    queue.run(3 * HOUR)
    assert [record["output"] for record in stack.dead_records()] == ["send", "send"]
    assert queue.dead == []
    assert len(stack.messages("out", least=2)) == 2
    before = queue.receives
    queue.run(8 * HOUR)
    assert queue.receives == before, "parked mail is left alone"


@pytest.mark.parametrize("days", [4, -4])
def test_a_clock_that_is_wrong_gives_nothing_up_and_delays_nothing(
    stack_for: Stacks, started: Any, ses: Ses, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """Only the machine's clock advances: by S3's, the mails came just now."""
    stack = stack_for({"in": [through(ses)]}, notify=False, deployed=False)
    keys = put(stack, 2)
    function, queue = started(stack, now_of(stack) + days * 24 * HOUR)
    store = function.runner.store
    began, read = queue.now, store.times

    def times(key: str) -> Times | None:
        """S3's own clock, plus the hours that pass here."""
        found: Times | None = read(key)
        return None if found is None else found._replace(now=found.now + queue.now - began)

    monkeypatch.setattr(store, "times", times)
    ses.refuse = lambda: DOWN
    queue.notify(keys)
    queue.run(HOUR)
    assert stack.dead_records() == []
    assert len(stack.spooled()) == 2
    ses.refuse = lambda: None
    queue.run(13 * HOUR)
    assert not stack.spooled()
    assert list(ses.sent.values()) == [1] * 2


def test_what_s3_too_calls_old_is_given_up(
    stack_for: Stacks, started: Any, ses: Ses, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = stack_for(
        {"in": [through(ses)]},
        notify=False,
        deployed=False,
        settings={"delivery": {"giveUpAfter": 2_000}},
    )
    # A mail that was received long ago, and stored just now: a kept mail that is replayed.
    key = stack.put(age=30 * 24 * HOUR)
    function, queue = started(stack, now_of(stack))
    ses.refuse = lambda: DOWN
    queue.notify([key])
    queue.run(1.0)
    assert stack.dead_records() == []
    store = function.runner.store

    def old() -> bool:
        times = store.times(key)
        return times is not None and times.now - times.modified > 3

    stack.until(old, "S3 to call it old")
    queue.notify([key])
    queue.run(1.0)
    assert [record["output"] for record in stack.dead_records()] == ["send"]


def test_a_missing_bucket_is_a_dead_record_and_replay_finishes_it(
    stack_for: Stacks, started: Any, ses: Ses
) -> None:
    store = {"type": "aws", "name": "store", "storage": {"bucket": "missing-{bucket}"}}
    stack = stack_for({"in": [store, TELL]}, notify=False, deployed=False)
    keys = put(stack, 1)
    _, queue = started(stack, now_of(stack))
    queue.notify(keys)
    queue.run(60)
    (record,) = stack.dead_records()
    assert "NoSuchBucket" in record["reason"]
    assert record["code"] == "5.1.2"
    assert "NoSuchBucket" in stack.command("deadletter", "list")
    assert "Subject: 0" in stack.command("deadletter", "show", record["id"])
    stack.s3.create_bucket(Bucket=f"missing-{stack.target}")
    assert "1 replayed" in stack.command("deadletter", "replay", record["id"])
    queue.run(600)
    assert not stack.spooled()
    assert len(stack.keys(f"missing-{stack.target}")) == 1
    assert len(stack.messages("out")) == 1
    assert "0 unfinished" in stack.command("sweep")


@pytest.mark.parametrize("on_doubt", ["resend", "dead-letter"])
def test_no_answer_is_in_doubt(stack_for: Stacks, started: Any, ses: Ses, on_doubt: str) -> None:
    stack = stack_for(
        {"in": [through(ses)]},
        notify=False,
        deployed=False,
        settings={"delivery": {"onDoubt": on_doubt}},
    )
    keys = put(stack, 1)
    function, queue = started(stack, now_of(stack))
    answers = [Says(raw=b"")]
    ses.refuse = lambda: answers.pop() if answers else None
    counted: list[str] = []
    function.observer.in_doubt = lambda flow, output: counted.append(output)  # type: ignore[method-assign]
    queue.notify(keys)
    queue.run(HOUR)
    assert counted == ["send"]
    assert sum(ses.sent.values()) == (1 if on_doubt == "resend" else 0)
    assert len(stack.dead_records()) == (0 if on_doubt == "resend" else 1)


def test_little_time_left_gives_mail_back_at_once(stack_for: Stacks, started: Any, ses: Ses) -> None:
    stack = stack_for({"in": [through(ses)]}, notify=False, deployed=False)
    (key,) = put(stack, 1)
    function, queue = started(stack, now_of(stack))
    asked: list[Any] = []
    queue.change_message_visibility_batch = lambda **request: asked.append(request)  # type: ignore[method-assign]
    for receives, expected in ((1, 1), (8, 1), (9, 0)):
        answer = function.handle({"Records": [stack.message(key, receives)]}, Context(30))
        assert len(answer["batchItemFailures"]) == expected
    assert [request["Entries"][0]["VisibilityTimeout"] for request in asked] == [0, 0]
    assert not ses.sent


def test_without_a_table_nothing_is_sent_and_nothing_lost(
    stack_for: Stacks, started: Any, ses: Ses, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = stack_for({"in": [through(ses)]}, notify=False, deployed=False)
    keys = put(stack, 1)
    stack.table = ""
    _, queue = started(stack, now_of(stack))
    queue.notify(keys)
    queue.run(HOUR)
    assert not ses.sent
    assert len(stack.spooled()) == 1
    assert queue.dead == []
