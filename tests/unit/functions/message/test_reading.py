"""Mails as strangers write them, read for an event: each case, and each again after changes that change
nothing of what it says."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from functions.message.event.cloudevent import build
from functions.message.mail import BytesContent, Mail
from functions.message.mime import read_parts
from tests.support.mails.reading.case import Case, seen
from tests.support.mails.reading.cases import CASES
from tests.support.mails.reading.mutations import MUTATIONS
from tests.support.mails.spooled import envelope_of


def email_of(content: bytes) -> dict[str, Any]:
    addresses = {"reverse_path": "bounce@sender.example", "recipients": ["dan@taker.example"]}
    envelope = envelope_of(content, flows=("f",), received=0, **addresses)
    parts = read_parts(Mail(envelope, BytesContent(content)), "f")
    return seen(json.loads(build(envelope, parts, flow="f", max_bytes=1_048_576))["data"]["email"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}"[:80])
def test_a_mail_says_what_its_sender_meant(case: Case) -> None:
    found = email_of(case.mail)
    assert {name: found[name] for name in case.expected} == case.expected


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_no_rule_depends_on_boundaries_labels_folding_or_the_case_of_names(mutation: str) -> None:
    changed = 0
    for case in CASES:
        mail = MUTATIONS[mutation](case.mail)
        changed += mail != case.mail
        found = email_of(mail)
        # A label may be part of what is compared, in HTML and in a file's name.
        shown = [
            repr({name: source[name] for name in case.expected}).casefold()
            for source in (found, case.expected)
        ]
        assert shown[0] == shown[1], (case.kind, case.name, mail)
    assert changed > 40


def test_each_kind_has_three_mails_or_more() -> None:
    kinds = Counter(case.kind for case in CASES)
    assert {kind: count for kind, count in kinds.items() if count < 3} == {
        "HTML: hidden": 1,
        "HTML: images": 1,
    }
