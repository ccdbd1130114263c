"""The runner of a bucket spool: one run over one mail, and its results."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.bucket.deadletters import BucketDeadLetters
from functions.bucket.marks import spooled_id
from functions.bucket.runner import RunResult
from functions.bucket.sweep import WINDOW, sweep
from functions.delivery.engine import ENVELOPE, SKEW, Delivery, Output
from functions.delivery.events import DeliveryEvents
from functions.errors import Permanent, Temporary
from functions.message.envelope import Envelope, Refused
from functions.processors.base import Job, Processor
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import Selection
from functions.spool.object import encode_object, kept_key, split_object
from tests.support.clouds.bucket_runner import Place, Scripted
from tests.support.mails.damage import DAMAGED, DAMAGES, HOSTILE, flipped, object_of
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
    assert place.run(key).result is RunResult.FINISHED
    assert place.a.effects == place.b.effects == {(envelope.id, 0): 1}
    assert not place.store.objects


def test_a_second_notification_finds_nothing(place: Place) -> None:
    key, _ = place.put()
    place.run(key)
    assert place.run(key).result is RunResult.GONE
    assert place.a.calls == 1


def test_one_failing_output_holds_up_no_other_and_repeats_none(place: Place) -> None:
    key, envelope = place.put()
    place.a.faults = [Temporary("busy", retry_after=70.0)]
    run = place.run(key)
    assert run.result is RunResult.LATER
    assert run.retry_after == 70.0
    assert not run.cut_short
    assert place.run(key, attempts=1).result is RunResult.FINISHED
    assert place.b.effects == {(envelope.id, 0): 1}
    assert place.b.calls == 1


def test_a_mail_that_is_given_up_is_recorded_and_parked(place: Place) -> None:
    key, envelope = place.put()
    place.a.always = Permanent("no such bucket", enhanced="5.1.2")
    assert place.run(key).result is RunResult.PARKED
    record = records(place)["a"]
    assert (record.reason, record.code, record.attempts) == ("no such bucket", "5.1.2", 1)
    assert record.recipients == ("bob@example.com",)
    assert record.first == envelope.received
    assert place.run(key).result is RunResult.PARKED
    assert place.a.calls == 1, "what is dead is not tried"
    assert place.below("spool/"), "the mail stays for a replay"


def test_a_mail_with_an_output_still_tried_is_not_parked(place: Place) -> None:
    key, _ = place.put()
    place.a.always = Permanent("no")
    place.b.faults = [Temporary("later")]
    assert place.run(key).result is RunResult.LATER
    assert not [name for name in place.below("dead/") if "parked" in name]
    assert place.run(key).result is RunResult.PARKED


def test_a_mail_older_than_give_up_after_gets_a_dead_record() -> None:
    place = Place(give_up_after=1000)
    key, _ = place.put()
    place.a.always = Temporary("down", enhanced="4.4.1")
    assert place.run(key).result is RunResult.LATER
    place.now += 1001
    assert place.run(key, attempts=7).result is RunResult.PARKED
    assert records(place)["a"].attempts == 8


def test_an_unknown_flow_waits_an_hour_for_its_deployment(place: Place) -> None:
    key, _ = place.put(flows=("new",))
    assert place.run(key).result is RunResult.LATER
    place.now += SKEW + 1
    assert place.run(key).result is RunResult.PARKED
    assert "no flow 'new'" in records(place)["unknown"].reason


def test_too_little_time_is_no_failure(place: Place) -> None:
    key, _ = place.put()
    place.seconds_left = 20
    run = place.run(key)
    assert run.result is RunResult.LATER
    assert run.cut_short


@pytest.mark.parametrize("data", [b"", b"hello", b"X-SMTP-Relay-Envelope: !!\r\n\r\n", b"Subject: x\r\n\r\n"])
def test_a_foreign_object(place: Place, data: bytes) -> None:
    key, _ = place.put()
    place.store.objects[key] = data
    assert place.run(key).result is RunResult.LATER, "a newer listener may have written it"
    place.now += SKEW + 1
    assert place.run(key).result is RunResult.PARKED
    assert place.run(key).result is RunResult.PARKED
    (record,) = records(place).values()
    assert record.key == ENVELOPE
    assert record.code == "5.6.0"


def test_a_mail_under_anothers_key(place: Place) -> None:
    key, _ = place.put()
    other, data = spool_object(envelope_of(), MAIL, place.prefix)
    place.store.objects[key] = data
    place.now += SKEW + 1
    assert place.run(key).result is RunResult.PARKED
    assert place.a.calls == 0
    assert other != key


@pytest.mark.parametrize(
    "key",
    ["relay/spool/probe", "relay/dead/a/b/c.json", "spool/0/2026/01/01/00/x.eml", "relay/spool/../x", ""],
)
def test_foreign_keys(place: Place, key: str) -> None:
    assert place.run(key).result is RunResult.FOREIGN


def test_a_failing_bucket_is_tried_again_later(place: Place) -> None:
    key, _ = place.put()
    place.store.fails = lambda verb, at: verb == "read"
    assert place.run(key).result is RunResult.LATER


def test_a_kept_mail_carries_the_number_of_its_last_replay() -> None:
    place = Place(keep=True)
    key, envelope = place.put()
    place.run(key)
    (kept,) = place.below("kept/")
    assert split_object(place.store.objects[place.prefix + kept]) == (envelope, MAIL)
    again = envelope.model_copy(update={"replay": 1})
    place.store.objects[key] = spool_object(again)[1]
    assert place.run(key).result is RunResult.FINISHED
    assert split_object(place.store.objects[place.prefix + kept])[0].replay == 1
    assert place.a.effects == {(envelope.id, 0): 1, (envelope.id, 1): 1}


def test_refused_recipients_become_records_once(place: Place) -> None:
    refused = (Refused(address="no@example.com", reason="550 5.7.1 no", code="5.7.1"),)
    key, _ = place.put(refused=refused)
    place.a.faults = [Temporary("later")]
    place.run(key)
    assert place.run(key).result is RunResult.FINISHED
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
        while place.run(key, attempts=1).result is RunResult.LATER:
            pass
    ids = [spooled_id(key, place.prefix) for key in keys]
    assert place.a.effects == place.b.effects == {(mail_id, 0): 1 for mail_id in ids}
    assert not place.store.objects


def test_a_mail_larger_than_any_envelope_is_read(place: Place) -> None:
    key, _ = place.put(MAIL + b"x" * 5_000_000)
    assert place.run(key).result is RunResult.FINISHED


class TestListingOfMarks:
    """A listing costs as much as the upload, so a run that cannot find marks does not list them."""

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
        assert place.run(key, stored=True).result is RunResult.FINISHED
        assert place.a.effects == {(envelope.id, 0): 1}
        assert not listed

    def test_a_first_run_that_fails_does_not_list(self, place: Place, listed: list[str]) -> None:
        key, _ = place.put()
        place.a.faults = [Temporary("later")]
        assert place.run(key, stored=True).result is RunResult.LATER
        assert not listed
        assert place.run(key, attempts=1, stored=True).result is RunResult.FINISHED
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
        place.runner.replace(Delivery({"in": [Output("a", "id-a", place.a)]}, on_doubt="dead-letter"))
        key, _ = place.put()
        place.a.faults = [Temporary("no answer", in_doubt=True)]
        assert place.run(key, stored=True).result is RunResult.PARKED
        assert place.run(key, stored=True).result is RunResult.PARKED
        assert place.a.calls == 1
        assert listed

    def test_a_doubt_given_up_meanwhile_is_not_sent_by_a_run_that_began_before(self, place: Place) -> None:
        key, _ = place.put()
        other: list[RunResult] = []

        class Slow(Scripted):
            """The first output: during its work, another run over the mail comes and goes."""

            def _effect(self, envelope: Envelope) -> str | None:
                if not other:
                    other.append(RunResult.LATER)
                    other.append(place.run(key).result)
                return super()._effect(envelope)

        slow = Slow()
        outputs = [Output("a", "id-a", slow), Output("b", "id-b", place.b)]
        place.runner.replace(Delivery({"in": outputs}, on_doubt="dead-letter"))
        place.b.faults = [Temporary("no answer", in_doubt=True)]
        assert place.run(key).result is RunResult.LATER
        assert other[1:] == [RunResult.PARKED]
        assert place.run(key).result is RunResult.PARKED
        assert place.b.calls == 1
        assert set(records(place)) == {"b"}

    def test_an_event_that_comes_twice_parks_for_all_that_is_dead(self, place: Place) -> None:
        key, _ = place.put()
        place.a.always = Permanent("never")
        place.b.faults = [Temporary("later")]
        assert place.run(key, stored=True).result is RunResult.LATER
        place.a.always = None
        place.b.faults = [Permanent("never too")]
        assert place.run(key, stored=True).result is RunResult.PARKED
        assert set(records(place)) == {"a", "b"}
        assert place.run(key).result is RunResult.PARKED
        assert place.b.calls == 2

    def test_a_record_is_counted_once(self, place: Place) -> None:
        key, _ = place.put()
        place.a.always = Permanent("never")
        counted: list[str] = []

        class Counted(DeliveryEvents):
            def dead_letter(self, flow: str, output: str) -> None:
                counted.append(output)

        place.runner._observer = Counted()
        for _ in range(2):
            assert place.run(key, stored=True).result is RunResult.PARKED
        assert counted == ["a"]

    def test_a_failed_login_is_counted_and_told_for_its_alarm(
        self, place: Place, caplog: pytest.LogCaptureFixture
    ) -> None:
        key, _ = place.put()
        place.a.faults = [Temporary("no access token", enhanced="4.7.8", no_login=True)]
        place.b.faults = [Temporary("down")]
        counted: list[tuple[str, str]] = []

        class Counted(DeliveryEvents):
            def no_login(self, flow: str, output: str) -> None:
                counted.append((flow, output))

        place.runner._observer = Counted()
        assert place.run(key, stored=True).result is RunResult.LATER
        assert [output for _, output in counted] == ["a"]
        told = [vars(one) for one in caplog.records if one.getMessage() == "tried again later"]
        assert [(one["output"], one.get("no_login")) for one in told] == [("a", True), ("b", None)]


class TestDamagedMail:
    """The stored content is compared with the size and the hash of the accepted mail, before any effect."""

    @pytest.mark.parametrize("how", DAMAGES)
    @pytest.mark.parametrize("size", [0, 1_500_000])
    def test_it_is_a_dead_record_and_the_object_stays(self, place: Place, how: str, size: int) -> None:
        content = MAIL + b"xy" * size
        key, envelope = place.put(content)
        damaged = encode_object(envelope, DAMAGES[how](content))
        place.store.objects[key] = damaged
        assert place.run(key, stored=True).result is RunResult.PARKED
        assert {record.output: record.reason for record in records(place).values()} == {
            "a": DAMAGED,
            "b": DAMAGED,
        }
        assert not place.a.effects
        assert place.store.objects[key] == damaged

    def test_neither_sweeps_nor_replays_deliver_it_and_none_goes_on_for_ever(self, place: Place) -> None:
        key, _ = place.put()
        place.store.objects[key] = flipped(place.store.objects[key])
        letters = BucketDeadLetters(place.store, place.prefix, place.notify)
        for _ in range(3):
            assert place.run(key).result is RunResult.PARKED
            place.now += 86_400
            sweep(
                place.store, place.prefix, place.notify,
                now=place.now, since=place.now - WINDOW, seconds_left=lambda: 1_000.0,
            )  # fmt: skip
            assert not place.notified
            for record in list(letters.list(Selection())):
                assert record.reason == DAMAGED
                letters.replay(record, now=False)
        assert place.run(key).result is RunResult.PARKED
        assert key in place.store.objects
        assert not place.a.effects
        assert not place.b.effects

    def test_what_took_effect_before_is_neither_repeated_nor_given_up(self, place: Place) -> None:
        key, envelope = place.put()
        place.b.faults = [Temporary("busy")]
        assert place.run(key).result is RunResult.LATER
        place.store.objects[key] = flipped(place.store.objects[key])
        assert place.run(key, attempts=1).result is RunResult.PARKED
        assert set(records(place)) == {"b"}
        assert place.a.effects == {(envelope.id, 0): 1}
        assert not place.b.effects

    def test_it_is_not_kept_as_whole(self) -> None:
        """Every output is done; only the copy is left to do."""
        place = Place(keep=True)
        key, _ = place.put()
        place.store.fails = lambda verb, at: verb == "replace"
        assert place.run(key).result is RunResult.LATER
        place.store.fails = lambda verb, at: False
        place.store.objects[key] = flipped(place.store.objects[key])
        assert place.run(key, attempts=1).result is RunResult.PARKED
        (record,) = records(place).values()
        assert record.reason == DAMAGED
        assert not place.below("kept/")
        assert key in place.store.objects

    @pytest.mark.parametrize("without", ["sha256", None])
    def test_an_older_listeners_mail_without_a_hash_is_held_against_its_size(
        self, place: Place, without: str | None
    ) -> None:
        for content, result in ((MAIL, RunResult.FINISHED), (MAIL[:-1], RunResult.PARKED)):
            key, envelope = place.put()
            raw = json.loads(envelope.to_json())
            if without is None:
                raw["sha256"] = ""
            else:
                del raw[without]
            place.store.objects[key] = object_of(json.dumps(raw).encode(), content)
            assert place.run(key).result is result

    def test_a_processor_that_reads_it_gets_no_byte_of_it(self, place: Place) -> None:
        """Also one that takes no receipts, and one that asks for a piece only."""
        seen: list[bytes] = []

        class Reads(Processor):
            def process(self, job: Job) -> None:
                assert job.mail.content.path is None
                with job.mail.content.open() as stream:
                    seen.append(stream.read(10))

        place.runner.replace(Delivery({"in": [Output("reads", "id", Reads())]}))
        key, _ = place.put()
        place.store.objects[key] = flipped(place.store.objects[key])
        assert place.run(key).result is RunResult.PARKED
        assert not seen


class TestHostileEnvelopes:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_each_is_a_dead_record(self, place: Place, name: str) -> None:
        key, envelope = place.put()
        hostile = object_of(HOSTILE[name](envelope), MAIL)
        place.store.objects[key] = hostile
        assert place.run(key).result is RunResult.LATER, "a newer listener may have written it"
        place.now += SKEW + 1
        assert place.run(key).result is RunResult.PARKED
        (record,) = records(place).values()
        assert (record.key, record.code) == (ENVELOPE, "5.6.0")
        assert len(record.reason) < 500
        assert not place.a.calls
        assert place.store.objects[key] == hostile
        letters = BucketDeadLetters(place.store, place.prefix, place.notify)
        assert letters.show(record).record == record

    @pytest.mark.parametrize("size", [4_300_000, 40_000_000])
    @pytest.mark.parametrize("fold", [b"", b"\r\n "])
    def test_a_head_that_has_no_end(self, place: Place, size: int, fold: bytes) -> None:
        key, _ = place.put()
        line = b"A" * 998 + fold
        place.store.objects[key] = b"X-SMTP-Relay-Envelope: " + line * (size // len(line))
        place.now += SKEW + 1
        assert place.run(key).result is RunResult.PARKED

    def test_an_object_that_does_not_fit_into_memory(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read(key: str, most: int | None = None) -> bytes:
            raise MemoryError

        key, _ = place.put()
        monkeypatch.setattr(place.store, "read", read)
        assert place.run(key).result is RunResult.LATER, "there may be more room in a moment"
        place.now += SKEW + 1
        assert place.run(key).result is RunResult.PARKED
        assert key in place.store.objects

    @pytest.mark.parametrize("name", ["nested lists", "bytes that are no UTF-8", "no recipient"])
    def test_a_kept_copy_of_that_kind_is_refused_by_name(self, place: Place, name: str) -> None:
        envelope = envelope_of()
        at = place.prefix + kept_key(envelope.id, envelope.received_at)
        place.store.objects[at] = object_of(HOSTILE[name](envelope), MAIL)
        letters = BucketDeadLetters(place.store, place.prefix, place.notify)
        with pytest.raises(Permanent, match="cannot be read"):
            letters.replay_kept(envelope.id, now=True)
        assert not place.below("spool/")

    def test_a_damaged_kept_copy_is_not_replayed(self, place: Place) -> None:
        envelope = envelope_of()
        at = place.prefix + kept_key(envelope.id, envelope.received_at)
        place.store.objects[at] = flipped(encode_object(envelope, MAIL))
        letters = BucketDeadLetters(place.store, place.prefix, place.notify)
        with pytest.raises(Permanent, match=DAMAGED):
            letters.replay_kept(envelope.id, now=True)
        assert not place.below("spool/")
        assert at in place.store.objects


class TestTwoWitnesses:
    """This machine's clock alone gives nothing up: the provider's must agree."""

    DAYS = 4 * 86_400.0

    def jump(self, place: Place, seconds: float) -> None:
        """This machine's clock is set; the provider's is not."""
        place.now += seconds
        place.ahead -= seconds

    @pytest.mark.parametrize("days", [4, 400, -400])
    def test_a_clock_that_is_wrong_gives_nothing_up(self, place: Place, days: int) -> None:
        key, envelope = place.put()
        place.a.always = Temporary("down")
        self.jump(place, days * 86_400.0)
        assert place.run(key).result is RunResult.LATER
        self.jump(place, -days * 86_400.0)
        assert not records(place)
        place.a.always = None
        assert place.run(key, attempts=1).result is RunResult.FINISHED
        assert place.a.effects == {(envelope.id, 0): 1}

    def test_when_both_say_it_is_old_it_is(self, place: Place) -> None:
        key, _ = place.put()
        place.a.always = Temporary("down")
        place.now += self.DAYS
        assert place.run(key).result is RunResult.PARKED

    def test_a_mail_that_came_under_a_wrong_clock_is_given_up_in_time(self, place: Place) -> None:
        """Its listener's clock was years ahead; the provider knows the object's age."""
        key, _ = place.put()
        place.now -= 20 * 365 * 86_400.0
        place.store.modified[key] = place.now
        place.a.always = Temporary("down")
        place.now += 3_600.0
        assert place.run(key).result is RunResult.LATER
        place.now += self.DAYS
        assert place.run(key).result is RunResult.PARKED

    def test_a_provider_that_does_not_say_gives_nothing_up(self, place: Place) -> None:
        key, _ = place.put()
        place.a.always = Temporary("down")
        place.now += self.DAYS
        place.store.fails = lambda verb, at: verb == "times"
        assert place.run(key).result is RunResult.LATER
        place.store.fails = lambda verb, at: False
        assert place.run(key).result is RunResult.PARKED

    @pytest.mark.parametrize("what", ["flow", "object"])
    def test_what_may_be_of_a_newer_deployment_has_its_hour(self, place: Place, what: str) -> None:
        key, _ = place.put(flows=("new",) if what == "flow" else ("in",))
        if what == "object":
            place.store.objects[key] = b"X-SMTP-Relay-Envelope: !!\r\n\r\n"
        self.jump(place, self.DAYS)
        assert place.run(key).result is RunResult.LATER
        self.jump(place, -self.DAYS)
        place.now += SKEW + 1
        assert place.run(key).result is RunResult.PARKED
