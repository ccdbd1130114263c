"""The work of this version's function on a golden recording of a bucket's spool, compared with the work
that the recording version left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from functions.delivery.receipts import ABANDONED
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import Selection
from tests.support.golden.bucket import TARGET, Site
from tests.support.golden.recording import MAILS, name_of, once


class Upgrade:
    """A recording, delivered by this version's function: its effects, and the rest. The next servers
    accept everything now."""

    task = once(
        *("log fresh", "first fresh fine", "second fresh fine"),
        *("log kept", "first kept fine", "second kept fine"),
        *("first partly later-first", "first waiting later-first", "second dropped later-second"),
        *("first replayed never-first", "second claimed silent-first"),
    )
    """The effects that the recording version left undone, besides the cloud's own outputs for `fresh`
    and `kept`. It began everything else, and recorded that."""
    doubts = once("first claimed silent-first", "second receipts silent-second")
    """The effects that it began without seeing their end."""

    def __init__(self, site: Site, recording: Mapping[str, Any], *, later: float) -> None:
        self.site = site
        self.ids: dict[str, str] = recording["mails"]
        self._age = site.load(recording, later=later)
        site.logged.attach()

    def run(self, **options: Any) -> None:
        """Deliver every mail, twice: repeated events change nothing."""
        self.site.start(age=self._age, **options)
        for _ in range(2):
            for key in self.site.spooled().values():
                self.site.deliver(key)

    def check_effects(self, beyond: Counter[tuple[str, ...]] | None = None) -> None:
        """Raises AssertionError unless exactly the missing effects took place, and the given ones."""
        own = once(*(f"{output} {name}" for output in self.site.own for name in ("fresh", "kept")))
        expected, found = self.task + own + (beyond or Counter()), self.site.effects()
        assert found == expected, f"repeated: {found - expected}, missing: {expected - found}"

    def in_doubt(self) -> list[tuple[str, str]]:
        """Mail and output of each reported doubt."""
        names = {mail_id: name for name, mail_id in self.ids.items()}
        return sorted((names[mail_id], output) for mail_id, output in self.site.logged.doubts)

    def dead(self) -> dict[tuple[str, str], DeadRecord]:
        """The dead records, by mail and output."""
        names = {mail_id: name for name, mail_id in self.ids.items()}
        return {(names[one.id], one.output): one for one in self.site.letters().list(Selection())}

    def stored(self) -> Counter[str]:
        """How many objects the output stored of each mail."""
        return Counter(name_of(one["text"].encode()) for one in self.site.objects(TARGET))


def check_claims_are_respected(upgrade: Upgrade) -> None:
    """Two minutes after the recording its runs may still go on."""
    site = upgrade.site
    upgrade.run()
    upgrade.check_effects()
    assert upgrade.in_doubt() == []
    assert upgrade.stored() == dict.fromkeys(MAILS, 1)
    assert set(site.spooled()) == {"claimed", "receipts", "parked", "partly-refused"}
    assert set(upgrade.dead()) == {("parked", "first"), ("parked", "unknown"), ("partly-refused", "first")}


def check_dead_letters_are_replayed(upgrade: Upgrade) -> None:
    """Only refused recipients are asked again."""
    site = upgrade.site
    upgrade.run()
    for name in ("parked", "partly-refused"):
        site.letters().replay(upgrade.dead()[name, "first"], now=False)
        site.deliver(site.spooled()[name])
    replayed = once("first parked never-first", "first partly-refused never-first")
    upgrade.check_effects(replayed)
    assert set(site.spooled()) == {"claimed", "receipts"}


def check_doubts_are_sent_again(upgrade: Upgrade) -> None:
    """An hour later those runs are over, and their outcome is unknown."""
    upgrade.run()
    upgrade.check_effects(upgrade.doubts)
    assert upgrade.in_doubt() == [("claimed", "first"), ("receipts", "second")]
    assert set(upgrade.site.spooled()) == {"parked", "partly-refused"}
    assert upgrade.stored() == dict.fromkeys(MAILS, 1)


def check_doubts_are_given_up(upgrade: Upgrade) -> None:
    """The same with `onDoubt: "dead-letter"`."""
    upgrade.run(on_doubt="dead-letter")
    upgrade.check_effects()
    assert upgrade.in_doubt() == [("claimed", "first"), ("receipts", "second")]
    reasons = {about: one.reason for about, one in upgrade.dead().items()}
    assert reasons["claimed", "first"] == reasons["receipts", "second"] == ABANDONED
    assert set(upgrade.site.spooled()) == {"claimed", "receipts", "parked", "partly-refused"}


def check_other_identities_have_no_receipts(upgrade: Upgrade) -> None:
    """The receipts prevent repeated effects: under other names there are none."""
    upgrade.run(renamed=True)
    repeated = set(upgrade.site.effects() - upgrade.task)
    assert {("first", "done", "fine"), ("second", "done", "fine"), ("first", "partly", "fine")} <= repeated


CHECKS: Final = (
    (check_claims_are_respected, 120.0),
    (check_dead_letters_are_replayed, 120.0),
    (check_doubts_are_sent_again, 3_600.0),
    (check_doubts_are_given_up, 3_600.0),
    (check_other_identities_have_no_receipts, 120.0),
)
"""Each check, and the age of the recording for it, in seconds."""
