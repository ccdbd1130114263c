"""The conditions that hold for a cloud when everything works again and all mails are finished."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from tests.faults.campaign.audit import Arrived, Found, faults, hold, read_mail, some
from tests.faults.campaign.clouds.observation import entries
from tests.faults.campaign.clouds.site import FILED_FLOW, Site
from tests.faults.campaign.numbered_mails import RELAYED, UNKNOWN, Book
from tests.support.mails.damage import DAMAGED

_IN_DOUBT: Final = re.compile(
    r"an earlier run ended|no receipt could be written|may have taken it|Connection|Timeout|closed",
    re.IGNORECASE,
)
"""Reasons of records that report a doubt themselves: a run may be killed before it logs the doubt."""

Dead = dict[tuple[str, str], dict[str, Any]]
"""Mail's id and output to its dead record."""


def audit(site: Site, book: Book) -> Found:
    """Compare everything with the recorded mails; then drop the dead records, and their mails with
    them."""
    found = Found(mails=book.taken, sent=len(book.sent))
    stored: Arrived = {}
    numbers = {mail_id: one.number for mail_id, one in site.spoiled.items()}
    for key, octets in site.stored().items():
        read_mail(octets, key, stored, found)
    if twice := [number for number, (times, _) in stored.items() if times > 1]:
        found.repeated.append(f"stored under several keys: {some(twice)}")
    if half := book.cut & stored.keys():
        found.torn.append(f"mails that were never sent whole: {some(half)}")
    ids = {mail_id: number for number, (_, mail_id) in stored.items()}
    dead = _dead(site, ids, found)
    missed = {numbers[mail_id] for mail_id, output in _spoiled(site, dead, found) if output == "store"}
    hold("the store", stored, book.acknowledged() - missed, book.possible(), found)
    for output in site.repeating.keys() - {"hop"}:
        _copies(site, output, ids, dead, found)
    copies = _relayed(site, book, numbers | ids, dead, found)
    _refused(site, book, numbers | ids, dead, found)
    _receipts(site, ids, dead, found)
    _leftovers(site, found)
    counted = sum(counter.total() for counter in site.copies.values())
    found.effects = sum(times for times, _ in stored.values()) + counted + copies
    return found


def _dead(site: Site, ids: dict[str, int], found: Found) -> Dead:
    lines = site.command("deadletter", "list", "--json").splitlines()
    dead: Dead = {}
    for record in map(json.loads, lines):
        key = (record["id"], record["output"])
        if record["id"] not in ids and not _is_spoiled(site, record):
            found.other.append(f"a dead record of a mail that was never stored: {record}")
        if not record["reason"] or not record["code"]:
            found.other.append(f"a dead record without a reason: {record}")
        if key in dead:
            found.other.append(f"two dead records for {key}")
        dead[key] = record
    found.dead = len(dead)
    return dead


def _is_spoiled(site: Site, record: dict[str, Any]) -> bool:
    """True if a mail was given up because it was spoiled in the spool."""
    return record["id"] in site.spoiled and record["reason"] == DAMAGED


def _spoiled(site: Site, dead: Dead, found: Found) -> list[tuple[str, str]]:
    """Mail and output of each record that says so; the object still exists, spoiled."""
    spoiled = [key for key, record in dead.items() if _is_spoiled(site, record)]
    keys = {key.rpartition("/")[2].removesuffix(".eml"): key for key in site.keys("spool/")}
    for mail_id in {mail_id for mail_id, _ in spoiled}:
        data = site.read_spooled(keys[mail_id]) if mail_id in keys else None
        if data is None or hashlib.sha256(data).digest() != site.spoiled[mail_id].digest:
            found.lost.append(f"{mail_id} was spoiled, and is not kept as it was")
    found.spoiled = len(spoiled)
    if site.spoiled and not spoiled:
        found.other.append(f"{len(site.spoiled)} mails were spoiled, and no record says so")
    return spoiled


