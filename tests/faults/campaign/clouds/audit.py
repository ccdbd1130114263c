"""The conditions that hold for a cloud when everything works again and all mails are finished."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Set
from functools import partial
from typing import Any, Final

from tests.faults.campaign.clouds.observation import entries
from tests.faults.campaign.clouds.site import HOP, LOGIN, SMTP, Site
from tests.faults.campaign.found import Arrived, Found, faults, hold, read_mail, some
from tests.faults.campaign.numbered_mails import LOGGED_IN, PUBLISHED, RELAYED, UNKNOWN, Book
from tests.faults.campaign.outputs import HOOK, Effect, copies, posted, secrets_told
from tests.support.mails.damage import DAMAGED
from tests.support.mails.stored import strip_added_fields

_IN_DOUBT: Final = re.compile(
    r"an earlier run ended|no receipt could be written|may have taken it|Connection|Timeout|closed",
    re.IGNORECASE,
)
"""Reasons of records that report a doubt themselves: a run may be killed before it logs the doubt."""

Dead = dict[Effect, dict[str, Any]]
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
    spoiled = _spoiled(site, dead, found)
    missed = {numbers[mail_id] for mail_id, output in spoiled if output == "store"}
    hold("the store", stored, book.acknowledged() - missed, book.possible(), found)
    everything, doubts = numbers | ids, site.doubts()
    published = book.possible(recipient=PUBLISHED)
    chosen = {mail_id: number for mail_id, number in everything.items() if number in published}
    reasons = {effect: record["reason"] for effect, record in dead.items()}
    for output, counted in site.copies.items():
        if output not in SMTP:
            # A mail may be spoiled after it came out of this output, and before it was stored.
            filed = ids | {mail_id: number for mail_id, number in numbers.items() if counted[mail_id]}
            owed = chosen if output in site.published else filed
            may_be_dead = partial(_may_be_dead, site, dead, doubts)
            copies(output, counted, owed, doubts, reasons, may_be_dead, found)
    _receipts(site, ids, chosen.keys() & ids.keys(), dead, found)
    hop = [(taken.content, taken.recipients) for taken in list(site.smarthost.taken)]
    relayed = _relayed(site, book, HOP, RELAYED, hop, everything, dead, found)
    # The next hop's own fields are on top.
    inner = [
        strip_added_fields(mail[mail.index(b"x-smtp-relay: ") :]) for mail in site.peers.next_relay.mails()
    ]
    login = [(mail, [LOGGED_IN]) for mail in inner]
    relayed += _relayed(site, book, LOGIN, LOGGED_IN, login, everything, dead, found)
    _refused(site, book, everything, dead, found)
    unposted = {numbers[mail_id] for mail_id, output in spoiled if output == HOOK}
    relayed += posted(site.peers.hook, book, doubts, unposted, found)
    for (mail_id, output), record in dead.items():
        if output == HOOK and not _is_spoiled(site, record):
            found.other.append(f"{mail_id} was given up by the webhook: {record['reason']}")
    _secrets(site, dead, found)
    _leftovers(site, found)
    counted_all = sum(counter.total() for counter in site.copies.values())
    found.effects = sum(times for times, _ in stored.values()) + counted_all + relayed
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


def _may_be_dead(site: Site, dead: Dead, doubts: Counter[Effect], effect: Effect) -> bool:
    """True if an output was given up because its outcome was in doubt, as configured, or because the
    mail was spoiled."""
    record, known = dead[effect], doubts[effect]
    doubtful = site.on_doubt == "dead-letter" and bool(known or _IN_DOUBT.search(record["reason"]))
    return doubtful or _is_spoiled(site, record)


def _relayed(
    site: Site,
    book: Book,
    output: str,
    recipient: str,
    mails: Iterable[tuple[bytes, list[str]]],
    ids: dict[str, int],
    dead: Dead,
    found: Found,
) -> int:
    """The number of mails at a next hop. `mails` are contents and recipients."""
    arrived: Arrived = {}
    doubts = site.doubts()
    for content, recipients in mails:
        number = read_mail(content, output, arrived, found)
        if number is not None and recipients != [recipient]:
            found.other.append(f"{number} went to {recipients}")
    for number, (times, mail_id) in arrived.items():
        known = doubts[mail_id, output]
        if times - 1 > known:
            found.repeated.append(f"{number} at {output} {times} times, {known} in doubt ({mail_id})")
        elif times > 1:
            found.copies[output] += times - 1
    given_up = {
        ids[effect[0]]: effect
        for effect, record in dead.items()
        if effect[1] == output and effect[0] in ids and record["recipients"] != [UNKNOWN]
    }
    for number, effect in given_up.items():
        if not _may_be_dead(site, dead, doubts, effect):
            found.other.append(f"{number} was given up by {output}: {dead[effect]['reason']}")
    served = arrived | dict.fromkeys(given_up, (1, ""))
    hold(output, served, book.acknowledged(recipient=recipient), book.possible(recipient=recipient), found)
    found.outputs[output] += sum(times for times, _ in arrived.values())
    return found.outputs[output]


def _refused(site: Site, book: Book, ids: dict[str, int], dead: Dead, found: Found) -> None:
    """A mail for a recipient unknown to the next hop is dead there, with its words."""
    doubts = site.doubts()
    taken = book.possible(recipient=UNKNOWN) & set(ids.values())
    refused = set()
    for effect, record in dead.items():
        if effect[1] != HOP or record["recipients"] != [UNKNOWN]:
            continue
        refused.add(ids.get(effect[0], 0))
        told = "no such user" in record["reason"] and record["code"] == "5.1.1"
        if not told and not _may_be_dead(site, dead, doubts, effect):
            found.other.append(f"{effect[0]} is dead for another reason: {record['reason']}")
    if silent := taken - refused:
        found.lost.append(f"refused by the next hop without a record: {some(silent)}")


def _receipts(site: Site, ids: dict[str, int], published: Set[str], dead: Dead, found: Found) -> None:
    """Every effect of an output whose API would repeat it has its receipt."""
    some_ids = sorted(ids)[:: max(1, len(ids) // 300)]
    has = site.receipts(some_ids)
    for mail_id in some_ids:
        for output in site.copies.keys() - SMTP.keys():
            owed = mail_id in published or output not in site.published
            if owed and (mail_id, output) not in has and (mail_id, output) not in dead:
                found.other.append(f"no receipt of {mail_id} for {output}")


def _secrets(site: Site, dead: Dead, found: Found) -> None:
    texts = {
        "the listener's log": site.relay.log(),
        "the next hop's log": site.peers.next_relay.log(),
        "the function's log": site.log.read_text(errors="replace") if site.log.exists() else "",
        "the function's output": site.output(),
        "a dead record": json.dumps(list(dead.values())),
    }
    for key in site.keys("dead/"):
        texts[key] = (site.read_spooled(key) or b"").decode(errors="replace")
    secrets_told(texts, found)


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
