"""Waits, end and concurrency of single outputs."""

from __future__ import annotations

import threading
import time

import pytest

from functions.config import DeliveryConfig
from functions.delivery.build import build_outputs
from functions.delivery.engine import Delivery, Outcome, Output, Report, State, Task, wait_after
from functions.delivery.terms import Gate, Paces, Terms, Waits
from functions.errors import HeldBack, Temporary
from functions.message.mail import BytesContent, Mail
from functions.processors.base import Job, Once, Placed, Processor
from tests.support.mails.spooled import MAIL, envelope_of


class Sink(Processor):
    def __init__(self) -> None:
        self.fault: Exception | None = Temporary("down")
        self.inside = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()

    def process(self, job: Job) -> Placed | None:
        self.inside.release()
        assert self.go.wait(10)
        if self.fault is not None:
            raise self.fault
        return None


def _once(*_: object) -> str | None:
    raise AssertionError("no receipts here")


ONCE: Once = _once


def delivery_of(**terms: float | Waits | int | None) -> tuple[Delivery, Sink]:
    sink = Sink()
    return Delivery({"in": [Output("out", "out", sink, Terms(**terms))]}), sink  # type: ignore[arg-type]


def attempt(delivery: Delivery, age: float = 0.0) -> Outcome:
    mail = Mail(envelope_of(age=age), BytesContent(MAIL))
    (task,) = delivery.tasks(mail.envelope)
    return delivery.attempt(mail, task, ONCE, now=time.time())


def test_the_options_of_an_output_are_its_terms() -> None:
    config = DeliveryConfig.model_validate(
        {
            "flows": {
                "in": {
                    "outputs": [
                        {"type": "log"},
                        {
                            "type": "log",
                            "name": "slow",
                            "retry": {"first": "1s", "max": "5s"},
                            "giveUpAfter": "1h",
                            "concurrency": 3,
                        },
                    ]
                }
            }
        }
    )
    plain, own = build_outputs(config, lambda label, options: Sink()).flows["in"]
    assert plain.terms == Terms()
    assert own.terms == Terms(Waits(1.0, 5.0), 3600.0, 3)


def test_an_output_is_given_up_after_its_own_time() -> None:
    short, _ = delivery_of(give_up_after=60.0)
    long, _ = delivery_of(give_up_after=10 * 86_400.0)
    usual, _ = delivery_of()
    assert attempt(short, age=61).state is State.DEAD
    assert attempt(short, age=50).state is State.RETRY
    assert attempt(usual, age=4 * 86_400).state is State.DEAD
    assert attempt(long, age=4 * 86_400).state is State.RETRY


@pytest.mark.parametrize(("attempts", "least", "most"), [(1, 1.0, 2.0), (2, 2.0, 4.0), (9, 4.0, 8.0)])
def test_an_output_waits_by_its_own_retry(attempts: int, least: float, most: float) -> None:
    delivery, _ = delivery_of(waits=Waits(2.0, 8.0))
    outcome = attempt(delivery)
    assert least <= wait_after(outcome, attempts, Waits(1000.0, 1000.0)) <= most
    assert least <= Report((outcome,), False, False).wait(attempts, Waits(1000.0, 1000.0)) <= most


def test_no_wait_goes_beyond_the_end() -> None:
    """A server may ask for a day, and the output is given up in a minute."""
    delivery, sink = delivery_of(give_up_after=60.0)
    sink.fault = Temporary("later", retry_after=86_400.0)
    assert 59.0 < wait_after(attempt(delivery), 1, Waits()) < 60.5
    assert wait_after(attempt(delivery, age=58), 1, Waits()) < 2.5


def test_the_mail_comes_again_after_the_longest_wait() -> None:
    quick, _ = delivery_of(waits=Waits(1.0, 1.0))
    slow, _ = delivery_of(waits=Waits(100.0, 100.0))
    report = Report((attempt(quick), attempt(slow)), False, False)
    assert 50.0 <= report.wait(1, Waits()) <= 100.0


def test_more_mails_than_the_output_takes_are_held() -> None:
    delivery, sink = delivery_of(concurrency=2)
    sink.go.clear()
    sink.fault = None
    (output,) = delivery.flows["in"]
    found: list[Outcome] = []
    threads = [threading.Thread(target=lambda: found.append(attempt(delivery))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert sink.inside.acquire(timeout=10)
    assert output.gate.room == 0
    held = attempt(delivery)
    assert held.state is State.RETRY
    assert isinstance(held.fault, HeldBack)
    sink.go.set()
    for thread in threads:
        thread.join(10)
    assert [one.state for one in found] == [State.DONE, State.DONE]
    assert output.gate.room == 2
    assert attempt(delivery).state is State.DONE


def test_a_failed_attempt_gives_its_place_back() -> None:
    delivery, _ = delivery_of(concurrency=1)
    assert [attempt(delivery).fault for _ in range(3)].count(None) == 0
    assert delivery.flows["in"][0].gate.room == 1


def test_the_room_of_a_gate_is_also_its_outputs() -> None:
    class Closed(Sink):
        @property
        def room(self) -> int:
            return 0

    assert Gate(Closed(), 5).room == Gate(Closed(), None).room == 0


class TestPaces:
    def test_outputs_of_one_mail_have_their_own_times(self) -> None:
        paces = Paces()
        assert paces.note("mail", {"a": (1, 0.0), "b": (1, 50.0)}, frozenset("ab")) == 0.0
        assert paces.due("mail", "a")
        assert not paces.due("mail", "b")
        assert paces.note("mail", {"a": (2, 7.0)}, frozenset("ab")) == pytest.approx(7.0, abs=0.5)
        assert not paces.due("mail", "a")
        assert (paces.attempts("mail", "a", 9), paces.attempts("mail", "b", 9)) == (2, 1)

    def test_the_last_output_has_the_time_of_the_mail(self) -> None:
        paces = Paces()
        paces.note("mail", {"a": (1, 9.0), "b": (1, 50.0)}, frozenset("ab"))
        assert paces.note("mail", {}, frozenset("b")) == pytest.approx(50.0, abs=0.5)
        assert paces.due("mail", "b")
        assert paces.attempts("mail", "b", 9) == 9

    def test_an_output_that_was_not_tried_is_due_at_once(self) -> None:
        assert Paces().note("mail", {"a": (1, 9.0)}, frozenset("ab")) == 0.0

    def test_what_is_asked_for_is_due(self) -> None:
        paces = Paces()
        paces.note("mail", {"a": (1, 9.0), "b": (1, 50.0)}, frozenset("ab"))
        paces.forget("mail", "b")
        assert (paces.due("mail", "a"), paces.due("mail", "b")) == (False, True)
        paces.forget("mail")
        assert paces.due("mail", "a")


def test_a_flow_that_is_unknown_waits_by_the_rules_of_the_delivery() -> None:
    task = Task(envelope_of(), "gone", None)
    outcome = Outcome(task, State.RETRY, Temporary("no flow"))
    assert 10.0 <= wait_after(outcome, 1, Waits(20.0, 900.0)) <= 20.0
