"""Delivery against a ledger in memory: every output once, failures apart from one another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import pytest

from functions.delivery.engine import SKEW, Delivery, Outcome, Output, State, Task, backoff, output_key
from functions.errors import Permanent, Temporary
from functions.message.envelope import Client, Envelope, Recipient
from functions.message.mail import BytesContent, Mail
from functions.processors.base import MIN_SECONDS_LEFT, Job, Once, Placed, Processor
from functions.spool.dead_record import UNKNOWN, DeadRecord

NOW = 1_767_323_045.0


def mail(*, flows: tuple[str, ...] = ("in",), age: float = 0.0, replay: int = 0) -> Mail:
    envelope = Envelope(
        id="01890a5d-ac96-774b-bcce-b302099a8057",
        session="s",
        received=int((NOW - age) * 1000),
        reverse_path="a@b.example",
        recipients=(
            Recipient(address="one@x.example", flows=flows),
            Recipient(address="two@x.example", flows=flows[:1]),
        ),
        client=Client(ip="192.0.2.1"),
        size=4,
        sha256="",
        replay=replay,
    )
    return Mail(envelope, BytesContent(b"mail"))


class Trace:
    """A `Placed` that notes the order of its calls."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    def fsync(self) -> None:
        self._events.append("flush")

    def cleanup(self) -> None:
        self._events.append("settle")


class Scripted(Processor):
    """Raises what the script says, one entry a call; None succeeds."""

    def __init__(self, *script: Exception | None, placed: Placed | None = None) -> None:
        self.script = list(script)
        self.jobs: list[Job] = []
        self._placed = placed

    def process(self, job: Job) -> Placed | None:
        self.jobs.append(job)
        fault = self.script.pop(0) if self.script else None
        if fault is not None:
            raise fault
        return self._placed


class MemoryLedger:
    """A ledger in memory that keeps done and dead outputs."""

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.dead: dict[str, DeadRecord] = {}
        self.events: list[str] = []

    def settled(self, mail: Mail) -> Mapping[str, State]:
        return self.states

    def once(self, mail: Mail, task: Task) -> Once:
        def run(part: str, effect: Callable[[], str | None]) -> None:
            effect()

        return run

    def done(self, mail: Mail, outcome: Outcome) -> None:
        self.events.append("done")
        self.states[outcome.task.key] = State.DONE

    def bury(self, mail: Mail, record: DeadRecord) -> None:
        self.dead.setdefault(record.key, record)
        self.states[record.key] = State.DEAD


def delivery(*processors: Processor, **options: object) -> Delivery:
    outputs = [Output(f"test_{i}", f"identity-{i}", p) for i, p in enumerate(processors)]
    return Delivery({"in": outputs}, **options)  # type: ignore[arg-type]


def run(  # type: ignore[no-untyped-def]
    made: Delivery,
    ledger: MemoryLedger,
    one: Mail | None = None,
    seconds: float = 900.0,
    witness: Saying | None = None,
):
    return made.deliver(
        one or mail(), ledger, attempts=2, now=NOW, seconds_left=lambda: seconds, witness=witness
    )


def test_every_output_runs_with_its_flows_recipients() -> None:
    first, second = Scripted(), Scripted()
    report = run(delivery(first, second), MemoryLedger())
    assert report.finished
    assert not report.parked
    assert first.jobs[0].recipients == ("one@x.example", "two@x.example")
    assert [len(p.jobs) for p in (first, second)] == [1, 1]


def test_one_failure_does_not_block_another_and_only_it_is_repeated() -> None:
    ledger = MemoryLedger()
    failing, fine = Scripted(Temporary("throttled", retry_after=7)), Scripted()
    made = delivery(failing, fine)
    report = run(made, ledger)
    assert (report.finished, report.parked, report.retry_after) == (False, False, 7)
    assert run(made, ledger).finished
    assert [len(p.jobs) for p in (failing, fine)] == [2, 1]


def test_a_permanent_fault_becomes_a_dead_record_with_the_reason() -> None:
    ledger = MemoryLedger()
    dead = Scripted(Permanent("no such bucket", enhanced="5.2.4"))
    made = delivery(dead, Scripted())
    report = run(made, ledger)
    assert (report.finished, report.parked) == (False, True)
    (record,) = ledger.dead.values()
    assert (record.reason, record.code, record.output, record.attempts) == (
        "no such bucket",
        "5.2.4",
        "test_0",
        3,
    )
    assert record.recipients == ("one@x.example", "two@x.example")
    run(made, ledger)
    assert len(dead.jobs) == 1


def test_unexpected_faults_are_temporary_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        report = run(delivery(Scripted(KeyError("x"))), MemoryLedger())
    assert report.outcomes[0].state is State.RETRY
    assert caplog.records[0].exc_info


def test_what_fails_for_too_long_is_given_up_but_tried_first() -> None:
    ledger = MemoryLedger()
    old = mail(age=300_000)
    assert run(delivery(Scripted()), MemoryLedger(), old).finished
    assert run(delivery(Scripted(Temporary("down"))), ledger, old).parked
    assert next(iter(ledger.dead.values())).reason == "down"


