"""Receipts on AWS, tested with a DynamoDB."""

from __future__ import annotations

import contextlib
import datetime
import logging
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aws_lambda_powertools.utilities.idempotency import base as idempotency
from aws_lambda_powertools.utilities.idempotency.persistence import base, datarecord, dynamodb

from functions.aws.clients import REPEATABLE, plain_client
from functions.aws.receipts import KEPT, DynamoReceipts
from functions.bucket.runner import BucketRunner, RunResult
from functions.delivery.engine import Delivery, Output, Task
from functions.delivery.events import DeliveryEvents
from functions.delivery.receipts import Later
from functions.errors import Permanent, Temporary
from functions.message.mail import BytesContent, Mail
from functions.processors.base import Job, Once, Processor
from tests.support.clouds.memory_store import MemoryStore
from tests.support.clouds.ministack import Ministack
from tests.support.mails.spooled import MAIL, envelope_of, spool_object

TABLE = "receipts-alone"


class Killed(BaseException):
    """The process ends."""


class Doubts(DeliveryEvents):
    def __init__(self) -> None:
        self.count = 0

    def in_doubt(self, flow: str, output: str) -> None:
        self.count += 1


class Context:
    """Lambda's, with a minute left."""

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


class Place:
    """Receipts of one mail's output."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.doubts = Doubts()
        self.effects = 0
        self.later: Later = []
        envelope = envelope_of()
        self.mail = Mail(envelope, BytesContent(MAIL))
        self.task = Task(envelope, "in", Output("out", "aws queue", Processor()))

    def once(self, *, give_up_doubts: bool = False) -> Once:
        """The receipts of a new run."""
        receipts = DynamoReceipts(TABLE, self.client, give_up_doubts=give_up_doubts, observer=self.doubts)
        receipts.register(Context())
        self.later.clear()
        return receipts.once(self.mail, self.task, self.later)

    def effect(self) -> str:
        self.effects += 1
        return f"message-{self.effects}"

    def items(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.scan(TableName=TABLE)["Items"]
        return found

    def age(self, attribute: str, now: float) -> None:
        """Let the items in the table expire."""
        for item in self.items():
            self.client.put_item(TableName=TABLE, Item={**item, attribute: {"N": str(int(now))}})

    def time_out(self) -> None:
        """The run that made a claim would have been cut by now."""
        self.age("in_progress_expiration", (time.time() - 1) * 1000)


@pytest.fixture
def place(aws: Ministack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    client = plain_client("dynamodb", REPEATABLE)
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    yield Place(client)
    client.delete_table(TableName=TABLE)


def killed() -> str:
    raise Killed


def test_an_effect_takes_place_once(place: Place) -> None:
    assert place.once()("", place.effect) == "message-1"
    assert place.once()("", place.effect) == "message-1"
    assert (place.effects, place.doubts.count) == (1, 0)
    assert place.once()("another part", place.effect) == "message-2"


@pytest.mark.parametrize("fault", [Temporary("slow"), Temporary("no answer", in_doubt=True), Permanent("no")])
def test_a_fault_leaves_no_claim(place: Place, fault: Exception) -> None:
    def fails() -> str:
        raise fault

    with pytest.raises(type(fault)) as caught:
        place.once()("", fails)
    assert caught.value is fault
    assert place.items() == []
    assert place.once()("", place.effect) == "message-1"
    assert place.doubts.count == 0


def test_a_claim_keeps_others_away(place: Place) -> None:
    with pytest.raises(Killed):
        place.once()("", killed)
    with pytest.raises(Temporary, match="another run works on it"):
        place.once()("", place.effect)
    assert (place.effects, place.doubts.count) == (0, 0)


def test_the_claim_of_a_run_that_was_killed_is_a_doubt_for_every_later_run(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    """Also for a notification that does not know the run before: the sweep's, or a repeated event."""
    with pytest.raises(Killed):
        place.once()("", killed)
    place.time_out()
    assert place.once()("", place.effect) == "message-1"
    assert place.doubts.count == 1
    (line,) = [one for one in caplog.records if one.levelno >= logging.WARNING]
    found = vars(line)
    assert (found["id"], found["flow"], found["output"]) == (place.mail.id, "in", "out")
    assert found["in_doubt"] is True
    assert place.once()("", place.effect) == "message-1"
    assert place.doubts.count == 1, "told once"


