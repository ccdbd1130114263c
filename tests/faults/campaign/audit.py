"""The conditions that hold when everything works again and all mails are finished."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from functions.backends import open_dead_letters
from functions.config import DeliveryConfig
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import Selection
from tests.faults.campaign.consumers import Shelf
from tests.faults.campaign.numbered_mails import (
    CHECKED,
    POSTED,
    RELAYED,
    UNKNOWN,
    Book,
    id_of,
    letter,
    number_of,
)
from tests.faults.campaign.relay_under_test import RelayUnderTest
from tests.faults.campaign.spoiling import stored_digest
from tests.support.mails.damage import DAMAGED
from tests.support.mails.stored import strip_added_fields
from tests.support.net import HOST


@dataclass
class Found:
    """The deliveries, and their faults."""

    mails: int = 0
    """Mails that were answered 250."""
    sent: int = 0
    """All mails that were sent to their end, answered or not."""
    effects: int = 0
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    repeated: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    copies: Counter[str] = field(default_factory=Counter)
    """By output: mails that came out again because their outcome was unknown."""
    dead: int = 0
    spoiled: int = 0
    """Records of mails that were spoiled in the spool."""

    @property
    def doubtful(self) -> int:
        """All copies in doubt."""
        return self.copies.total()

    @property
    def wrong(self) -> list[str]:
        return [
            f"{kind}: {each}"
            for kind, some in (
                ("lost", self.lost),
                ("torn", self.torn),
                ("repeated", self.repeated),
                ("wrong", self.other),
            )
            for each in some
        ]

    def add(self, other: Found) -> None:
        """Sum up."""
        for name in ("mails", "sent", "effects", "dead", "spoiled"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("lost", "torn", "repeated", "other"):
            getattr(self, name).extend(getattr(other, name))
        self.copies += other.copies


def audit(relay: RelayUnderTest, book: Book, *, counters: bool) -> Found:
    """Compare everything with the recorded mails. `counters`: no process ended, so the metrics must agree."""
    found = Found(mails=book.taken, sent=len(book.sent))
    # This comes first, because scraping must not wait for the audit's changes.
    first = _files(relay.first, "first", found)
    second = _files(relay.second, "second", found, relay.shelves[0])
    checked = _files(relay.checked, "checked", found, relay.shelves[1])
    ids: dict[str, int] = {}
    for arrived in (first, second, checked):
        ids |= {mail_id: number for number, (_, mail_id) in arrived.items()}
    spoiled = _spoiled(relay, found)
    for name, arrived in (("first", first), ("second", second)):
        hold(name, arrived, book.acknowledged() - spoiled[name], book.possible(), found)
    if apart := (first.keys() ^ second.keys()) - spoiled["first"] - spoiled["second"]:
        found.other.append(f"in one of two outputs only: {some(apart)}")
    hold(CHECKED, checked, book.acknowledged(CHECKED) - spoiled[CHECKED], book.possible(CHECKED), found)
    if unasked := checked.keys() - relay.filter_server.approved:
        found.other.append(f"taken without the HTTP filter: {some(unasked)}")
    if half := book.cut & (first.keys() | second.keys() | checked.keys()):
        found.torn.append(f"mails that were never sent whole: {some(half)}")
    dead = _dead(relay, ids, found)
    copies, given_up = _relayed(relay, book, dead, spoiled["hop"], found)
    _refused(relay, book, first.keys() - spoiled["hop"], dead, found)
    posted = _posted(relay, book, spoiled["hook"], found)
    _leftovers(relay, found)
    found.effects = sum(times for times, _ in first.values()) + len(second) + len(checked) + copies + posted
    if counters:
        _counters(relay, len(first), len(checked), copies - given_up, found)
    return found


Arrived = dict[int, tuple[int, str]]
"""Number of a mail to how often it is there, and its id."""


def _files(folder: Path, name: str, found: Found, shelf: Shelf | None = None) -> Arrived:
    arrived: Arrived = {}
    for path in folder.iterdir() if folder.exists() else ():
        if not path.name.startswith(".") and (shelf is None or path.name not in shelf.changed):
            read_mail(path.read_bytes(), f"{name}/{path.name}", arrived, found)
    if shelf is not None:
        for path in shelf.moved.iterdir() if shelf.moved.exists() else ():
            read_mail(path.read_bytes(), f"{name}, moved/{path.name}", arrived, found)
        for number, mail_id in (*shelf.taken, *shelf.changed.values()):
            arrived[number] = (arrived.get(number, (0, ""))[0] + 1, mail_id)
        found.torn += shelf.wrong
    for number, (times, _) in arrived.items():
        if times > 1:
            found.repeated.append(f"{number} is in {name} {times} times")
    return arrived


def read_mail(stored: bytes, where: str, arrived: Arrived, found: Found) -> int | None:
    """Count a mail as it arrived; returns its number, None for a torn one."""
    number, mail_id = number_of(stored), id_of(stored)
    ours = stored.find(b"x-smtp-relay: ")
    whole = number is not None and mail_id is not None and ours >= 0
    if not whole or strip_added_fields(stored[ours:]) != letter(number or 0):
        found.torn.append(f"{where}: {stored[:200]!r}")
        return None
    assert number is not None
    arrived[number] = (arrived.get(number, (0, ""))[0] + 1, mail_id or "")
    return number


def hold(name: str, arrived: Arrived, acknowledged: set[int], possible: set[int], found: Found) -> None:
    """All acknowledged mails exist, and no other one."""
    if missing := acknowledged - arrived.keys():
        found.lost.append(f"answered 250 and not in {name}: {len(missing)}, {some(missing)}")
    if strange := arrived.keys() - possible:
        found.other.append(f"in {name} and never sent: {some(strange)}")


def _spoiled(relay: RelayUnderTest, found: Found) -> defaultdict[str, set[int]]:
    """Output to the numbers of mails that it did not get because they were spoiled in the spool: each
    has a record that says so, and its spoiled copy exists. The records are dropped then, and the
    mails."""
    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{relay.spool}"})
    missed: defaultdict[str, set[int]] = defaultdict(set)
    with closing(open_dead_letters(config, relay.folder, {})) as letters:
        records = [each for each in letters.list(Selection()) if each.id in relay.spoiled]
        for record in records:
            if record.reason != DAMAGED:
                found.other.append(f"spoiled, and dead for another reason: {record}")
            elif stored_digest(relay, record.id) != relay.spoiled[record.id].digest:
                found.lost.append(f"spoiled, and not kept as it was: {record}")
            missed[record.output].add(relay.spoiled[record.id].number)
        for record in records:
            letters.drop(record)
    found.spoiled = len(records)
    if relay.spoiled and not records:
        found.other.append(f"{len(relay.spoiled)} mails were spoiled, and no record says so")
    return missed


def _dead(relay: RelayUnderTest, ids: dict[str, int], found: Found) -> dict[int, DeadRecord]:
    """The dead records by number; afterwards they are dropped, and their mails with them."""
    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{relay.spool}"})
    records: dict[int, DeadRecord] = {}
    with closing(open_dead_letters(config, relay.folder, {})) as letters:
        for record in list(letters.list(Selection())):
            shown = letters.show(record)
            number = number_of(shown.head) if shown.head else ids.get(record.id)
            if number is None:
                found.other.append(f"a dead record without its mail: {record}")
                continue
            if not record.reason or not record.code or record.output != "hop":
                found.other.append(f"a dead record without a reason: {record}")
            if number in records:
                found.other.append(f"two dead records for {number}")
            records[number] = record
            letters.drop(record)
    found.dead = len(records)
    return records


def _relayed(
    relay: RelayUnderTest, book: Book, dead: dict[int, DeadRecord], spoiled: set[int], found: Found
) -> tuple[int, int]:
    """The number of mails that arrived at the next hop, and the number of them that were given up
    because its answer was lost: those are not counted as delivered."""
    arrived: Arrived = {}
    for taken in list(relay.smarthost.taken):
        number = read_mail(taken.content, "next hop", arrived, found)
        if number is not None and taken.recipients != [RELAYED]:
            found.other.append(f"{number} went to {taken.recipients}")
    relay.smarthost.taken.clear()
    doubts = in_doubt(relay.relay.log())
    for number, (times, mail_id) in arrived.items():
        known = doubts[mail_id]
        if times - 1 > known:
            found.repeated.append(f"{number} at the next hop {times} times, {known} in doubt ({mail_id})")
        else:
            found.copies["hop"] += times - 1
    doubted = {number for number, record in dead.items() if record.recipients != (UNKNOWN,)}
    for number in doubted:
        record = dead[number]
        if relay.plan.on_doubt != "dead-letter" or not doubts[record.id]:
            found.other.append(f"{number} was given up: {record.reason}")
    acknowledged = book.acknowledged(recipient=RELAYED) - spoiled
    served = arrived | dict.fromkeys(doubted, (1, ""))
    hold("next hop", served, acknowledged, book.possible(recipient=RELAYED), found)
    return sum(times for times, _ in arrived.values()), len(doubted & set(arrived))


def _posted(relay: RelayUnderTest, book: Book, spoiled: set[int], found: Found) -> int:
    """The number of mails at the webhook's receiver: each came once or more often, always with one id and
    verified, and no two mails share an id."""
    ids: dict[int, set[str]] = defaultdict(set)
    arrived: Arrived = {}
    for webhook_id, body, verified in list(relay.hook.taken):
        number = read_mail(body, "webhook", arrived, found)
        if not verified:
            found.other.append(f"{number} has a wrong signature ({webhook_id})")
        if number is not None:
            ids[number].add(webhook_id)
    relay.hook.taken.clear()
    for number, some_ids in ids.items():
        if len(some_ids) > 1:
            found.other.append(f"{number} came by several ids: {sorted(some_ids)}")
    if len(set().union(*ids.values())) < len(ids):
        found.other.append("mails share a webhook-id")
    hold(
        "webhook",
        arrived,
        book.acknowledged(recipient=POSTED) - spoiled,
        book.possible(recipient=POSTED),
        found,
    )
    log = relay.relay.log()
    if any('"in_doubt"' in line and '"posted"' in line for line in log.splitlines()):
        found.other.append("the webhook announced a doubt")
    return len(arrived)


def in_doubt(log: str) -> Counter[str]:
    """How often the log reports, for each mail, an unknown outcome of an output."""
    found: Counter[str] = Counter()
    for line in log.splitlines():
        if '"in_doubt"' in line and line.startswith("{"):
            found[json.loads(line)["id"]] += 1
    return found


def _refused(
    relay: RelayUnderTest, book: Book, arrived: Iterable[int], dead: dict[int, DeadRecord], found: Found
) -> None:
    """A mail for a recipient unknown to the next hop is dead there, with its words."""
    taken = book.possible(recipient=UNKNOWN) & set(arrived)
    refused = {number for number, record in dead.items() if record.recipients == (UNKNOWN,)}
    if silent := taken - refused:
        found.lost.append(f"refused by the next hop without a record: {some(silent)}")
    doubts = in_doubt(relay.relay.log()) if relay.plan.on_doubt == "dead-letter" else Counter()
    for number in refused:
        if doubts[dead[number].id]:
            continue  # the relay died before it could read the reason
        if "no such user" not in dead[number].reason or dead[number].code != "5.1.1":
            found.other.append(f"{number} is dead for another reason: {dead[number].reason}")


def _leftovers(relay: RelayUnderTest, found: Found) -> None:
    for table in ("mail", "settled", "dead", "receipt"):
        if left := relay.count(f"SELECT count(*) FROM {table}"):
            found.other.append(f"{left} rows left in {table}")
    for path in relay.spool.glob("part-*/large/*"):
        found.other.append(f"left in the spool: {path.name}")
    found.other += faults(relay.relay.log())


def traces(relay: RelayUnderTest) -> list[str]:
    """Temporaries that outlived their mails. A process that died leaves some, which the next start
    removes: ask after one."""
    folders = [relay.first, relay.second, relay.checked, *relay.spool.glob("part-*/staging")]
    return [
        f"left in {folder.name}: {path.name}"
        for folder in folders
        if folder.exists()
        for path in folder.iterdir()
        if path.name.startswith(".") or folder.name == "staging"
    ]


def faults(log: str) -> list[str]:
    """Tracebacks in the log: no fault around the relay excuses one."""
    return [f"a traceback: {line[:3_000]}" for line in log.splitlines() if "Traceback" in line]


def _counters(relay: RelayUnderTest, first: int, checked: int, copies: int, found: Found) -> None:
    """The metrics agree with the folders."""
    samples = scrape(relay.metrics_port)
    expected = {
        ("delivered", "files", "first"): first,
        ("delivered", "files", "second"): first,
        ("delivered", "checked", "checked"): checked,
        ("delivered", "relayed", "hop"): copies - found.doubtful,
    }
    for (status, flow, output), number in expected.items():
        said = samples.get(("smtp_relay_emails_total", status, flow, output), 0)
        if said != number:
            found.other.append(f"the metrics count {said} {status} by {flow}/{output}, not {number}")
    said = samples.get(("smtp_relay_dead_letters_total", "", "relayed", "hop"), 0)
    if said != found.dead:
        found.other.append(f"the metrics count {said} dead letters, not {found.dead}")


def scrape(port: int) -> dict[tuple[str, str, str, str], float]:
    """Name, status, flow and output to value."""
    text = httpx.get(f"http://{HOST}:{port}/metrics", timeout=10).text
    found: dict[tuple[str, str, str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels: dict[str, Any] = sample.labels
            key = (sample.name, labels.get("status", ""), labels.get("flow", ""), labels.get("output", ""))
            found[key] = found.get(key, 0) + sample.value
    return found


def some(numbers: Iterable[int]) -> str:
    """The first few."""
    return ", ".join(map(str, sorted(numbers)[:8]))


__all__ = ["Found", "audit", "in_doubt", "scrape", "traces"]