class Saying:
    """A witness that answers true or false, and counts the questions."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.asked: list[tuple[str, float]] = []

    def waited(self, seconds: float) -> bool:
        self.asked.append(("waited", seconds))
        return self.answer

    def older(self, seconds: float) -> bool:
        self.asked.append(("older", seconds))
        return self.answer


@pytest.mark.parametrize("agrees", [True, False])
@pytest.mark.parametrize("age", [300_000, -300_000], ids=["old", "from the future"])
def test_giving_up_takes_the_witness_too(age: float, agrees: bool) -> None:
    witness = Saying(agrees)
    made = delivery(Scripted(Temporary("down")))
    report = made.deliver(
        mail(age=age), MemoryLedger(), attempts=2, now=NOW, seconds_left=lambda: 900.0, witness=witness
    )
    assert report.parked is agrees
    assert witness.asked == [("waited", 259_200.0)]


def test_the_witness_is_asked_when_the_clock_says_that_it_is_time() -> None:
    witness = Saying(True)
    made = delivery(Scripted(Temporary("down")))
    flows = ("in", "gone")
    made.deliver(
        mail(flows=flows), MemoryLedger(), attempts=2, now=NOW, seconds_left=lambda: 900.0, witness=witness
    )
    assert not witness.asked


@pytest.mark.parametrize("agrees", [True, False])
def test_an_unknown_flow_is_given_up_by_two_witnesses(agrees: bool) -> None:
    witness = Saying(agrees)
    one = mail(flows=("gone",), age=SKEW + 1)
    report = delivery().deliver(
        one, MemoryLedger(), attempts=2, now=NOW, seconds_left=lambda: 900.0, witness=witness
    )
    assert report.parked is agrees
    assert witness.asked == [("older", SKEW)]


def damaged() -> Mail:
    envelope = mail().envelope
    return Mail(envelope, BytesContent(b"spoiled"))


@pytest.mark.parametrize("quick", [True, False])
def test_no_output_has_a_damaged_mail(quick: bool) -> None:
    class Reading(Processor):
        def process(self, job: Job) -> Placed | None:
            raise AssertionError(job.mail.raw(job.flow))

    Reading.quick = quick
    ledger = MemoryLedger()
    report = run(delivery(Reading()), ledger, damaged())
    assert report.parked
    assert [record.reason for record in ledger.dead.values()] == ["the stored mail is damaged"]


def test_what_has_its_receipt_is_done_though_the_mail_is_damaged_now() -> None:
    class Once(Processor):
        def process(self, job: Job) -> Placed | None:
            assert job.once("part", lambda: "anew") == "before"
            return None

    class Receipts(MemoryLedger):
        def once(self, mail: Mail, task: Task) -> Callable[..., str | None]:  # type: ignore[override]
            return lambda part, effect: "before"

    assert run(delivery(Once()), Receipts(), damaged()).finished


def test_nothing_starts_near_the_end_of_a_run_and_nothing_dies_of_that() -> None:
    processor = Scripted()
    report = run(delivery(processor), MemoryLedger(), mail(age=10**6), seconds=MIN_SECONDS_LEFT - 1)
    assert report.outcomes[0].state is State.RETRY
    assert not processor.jobs


@pytest.mark.parametrize(("age", "state"), [(0.0, State.RETRY), (SKEW + 1, State.DEAD)])
def test_an_unknown_flow_is_deploy_skew_for_an_hour(age: float, state: State) -> None:
    ledger = MemoryLedger()
    fine = Scripted()
    report = run(delivery(fine), ledger, mail(flows=("in", "gone"), age=age))
    assert {o.label: o.state for o in report.outcomes} == {"test_0": State.DONE, UNKNOWN: state}
    assert len(fine.jobs) == 1


def test_doubt_is_resent_or_buried_as_configured() -> None:
    doubt = Temporary("no answer", in_doubt=True)
    assert run(delivery(Scripted(doubt)), MemoryLedger()).outcomes[0].state is State.RETRY
    made = delivery(Scripted(doubt), on_doubt="dead-letter")
    assert run(made, MemoryLedger()).outcomes[0].state is State.DEAD


def test_the_receipt_comes_between_flush_and_settle() -> None:
    ledger = MemoryLedger()
    run(delivery(Scripted(placed=Trace(ledger.events))), ledger)
    assert ledger.events == ["flush", "done", "settle"]


def test_keys_name_mail_replay_flow_output_and_part() -> None:
    envelope = mail().envelope
    keys = {
        output_key(envelope, "in", "a"),
        output_key(envelope, "in", "b"),
        output_key(envelope, "other", "a"),
        output_key(envelope, "in", "a", "part"),
        output_key(mail(replay=1).envelope, "in", "a"),
    }
    assert len(keys) == 5
    assert output_key(envelope, "in", "a") == output_key(mail().envelope, "in", "a")


def test_backoff_doubles_with_jitter_up_to_a_quarter_of_an_hour() -> None:
    for attempts, whole in [(1, 30), (2, 60), (5, 480), (6, 900), (400, 900)]:
        waits = [backoff(attempts) for _ in range(200)]
        assert whole / 2 <= min(waits) <= max(waits) <= whole
        assert max(waits) - min(waits) > whole / 10
