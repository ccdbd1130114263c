"""The home of a bucket spool: one run over one mail, and what is left behind."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.bucket.marks import spooled_id
from functions.bucket.runner import ENVELOPE, Fate
from functions.delivery.engine import SKEW, Delivery, Output
from functions.delivery.events import DeliveryEvents
from functions.errors import Permanent, Temporary
from functions.message.envelope import Envelope, Refused
from functions.spool.dead_record import DeadRecord
from functions.spool.object import split_object
from tests.support.clouds.bucket_runner import Place, Scripted
from tests.support.mails.spooled import MAIL, envelope_of, spool_object


@pytest.fixture
def place() -> Place:
    return Place()


def records(place: Place) -> dict[str, DeadRecord]:
    keys = [key for key in place.below("dead/") if key.endswith(".json")]
    found = [DeadRecord.model_validate_json(place.store.objects[place.prefix + key]) for key in keys]
    return {record.output: record for record in found}


def test_a_delivered_mail_is_deleted(place: Place) -> None:
    key, envelope = place.put()
    assert place.run(key).fate is Fate.FINISHED
    assert place.a.effects == place.b.effects == {(envelope.id, 0): 1}
    assert not place.store.objects


def test_a_second_notification_finds_nothing(place: Place) -> None:
    key, _ = place.put()
    place.run(key)
    assert place.run(key).fate is Fate.GONE
    assert place.a.calls == 1


def test_one_failing_output_holds_up_no_other_and_repeats_none(place: Place) -> None:
    key, envelope = place.put()
    place.a.faults = [Temporary("busy", retry_after=70.0)]
    run = place.run(key)
    assert run.fate is Fate.LATER
    assert run.retry_after == 70.0
    assert not run.cut_short
    assert place.run(key, attempts=1).fate is Fate.FINISHED
    assert place.b.effects == {(envelope.id, 0): 1}
    assert place.b.calls == 1


def test_a_mail_that_is_given_up_is_recorded_and_parked(place: Place) -> None:
    key, envelope = place.put()
    place.a.always = Permanent("no such bucket", enhanced="5.1.2")
    assert place.run(key).fate is Fate.PARKED
    record = records(place)["a"]
    assert (record.reason, record.code, record.attempts) == ("no such bucket", "5.1.2", 1)
    assert record.recipients == ("bob@example.com",)
    assert record.first == envelope.received
    assert place.run(key).fate is Fate.PARKED
    assert place.a.calls == 1, "what is dead is not tried"
    assert place.below("spool/"), "the mail stays for a replay"


def test_a_mail_with_an_output_still_tried_is_not_parked(place: Place) -> None:
    key, _ = place.put()
    place.a.always = Permanent("no")
    place.b.faults = [Temporary("later")]
    assert place.run(key).fate is Fate.LATER
    assert not [name for name in place.below("dead/") if "parked" in name]
    assert place.run(key).fate is Fate.PARKED


def test_a_mail_older_than_give_up_after_gets_a_dead_record() -> None:
    place = Place(give_up_after=1000)
    key, _ = place.put()
    place.a.always = Temporary("down", enhanced="4.4.1")
    assert place.run(key).fate is Fate.LATER
    place.now += 1001
    assert place.run(key, attempts=7).fate is Fate.PARKED
    assert records(place)["a"].attempts == 8


def test_an_unknown_flow_waits_an_hour_for_its_deployment(place: Place) -> None:
    key, _ = place.put(flows=("new",))
    assert place.run(key).fate is Fate.LATER
    place.now += SKEW + 1
    assert place.run(key).fate is Fate.PARKED
    assert "no flow 'new'" in records(place)["unknown"].reason


def test_too_little_time_is_no_failure(place: Place) -> None:
    key, _ = place.put()
    place.seconds_left = 20
    run = place.run(key)
    assert run.fate is Fate.LATER
    assert run.cut_short


@pytest.mark.parametrize("data", [b"", b"hello", b"X-SMTP-Relay-Envelope: !!\r\n\r\n", b"Subject: x\r\n\r\n"])
def test_an_object_that_is_no_mail_of_ours(place: Place, data: bytes) -> None:
    key, _ = place.put()
    place.store.objects[key] = data
    assert place.run(key).fate is Fate.LATER, "a newer listener may have written it"
    place.now += SKEW + 1
    assert place.run(key).fate is Fate.PARKED
    assert place.run(key).fate is Fate.PARKED
    (record,) = records(place).values()
    assert record.key == ENVELOPE
    assert record.code == "5.6.0"


def test_a_mail_under_anothers_key(place: Place) -> None:
    key, _ = place.put()
    other, data = spool_object(envelope_of(), MAIL, place.prefix)
    place.store.objects[key] = data
    place.now += SKEW + 1
    assert place.run(key).fate is Fate.PARKED
    assert place.a.calls == 0
    assert other != key


@pytest.mark.parametrize(
    "key",
    ["relay/spool/probe", "relay/dead/a/b/c.json", "spool/0/2026/01/01/00/x.eml", "relay/spool/../x", ""],
)
def test_foreign_keys(place: Place, key: str) -> None:
    assert place.run(key).fate is Fate.FOREIGN


def test_a_failing_bucket_is_tried_again_later(place: Place) -> None:
    key, _ = place.put()
    place.store.fails = lambda verb, at: verb == "read"
    assert place.run(key).fate is Fate.LATER


def test_a_kept_mail_carries_the_number_of_its_last_replay() -> None:
    place = Place(keep=True)
    key, envelope = place.put()
    place.run(key)
    (kept,) = place.below("kept/")
    assert split_object(place.store.objects[place.prefix + kept]) == (envelope, MAIL)
    again = envelope.model_copy(update={"replay": 1})
    place.store.objects[key] = spool_object(again)[1]
    assert place.run(key).fate is Fate.FINISHED
    assert split_object(place.store.objects[place.prefix + kept])[0].replay == 1
    assert place.a.effects == {(envelope.id, 0): 1, (envelope.id, 1): 1}


def test_refused_recipients_become_records_once(place: Place) -> None:
    refused = (Refused(address="no@example.com", reason="550 5.7.1 no", code="5.7.1"),)
    key, _ = place.put(refused=refused)
    place.a.faults = [Temporary("later")]
    place.run(key)
    assert place.run(key).fate is Fate.FINISHED
    (record,) = records(place).values()
    assert record.recipients == ("no@example.com",)
    assert not place.below("spool/")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.05, 0.5))
def test_whatever_fails_each_output_takes_effect_once(seed: int, rate: float) -> None:
    """The bucket and the outputs fail at random; runs are repeated, also after the end."""
    chance = random.Random(seed)
    place = Place()
    keys = [place.put()[0] for _ in range(3)]
    place.store.fails = lambda verb, key: chance.random() < rate
    for output in (place.a, place.b):
        output.faults = [Temporary("x") if chance.random() < rate else None for _ in range(20)]
    for _ in range(60):
        place.run(chance.choice(keys), attempts=1)
    place.store.fails = lambda verb, key: False
    for key in keys:
        while place.run(key, attempts=1).fate is Fate.LATER:
            pass
    ids = [spooled_id(key, place.prefix) for key in keys]
    assert place.a.effects == place.b.effects == {(mail_id, 0): 1 for mail_id in ids}
    assert not place.store.objects


def test_a_mail_larger_than_any_envelope_is_read(place: Place) -> None:
    key, _ = place.put(MAIL + b"x" * 5_000_000)
    assert place.run(key).fate is Fate.FINISHED


class TestListingOfMarks:
    """A listing costs as much as the upload: a run that cannot find marks does not list them."""

    @pytest.fixture
    def listed(self, place: Place) -> list[str]:
        found: list[str] = []

        def note(verb: str, key: str) -> bool:
            if verb == "list":
                found.append(key)
            return False

        place.store.fails = note
        return found

    def test_a_first_run_does_not_list(self, place: Place, listed: list[str]) -> None:
        key, envelope = place.put()
        assert place.run(key, stored=True).fate is Fate.FINISHED
        assert place.a.effects == {(envelope.id, 0): 1}
        assert not listed

    def test_a_first_run_that_fails_does_not_list(self, place: Place, listed: list[str]) -> None:
        key, _ = place.put()
        place.a.faults = [Temporary("later")]
        assert place.run(key, stored=True).fate is Fate.LATER
        assert not listed
        assert place.run(key, attempts=1, stored=True).fate is Fate.FINISHED
        assert listed

    @pytest.mark.parametrize(
        "about",
        [
            {"replay": 1},
            {"age": 61.0},
            {"refused": (Refused(address="x@example.com", reason="no", code="5.1.1"),)},
        ],
        ids=["replayed", "old", "with refused recipients"],
    )
    def test_a_run_that_may_find_marks_lists_them(
        self, place: Place, listed: list[str], about: dict[str, Any]
    ) -> None:
        key, envelope = place.put(**about)
        place.now = envelope.received / 1000 + about.get("age", 0.0)
        place.run(key, stored=True)
        assert listed

    def test_runs_of_the_sweep_and_of_people_list(self, place: Place, listed: list[str]) -> None:
        key, _ = place.put()
        place.run(key)
        assert listed

    def test_all_runs_list_where_doubts_are_given_up(self, listed: list[str], place: Place) -> None:
        place.home.replace(Delivery({"in": [Output("a", "id-a", place.a)]}, on_doubt="dead-letter"))
        key, _ = place.put()
        place.a.faults = [Temporary("no answer", in_doubt=True)]
        assert place.run(key, stored=True).fate is Fate.PARKED
        assert place.run(key, stored=True).fate is Fate.PARKED
        assert place.a.calls == 1
        assert listed

    def test_a_doubt_given_up_meanwhile_is_not_sent_by_a_run_that_began_before(self, place: Place) -> None:
        key, _ = place.put()
        other: list[Fate] = []

        class Slow(Scripted):
            """The first output: while it is at it, another run over the mail comes and goes."""

            def _effect(self, envelope: Envelope) -> str | None:
                if not other:
                    other.append(Fate.LATER)
                    other.append(place.run(key).fate)
                return super()._effect(envelope)

        slow = Slow()
        outputs = [Output("a", "id-a", slow), Output("b", "id-b", place.b)]
        place.home.replace(Delivery({"in": outputs}, on_doubt="dead-letter"))
        place.b.faults = [Temporary("no answer", in_doubt=True)]
        assert place.run(key).fate is Fate.LATER
        assert other[1:] == [Fate.PARKED]
        assert place.run(key).fate is Fate.PARKED
        assert place.b.calls == 1
        assert set(records(place)) == {"b"}

    def test_an_event_that_comes_twice_parks_for_all_that_is_dead(self, place: Place) -> None:
        key, _ = place.put()
        place.a.always = Permanent("never")
        place.b.faults = [Temporary("later")]
        assert place.run(key, stored=True).fate is Fate.LATER
        place.a.always = None
        place.b.faults = [Permanent("never too")]
        assert place.run(key, stored=True).fate is Fate.PARKED
        assert set(records(place)) == {"a", "b"}
        assert place.run(key).fate is Fate.PARKED
        assert place.b.calls == 2

    def test_a_record_is_counted_once(self, place: Place) -> None:
        key, _ = place.put()
        place.a.always = Permanent("never")
        counted: list[str] = []

        class Counted(DeliveryEvents):
            def dead_letter(self, flow: str, output: str) -> None:
                counted.append(output)

        place.home._observer = Counted()
        for _ in range(2):
            assert place.run(key, stored=True).fate is Fate.PARKED
        assert counted == ["a"]