def test_a_doubt_is_given_up_where_that_was_asked_for(place: Place) -> None:
    with pytest.raises(Killed):
        place.once()("", killed)
    place.time_out()
    with pytest.raises(Temporary) as caught:
        place.once(give_up_doubts=True)("", place.effect)
    assert caught.value.in_doubt
    assert (place.effects, place.doubts.count) == (0, 1)
    assert [item["status"]["S"] for item in place.items()] == ["INPROGRESS"], "until the record is written"
    for step in place.later:
        step()
    assert place.items() == []
    # The dead record replaces the claim now; a replay begins anew.
    assert place.once(give_up_doubts=True)("", place.effect) == "message-1"


@pytest.mark.parametrize("give_up", [False, True])
def test_the_claim_of_an_effect_without_an_answer(place: Place, give_up: bool) -> None:
    def unanswered() -> str:
        raise Temporary("no answer", in_doubt=True)

    with pytest.raises(Temporary, match="no answer"):
        place.once(give_up_doubts=give_up)("", unanswered)
    assert len(place.items()) == give_up, "kept until the record is written, where it is not done again"
    for step in place.later:
        step()
    assert place.items() == []


def test_a_doubt_whose_record_cannot_be_written_is_not_forgotten(place: Place) -> None:
    """The bucket refuses the dead record: nothing is sent again, and the record is written later."""

    class Unanswered(Processor):
        calls = 0

        def process(self, job: Job) -> None:
            def effect() -> str:
                self.calls += 1
                raise Temporary("no answer", in_doubt=True)

            job.once("part", effect)

    output, store = Unanswered(), MemoryStore()
    receipts = DynamoReceipts(TABLE, place.client, give_up_doubts=True, observer=place.doubts)
    receipts.register(Context())
    delivery = Delivery({"in": [Output("out", "aws queue", output)]}, on_doubt="dead-letter")
    runner = BucketRunner(store, "relay/", delivery, receipts, observer=place.doubts)
    key, data = spool_object(envelope_of(), MAIL, "relay/")
    assert store.create(key, data, "message/rfc822")

    def run() -> RunResult:
        return runner.run(key, attempts=1, seconds_left=lambda: 60.0).result

    store.fails = lambda verb, at: verb == "create" and "/dead/" in at
    assert run() is RunResult.LATER
    store.fails = lambda verb, at: False
    assert run() is RunResult.LATER, "the claim is respected"
    place.time_out()
    assert run() is RunResult.PARKED
    assert output.calls == 1
    assert place.doubts.count == 2, "the effect's own, and that of the claim it left"
    assert place.items() == []


FOUR_DAYS = 4 * 86_400


@pytest.mark.parametrize("ahead", [FOUR_DAYS, -FOUR_DAYS, 10 * FOUR_DAYS, -10 * FOUR_DAYS])
@pytest.mark.parametrize("known", [False, True], ids=["at the start", "later"])
def test_a_claim_s_time_is_told_by_the_clock_of_the_table(
    place: Place, monkeypatch: pytest.MonkeyPatch, ahead: int, known: bool
) -> None:
    """A claim made under a wrong clock holds no longer than any other, and no wrong clock takes it over."""
    once = place.once()
    if known:
        once("another part", place.effect)
    with wrong_clock(monkeypatch, ahead), pytest.raises(Killed):
        once("", killed)
    assert all(0 < left < 90 for left in left_of_claims(place))
    with wrong_clock(monkeypatch, ahead), pytest.raises(Temporary, match="another run works on it"):
        place.once()("", place.effect)
    with pytest.raises(Temporary, match="another run works on it"):
        place.once()("", place.effect)
    place.age("in_progress_expiration", (time.time() - 90) * 1000)
    with wrong_clock(monkeypatch, ahead):
        place.once()("", place.effect)
    assert place.doubts.count == 1
    assert place.effects == 1 + known


