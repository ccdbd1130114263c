"""Receipts: one effect, despite repetitions, races and crashes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.bucket.store import Times
from functions.delivery.engine import Output, Task
from functions.delivery.events import DeliveryEvents
from functions.delivery.receipts import Later
from functions.delivery.terms import Terms
from functions.errors import Permanent, Temporary
from functions.gcp.receipts import GRACE, Claim, GcsReceipts
from functions.gcp.store import GcsStore
from functions.message.mail import BytesContent, Mail
from functions.processors.base import Once, Processor
from tests.support.mails.spooled import MAIL, envelope_of

LASTING = 300.0


class Doubts(DeliveryEvents):
    def __init__(self) -> None:
        self.count = 0

    def in_doubt(self, flow: str, output: str) -> None:
        self.count += 1


class Place:
    """Receipts of one mail's output, and a clock that is set."""

    def __init__(self, store: GcsStore) -> None:
        self.store = store
        self.now = 1_000.0
        self.doubts = Doubts()
        self.effects = 0
        self.later: Later = []
        envelope = envelope_of()
        self.mail = Mail(envelope, BytesContent(MAIL))
        output = Output("out", "gcp topic", Processor())
        self.task = Task(envelope, "in", output)

    def repeatable(self) -> None:
        """From now on the output's effect is safe to repeat."""
        output = Output("out", "gcp topic", Processor(), Terms(repeatable=True))
        self.task = Task(self.mail.envelope, "in", output)

    def once(self, *, give_up_doubts: bool = False) -> Once:
        receipts = GcsReceipts(
            self.store,
            "relay/",
            lasting=LASTING,
            give_up_doubts=give_up_doubts,
            observer=self.doubts,
            clock=lambda: self.now,
        )
        self.later.clear()
        return receipts.once(self.mail, self.task, self.later)

    def effect(self) -> str:
        self.effects += 1
        return f"message-{self.effects}\nmore"

    def names(self) -> list[str]:
        found = [each.key for each in self.store.list("relay/receipts/")]
        return [key.rpartition(".")[2] for key in found]


class Killed(BaseException):
    """The process ends here."""


def killed() -> str:
    raise Killed


@pytest.fixture
def place(store: GcsStore) -> Place:
    return Place(store)


def raising(fault: Exception) -> Callable[[], str]:
    def effect() -> str:
        raise fault

    return effect


def test_once(place: Place) -> None:
    for _ in range(3):
        assert place.once()("", place.effect) == "message-1\nmore"
    assert place.effects == 1
    assert place.once()("other part", place.effect) == "message-2\nmore"
    assert place.names() == ["claim", "done"] * 2
    assert place.doubts.count == 0
    (key, *_) = [each.key for each in place.store.list("relay/receipts/")]
    assert key.startswith(f"relay/receipts/{place.mail.id[-1]}/{place.mail.id}/")


@pytest.mark.parametrize(
    "fault", [Temporary("slow"), Temporary("no answer", in_doubt=True), Permanent("no"), KeyError("library")]
)
def test_what_failed_is_free_at_once(place: Place, fault: Exception) -> None:
    with pytest.raises(type(fault)):
        place.once()("", raising(fault))
    assert place.names() == []
    assert place.once()("", place.effect) == "message-1\nmore"


@pytest.mark.parametrize("give_up_doubts", [False, True])
def test_an_effect_that_is_safe_to_repeat_is_never_in_doubt(place: Place, give_up_doubts: bool) -> None:
    place.repeatable()
    with pytest.raises(Killed):
        place.once(give_up_doubts=give_up_doubts)("", killed)
    place.now += LASTING + GRACE + 1
    assert place.once(give_up_doubts=give_up_doubts)("", place.effect) == "message-1\nmore"
    assert place.once(give_up_doubts=give_up_doubts)("", place.effect) == "message-1\nmore"
    assert (place.effects, place.doubts.count) == (1, 0)


def test_while_another_is_at_it(place: Place) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(10)
        return place.effect()

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(place.once(), "", slow)
        assert begun.wait(10)
        place.now += LASTING + GRACE - 1
        with pytest.raises(Temporary, match="another run") as caught:
            place.once()("", place.effect)
        assert caught.value.retry_after == pytest.approx(1.0)
        assert not caught.value.in_doubt
        go_on.set()
        assert first.result() == "message-1\nmore"
    assert place.effects == 1