def _copies(site: Site, output: str, ids: dict[str, int], dead: Dead, found: Found) -> None:
    """Of an output whose API would repeat: each mail once, and again only if the function's log says
    that it was in doubt."""
    counted, doubts = site.copies[output], site.doubts()
    for mail_id, number in ids.items():
        times, known = counted[mail_id], doubts[mail_id, output]
        record = dead.get((mail_id, output))
        if record is not None and not _may_be_dead(site, record, known):
            found.other.append(f"{number} was given up by {output}: {record['reason']}")
        if times == 0 and record is None:
            found.lost.append(f"{number} did not come out of {output} ({mail_id})")
        elif times - 1 > known:
            found.repeated.append(
                f"{number} came out of {output} {times} times, {known} in doubt ({mail_id})"
            )
        elif times > 1:
            found.copies[output] += times - 1
    if strange := counted.keys() - ids.keys():
        found.other.append(f"{output} has mails that were never stored: {sorted(strange)[:5]}")


def _may_be_dead(site: Site, record: dict[str, Any], known: int) -> bool:
    """True if an output was given up because its outcome was in doubt, as configured, or because the
    mail was spoiled."""
    doubtful = site.on_doubt == "dead-letter" and bool(known or _IN_DOUBT.search(record["reason"]))
    return doubtful or _is_spoiled(site, record)


def _relayed(site: Site, book: Book, ids: dict[str, int], dead: Dead, found: Found) -> int:
    arrived: Arrived = {}
    doubts = site.doubts()
    for taken in list(site.smarthost.taken):
        number = read_mail(taken.content, "next hop", arrived, found)
        if number is not None and taken.recipients != [RELAYED]:
            found.other.append(f"{number} went to {taken.recipients}")
    for number, (times, mail_id) in arrived.items():
        known = doubts[mail_id, "hop"]
        if times - 1 > known:
            found.repeated.append(f"{number} at the next hop {times} times, {known} in doubt ({mail_id})")
        elif times > 1:
            found.copies["hop"] += times - 1
    given_up = {
        ids[mail_id]: (mail_id, record)
        for (mail_id, output), record in dead.items()
        if output == "hop" and mail_id in ids and record["recipients"] != [UNKNOWN]
    }
    for number, (mail_id, record) in given_up.items():
        if not _may_be_dead(site, record, doubts[mail_id, "hop"]):
            found.other.append(f"{number} was given up by hop: {record['reason']}")
    served = arrived | dict.fromkeys(given_up, (1, ""))
    hold("next hop", served, book.acknowledged(recipient=RELAYED), book.possible(recipient=RELAYED), found)
    return sum(times for times, _ in arrived.values())


def _refused(site: Site, book: Book, ids: dict[str, int], dead: Dead, found: Found) -> None:
    """A mail for a recipient unknown to the next hop is dead there, with its words."""
    doubts = site.doubts()
    taken = book.possible(recipient=UNKNOWN) & set(ids.values())
    refused = set()
    for (mail_id, output), record in dead.items():
        if output != "hop" or record["recipients"] != [UNKNOWN]:
            continue
        refused.add(ids.get(mail_id, 0))
        told = "no such user" in record["reason"] and record["code"] == "5.1.1"
        if not told and not _may_be_dead(site, record, doubts[mail_id, "hop"]):
            found.other.append(f"{mail_id} is dead for another reason: {record['reason']}")
    if silent := taken - refused:
        found.lost.append(f"refused by the next hop without a record: {some(silent)}")


def _receipts(site: Site, ids: dict[str, int], dead: Dead, found: Found) -> None:
    """Every effect of an output whose API would repeat it has its receipt."""
    some_ids = sorted(ids)[:: max(1, len(ids) // 300)]
    has = site.receipts(some_ids)
    for mail_id in some_ids:
        for output in site.repeating.keys() - {"hop"}:
            if (mail_id, output) not in has and (mail_id, output) not in dead:
                found.other.append(f"no receipt of {mail_id} for {FILED_FLOW}/{output}")


def _leftovers(site: Site, found: Found) -> None:
    if found.dead:
        site.command("deadletter", "drop", "--all")
    for below in ("spool/", "dead/"):
        left = [key for key in site.keys(below) if not key.endswith("/probe")]
        if left:
            found.other.append(f"{len(left)} objects left below {below}: {left[:3]}")
    found.other += faults(site.relay.log())
    for entry in entries(site.log):
        if entry.get("traceback"):
            found.other.append(
                f"a traceback of the function: {entry['message']}\n{entry['traceback'][-2_000:]}"
            )
