"""What the outputs of both kinds of campaigns, at home and in the clouds, are held to."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Final

from tests.faults.campaign.dependencies import CLIENT_SECRET, HOOK_SECRET, Hook
from tests.faults.campaign.found import Arrived, Found, hold, read_mail
from tests.faults.campaign.numbered_mails import POSTED, Book
from tests.support.secret_forms import forms_of

HOOK: Final = "hook"
"""The webhook's output."""

Effect = tuple[str, str]
"""A mail's id, and an output."""

_ACCESS_TOKEN: Final = re.compile(r"\btoken-\d+\b")


def posted(hook: Hook, book: Book, doubts: Counter[Effect], missed: set[int], found: Found) -> int:
    """The number of mails at the webhook's receiver: each came once or more often, always with one id and
    verified, and no two mails share an id. `missed` are those that were spoiled in the spool."""
    ids: dict[int, set[str]] = defaultdict(set)
    arrived: Arrived = {}
    for webhook_id, body, verified in list(hook.taken):
        number = read_mail(body, "webhook", arrived, found)
        if not verified:
            found.other.append(f"{number} has a wrong signature ({webhook_id})")
        if number is not None:
            ids[number].add(webhook_id)
    hook.taken.clear()
    for number, some_ids in ids.items():
        if len(some_ids) > 1:
            found.other.append(f"{number} came by several ids: {sorted(some_ids)}")
    if len(set().union(*ids.values())) < len(ids):
        found.other.append("mails share a webhook-id")
    acknowledged, possible = book.acknowledged(recipient=POSTED), book.possible(recipient=POSTED)
    hold("webhook", arrived, acknowledged - missed, possible, found)
    if any(output == HOOK for _, output in doubts):
        found.other.append("the webhook announced a doubt")
    found.outputs[HOOK] += sum(times for times, _ in arrived.values())
    return len(arrived)


def copies(
    output: str,
    counted: Counter[str],
    ids: Mapping[str, int],
    doubts: Counter[Effect],
    dead: Mapping[Effect, str],
    may_be_dead: Callable[[Effect], bool],
    found: Found,
) -> None:
    """Of an output whose API would repeat: each of these mails once, and again only if the log says that it
    was in doubt. `counted` are the ids that came out of it, `ids` those that had to with the mails' numbers,
    `dead` the reasons of dead records."""
    found.outputs[output] += counted.total()
    for mail_id, number in ids.items():
        effect = (mail_id, output)
        times, known = counted[mail_id], doubts[effect]
        if effect in dead and not may_be_dead(effect):
            found.other.append(f"{number} was given up by {output}: {dead[effect]}")
        if times == 0 and effect not in dead:
            found.lost.append(f"{number} did not come out of {output} ({mail_id})")
        elif times - 1 > known:
            found.repeated.append(
                f"{number} came out of {output} {times} times, {known} in doubt ({mail_id})"
            )
        elif times > 1:
            found.copies[output] += times - 1
    if strange := counted.keys() - ids.keys():
        found.other.append(f"{output} has mails that were never taken for it: {sorted(strange)[:5]}")


def secrets_told(texts: Mapping[str, str], found: Found) -> None:
    """No text, by its name, holds a secret of an output, or an access token."""
    for where, text in texts.items():
        for secret in (HOOK_SECRET, HOOK_SECRET.removeprefix("whsec_"), CLIENT_SECRET):
            if any(form in text for form in forms_of(secret)):
                found.other.append(f"{where} shows the secret that begins with {secret[:9]!r}")
        if shown := _ACCESS_TOKEN.search(text):
            found.other.append(f"{where} shows an access token: {text[shown.start() - 200 : shown.end()]}")