def test_a_run_that_was_killed(place: Place) -> None:
    with pytest.raises(Killed):
        place.once()("", killed)
    assert place.names() == ["claim"]
    place.now += LASTING + GRACE - 1
    with pytest.raises(Temporary, match="another run"):
        place.once()("", place.effect)
    place.now += 2
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: outcome(place), range(8)))
    assert "message-1\nmore" in results
    assert set(results) <= {"message-1\nmore", "another run works on it"}
    assert place.effects == 1
    assert place.doubts.count == 1


def outcome(place: Place) -> str | None:
    try:
        return place.once()("", place.effect)
    except Temporary as fault:
        return fault.reason


def test_killed_between_the_effect_and_its_receipt_is_a_doubt(place: Place) -> None:
    def effect() -> str:
        place.effect()
        raise Killed

    with pytest.raises(Killed):
        place.once()("", effect)
    place.now += LASTING + GRACE + 1
    with pytest.raises(Temporary) as caught:
        place.once(give_up_doubts=True)("", place.effect)
    assert caught.value.in_doubt
    assert (place.effects, place.doubts.count) == (1, 1)
    assert place.names() == ["claim"], "until the record is written"
    for step in place.later:
        step()
    assert place.names() == []
    # The dead record replaces the claim now; a replay begins anew.
    assert place.once(give_up_doubts=True)("", place.effect) == "message-2\nmore"


@pytest.mark.parametrize("give_up", [False, True])
def test_the_claim_of_an_effect_without_an_answer(place: Place, give_up: bool) -> None:
    def unanswered() -> str:
        raise Temporary("no answer", in_doubt=True)

    with pytest.raises(Temporary, match="no answer"):
        place.once(give_up_doubts=give_up)("", unanswered)
    assert len(place.names()) == give_up, "kept until the record is written, where it is not done again"
    for step in place.later:
        step()
    assert place.names() == []


def test_a_receipt_that_came_late_is_found(place: Place) -> None:
    with pytest.raises(Killed):
        place.once()("", killed)
    (claim,) = [each.key for each in place.store.list("relay/receipts/")]
    done = claim.replace(".claim", ".done")
    place.store.create(done, json.dumps({"result": "late"}).encode(), "application/json")
    assert place.once()("", place.effect) == "late"
    place.store.replace(done, b"rubbish", "application/json")
    assert place.once()("", place.effect) is None
    assert place.effects == 0


def test_no_receipt_can_be_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place.store, "create", raising_create)
    with pytest.raises(Temporary, match="no receipt") as caught:
        place.once()("", place.effect)
    assert caught.value.in_doubt
    assert place.names() == ["claim"]  # no run repeats it soon


def raising_create(key: str, data: bytes, content_type: str) -> bool:
    raise Temporary("the bucket is away")


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"run": 1, "deadline": "x"}', b"\xff"])
def test_a_claim_that_cannot_be_read_has_run_out(data: bytes) -> None:
    assert Claim.decode(data).deadline == 0.0


def test_a_replay_has_receipts_of_its_own(place: Place) -> None:
    place.once()("", place.effect)
    place.mail = Mail(place.mail.envelope.model_copy(update={"replay": 1}), BytesContent(MAIL))
    assert place.once()("", place.effect) == "message-2\nmore"


def test_a_claim_made_under_a_clock_days_ahead_blocks_no_run_for_days(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its run was killed; by the store's clock it is older than any run may be."""
    place.now += 4 * 86_400
    with pytest.raises(Killed):
        place.once()("", killed)
    place.now -= 4 * 86_400
    with pytest.raises(Temporary, match="another run"):
        place.once()("", place.effect)
    times = place.store.times
    assert times("relay/receipts/nothing") is None

    def later(key: str) -> Times:
        found = times(key)
        assert found is not None
        return found._replace(now=found.now + 3_610 + GRACE)

    monkeypatch.setattr(place.store, "times", later)
    assert place.once()("", place.effect) == "message-1\nmore"
    assert place.doubts.count == 1


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"run": "x", "deadline": 1%s}' % (b"0" * 400), b"1" * 9_000]
)
def test_a_hostile_claim_has_run_out(data: bytes) -> None:
    assert Claim.decode(data).deadline == 0.0