@pytest.mark.parametrize("ahead", [10 * FOUR_DAYS, -10 * FOUR_DAYS])
def test_a_receipt_counts_whatever_the_clock_says(
    place: Place, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    with wrong_clock(monkeypatch, ahead):
        assert place.once()("", place.effect) == "message-1"
    assert place.once()("", place.effect) == "message-1"
    with wrong_clock(monkeypatch, ahead), contextlib.suppress(Temporary):
        place.once()("", place.effect)
    assert place.effects == 1
    (item,) = place.items()
    assert abs(int(item["expiration"]["N"]) - KEPT - time.time()) < 120


@pytest.mark.parametrize("ahead", [FOUR_DAYS, -FOUR_DAYS])
@pytest.mark.parametrize("known", [False, True], ids=["at the start", "later"])
@pytest.mark.parametrize("reader", ["Powertools", "receipts"])
def test_a_clock_that_is_set_at_any_moment_makes_no_wrong_claim(
    place: Place, monkeypatch: pytest.MonkeyPatch, ahead: int, known: bool, reader: str
) -> None:
    once = place.once()
    if known:
        once("another part", place.effect)
    with wrong_clock(monkeypatch, ahead, [reader]), pytest.raises(Killed):
        once("", killed)
    assert all(0 < left < 90 for left in left_of_claims(place))
    for _ in range(2):
        with (
            wrong_clock(monkeypatch, ahead, [reader]),
            pytest.raises(Temporary, match="another run works on it"),
        ):
            once("", place.effect)


@pytest.mark.parametrize("left", [4 * 86_400_000, 901_000 + 61_000])
def test_a_claim_holds_no_longer_than_a_run_of_lambda_whatever_its_context_says(
    place: Place, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """The context subtracts the machine's clock from the platform's deadline."""
    monkeypatch.setattr(Context, "get_remaining_time_in_millis", lambda self: left)
    with pytest.raises(Killed):
        place.once()("", killed)
    assert all(0 < seconds < 930 for seconds in left_of_claims(place))


def test_a_table_that_does_not_tell_the_time_is_believed_to_agree(place: Place) -> None:
    def without_date(**about: Any) -> Any:
        answer = place.client.get_item(**about)
        del answer["ResponseMetadata"]["HTTPHeaders"]["date"]
        return answer

    receipts = DynamoReceipts(TABLE, Delegate(place.client, get_item=without_date))
    receipts.register(Context())
    once = receipts.once(place.mail, place.task, [])
    with pytest.raises(Killed):
        once("", killed)
    assert all(0 < left < 90 for left in left_of_claims(place))


class Delegate:
    """A client with some replaced calls."""

    def __init__(self, client: Any, **calls: Any) -> None:
        self._client = client
        vars(self).update(calls)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def left_of_claims(place: Place) -> list[float]:
    """The seconds for which they hold."""
    found = [item for item in place.items() if item["status"]["S"] == "INPROGRESS"]
    assert found
    return [int(item["in_progress_expiration"]["N"]) / 1000 - time.time() for item in found]


@contextlib.contextmanager
def wrong_clock(
    monkeypatch: pytest.MonkeyPatch, ahead: int, readers: Sequence[str] = ("Powertools", "receipts")
) -> Iterator[None]:
    """This process's clock, as Powertools and the receipts read it; the steady one is right. Where only
    one of them reads it wrong, it was set in between."""

    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=ahead)

    dates = SimpleNamespace(datetime=Shifted, timedelta=datetime.timedelta)

    clock = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() + ahead)
    with monkeypatch.context() as patch:
        if "Powertools" in readers:
            for module in (idempotency, base, dynamodb, datarecord):
                patch.setattr(module, "dt", dates)
        if "receipts" in readers:
            patch.setattr("functions.aws.receipts.time", clock, raising=False)
        yield


def test_a_receipt_past_its_time_is_no_doubt(place: Place) -> None:
    place.once()("", place.effect)
    place.age("expiration", time.time() - 1)
    assert place.once()("", place.effect) == "message-2"
    assert place.doubts.count == 0


def test_a_receipt_that_cannot_be_written_is_a_doubt(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: Any) -> Any:
        raise ConnectionError("the table is away")

    once = place.once()
    monkeypatch.setattr(place.client, "update_item", fails)
    with pytest.raises(Temporary, match="no receipt could be written") as caught:
        once("", place.effect)
    assert caught.value.in_doubt
    with pytest.raises(Temporary, match="another run works on it"):
        place.once()("", place.effect)


def test_without_the_table_nothing_takes_effect(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: Any) -> Any:
        raise ConnectionError("the table is away")

    monkeypatch.setattr(place.client, "put_item", fails)
    with pytest.raises(Temporary, match="receipts cannot be reached"):
        place.once()("", place.effect)
    assert place.effects == 0
