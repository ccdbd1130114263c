"""The conditions that hold when everything works again and all mails are finished."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from functions.backends import open_dead_letters
from functions.config import DeliveryConfig
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import Selection
from tests.faults.campaign.consumers import Shelf
from tests.faults.campaign.found import Arrived, Found, faults, hold, read_mail, some
from tests.faults.campaign.numbered_mails import CHECKED, PUBLISHED, RELAYED, UNKNOWN, Book, number_of
from tests.faults.campaign.outputs import HOOK, Effect, copies, posted, secrets_told
from tests.faults.campaign.relay_under_test import RelayUnderTest
from tests.faults.campaign.spoiling import stored_digest
from tests.support.mails.damage import DAMAGED
from tests.support.net import HOST


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
    doubts = in_doubt(relay.relay.log())
    dead, reasons = _dead(relay, ids, found)
    relayed, given_up = _relayed(relay, book, dead, doubts, spoiled["hop"], found)
    _refused(relay, book, first.keys() - spoiled["hop"], dead, doubts, found)
    found.effects = sum(times for times, _ in first.values()) + len(second) + len(checked) + relayed
    found.effects += posted(relay.hook, book, doubts, spoiled[HOOK], found)
    found.effects += _published(relay, book, ids, doubts, reasons, spoiled, found)
    _leftovers(relay, found)
    records = "\n".join([*map(repr, dead.values()), *reasons.values()])
    secrets_told({"log": relay.relay.log(), "records": records, "metrics": metrics(relay)}, found)
    if counters:
        _counters(relay, len(first), len(checked), relayed - given_up, found)
    return found


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


def _dead(
    relay: RelayUnderTest, ids: dict[str, int], found: Found
) -> tuple[dict[int, DeadRecord], dict[Effect, str]]:
    """The next hop's dead records by number, and the reasons of those of the topics; afterwards they are
    dropped, and their mails with them."""
    config = DeliveryConfig.model_validate({"flows": {}, "spool": f"file://{relay.spool}"})
    records: dict[int, DeadRecord] = {}
    reasons: dict[Effect, str] = {}
    names = () if relay.targets is None else relay.targets.names
    with closing(open_dead_letters(config, relay.folder, {})) as letters:
        for record in list(letters.list(Selection())):
            shown = letters.show(record)
            number = number_of(shown.head) if shown.head else ids.get(record.id)
            if number is None:
                found.other.append(f"a dead record without its mail: {record}")
                continue
            if not record.reason or not record.code or record.output not in ("hop", *names):
                found.other.append(f"a dead record without a reason: {record}")
            effect = (record.id, record.output)
            if effect in reasons or (record.output == "hop" and number in records):
                found.other.append(f"two dead records of {record.output} for {number}")
            if record.output == "hop":
                records[number] = record
            else:
                reasons[effect] = record.reason
            letters.drop(record)
    found.dead = len(records) + len(reasons)
    return records, reasons


def _relayed(
    relay: RelayUnderTest,
    book: Book,
    dead: dict[int, DeadRecord],
    doubts: Counter[Effect],
    spoiled: set[int],
    found: Found,
) -> tuple[int, int]:
    """The number of mails that arrived at the next hop, and the number of them that were given up
    because its answer was lost: those are not counted as delivered."""
    arrived: Arrived = {}
    for taken in list(relay.smarthost.taken):
        number = read_mail(taken.content, "next hop", arrived, found)
        if number is not None and taken.recipients != [RELAYED]:
            found.other.append(f"{number} went to {taken.recipients}")
    relay.smarthost.taken.clear()
    for number, (times, mail_id) in arrived.items():
        known = doubts[mail_id, "hop"]
        if times - 1 > known:
            found.repeated.append(f"{number} at the next hop {times} times, {known} in doubt ({mail_id})")
        else:
            found.copies["hop"] += times - 1
    doubted = {number for number, record in dead.items() if record.recipients != (UNKNOWN,)}
    for number in doubted:
        record = dead[number]
        if relay.plan.on_doubt != "dead-letter" or not doubts[record.id, "hop"]:
            found.other.append(f"{number} was given up: {record.reason}")
    acknowledged = book.acknowledged(recipient=RELAYED) - spoiled
    served = arrived | dict.fromkeys(doubted, (1, ""))
    hold("next hop", served, acknowledged, book.possible(recipient=RELAYED), found)
    found.outputs["hop"] += sum(times for times, _ in arrived.values())
    return found.outputs["hop"], len(doubted & set(arrived))


def _published(
    relay: RelayUnderTest,
    book: Book,
    ids: dict[str, int],
    doubts: Counter[Effect],
    dead: dict[Effect, str],
    spoiled: Mapping[str, set[int]],
    found: Found,
) -> int:
    """The number of messages in the queues behind the topics."""
    if relay.targets is None:
        return 0
    relay.targets.collect()
    found.other += relay.targets.wrong
    possible = book.possible(recipient=PUBLISHED)
    for name, counted in relay.targets.copies.items():
        missed = spoiled.get(name, set())
        owed = {
            mail_id: number
            for mail_id, number in ids.items()
            if number in possible and (counted[mail_id] or number not in missed)
        }
        gives_up = relay.plan.on_doubt == "dead-letter"
        copies(name, counted, owed, doubts, dead, lambda effect: gives_up and doubts[effect] > 0, found)  # noqa: B023 - called at once
    return sum(counted.total() for counted in relay.targets.copies.values())


def in_doubt(log: str) -> Counter[Effect]:
    """How often the log reports, for each mail, an unknown outcome of an output."""
    found: Counter[Effect] = Counter()
    for line in log.splitlines():
        if '"in_doubt"' in line and line.startswith("{"):
            entry = json.loads(line)
            found[entry["id"], entry["output"]] += 1
    return found


def _refused(
    relay: RelayUnderTest,
    book: Book,
    arrived: Iterable[int],
    dead: dict[int, DeadRecord],
    doubts: Counter[Effect],
    found: Found,
) -> None:
    """A mail for a recipient unknown to the next hop is dead there, with its words."""
    taken = book.possible(recipient=UNKNOWN) & set(arrived)
    refused = {number for number, record in dead.items() if record.recipients == (UNKNOWN,)}
    if silent := taken - refused:
        found.lost.append(f"refused by the next hop without a record: {some(silent)}")
    for number in refused:
        if relay.plan.on_doubt == "dead-letter" and doubts[dead[number].id, "hop"]:
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


def _counters(relay: RelayUnderTest, first: int, checked: int, copies: int, found: Found) -> None:
    """The metrics agree with the folders."""
    samples = scrape(metrics(relay))
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


def metrics(relay: RelayUnderTest) -> str:
    """The metrics as Prometheus reads them."""
    return httpx.get(f"http://{HOST}:{relay.metrics_port}/metrics", timeout=10).text


def scrape(text: str) -> dict[tuple[str, str, str, str], float]:
    """Name, status, flow and output to value."""
    found: dict[tuple[str, str, str, str], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels: dict[str, Any] = sample.labels
            key = (sample.name, labels.get("status", ""), labels.get("flow", ""), labels.get("output", ""))
            found[key] = found.get(key, 0) + sample.value
    return found
