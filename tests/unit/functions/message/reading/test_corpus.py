"""The sample mails of other projects, read as npm's mailparser or Python's email package reads them.

Where the two agree, an event says the same; every other place is in OTHERWISE, with its reason.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.mails.other_readers import FIELDS, by_mailparser, by_python
from tests.support.mails.stored import crlf_ended
from tests.support.programs import corpus
from tests.unit.functions.message.test_reading import email_of

OTHERWISE: Final[dict[str, set[str]]] = {
    "text is made from the HTML where a mail has none; the others give none": {
        "cpython/msg_40.txt text",
        "cpython/msg_41.txt text",
        "enmime/low-quality-html-only-inline.raw text",
        "enmime/mail-html-only-inline.raw text",
        "enmime/mail-mime-mixed-related.raw text",
        "mail-parser/mail_test_4 text",
        "mail-parser/mail_test_6 text",
        "mail-parser/mail_test_14 text",  # and a title is not shown
        "mail-parser/mail_test_9 text",  # and a label that is the target is not repeated
    },
    "a forwarded mail or a report is an attachment, and its text is in no other mail's text": {
        "cpython/msg_02.txt text",
        "cpython/msg_16.txt text",
        "cpython/msg_30.txt text",
        "cpython/msg_34.txt text",
    },
    "without a boundary that is in use, the first line has it, or all is text; the others give nothing": {
        "cpython/msg_17.txt text",
        "cpython/msg_25.txt text",
        "cpython/msg_31.txt text",
        "enmime/parts-multimixed-no-closing-boundary.raw text",
        "mail-parser/mail_malformed_3 html",
        "mail-parser/mail_malformed_3 text",
    },
    "a text with a name behind the first text is an attachment as well": {
        "cpython/msg_04.txt attachments",
        "cpython/msg_44.txt attachments",
        "enmime/mail-inlinemultipart.raw attachments",
        "enmime/mail-malformed-multiple-address-header-values.raw attachments",
        "mail-parser/mail_test_3 attachments",
    },
    "bytes without a charset are UTF-8, else Windows-1252, or as their meta element says": {
        "enmime/mail-non-mime-missing-charset.raw html",
        "enmime/mail-non-mime-missing-charset.raw text",
        "enmime/parts-chardet-fail.raw text",
        "enmime/parts-chardet-success-big-5.raw text",
        "enmime/parts-chardet-success-iso-8859-1.raw text",
        "mail-parser/mail_outlook_1 text",
    },
    "HTML keeps its references to inline images, as it was sent": {
        "enmime/mail-html-mime-bad-charset-inline.raw html",
        "enmime/mail-html-mime-bad-unknown-charset-inline.raw html",
        "mail-parser/mail_test_2 html",
    },
    "plain text becomes HTML with a break for each line, and mailparser's with paragraphs": {
        "mail-parser/mail_test_3 html",
    },
    "all From fields name authors, and two addresses without a comma are two": {
        "enmime/mail-malformed-multiple-address-header-values.raw from",
    },
    "a first line that begins with a blank is no field, because our own fields come above it": {
        "enmime/low-quality-bad-header-start.raw date",
        "enmime/low-quality-bad-header-start.raw subject",
        "enmime/low-quality-bad-header-start.raw text",
        "enmime/low-quality-bad-header-start.raw to",
    },
}
"""Reasons, and the mails and fields that they are for."""


@pytest.fixture(scope="module")
def mails() -> dict[str, bytes]:
    return {name_of(path): crlf_ended(path.read_bytes()) for path in corpus()}


def name_of(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if "mails" in path.parts else f"cpython/{path.name}"


def ours(mail: bytes) -> dict[str, Any]:
    found = email_of(mail)
    for name in ("from", "to", "cc"):
        found[name] = [list(box) for box in found[name]]
    # What the envelope and the content types stand in for.
    found["from"] = [box for box in found["from"] if box != ["", "bounce@sender.example"]]
    found["to"] = [box for box in found["to"] if box != ["", "dan@taker.example"]]
    made_up = re.compile(r"attachment-\d+\.\w+")
    found["attachments"] = [name for name, _ in found["attachments"] if not made_up.fullmatch(name)]
    return {**found, **{name: found[name] or "" for name in ("subject", "text", "html")}}


def squeezed(value: Any) -> Any:
    return " ".join(value.replace("<br/>", "").split()) if isinstance(value, str) else value


def test_an_event_says_what_other_readers_agree_on(mails: dict[str, bytes]) -> None:
    score: Counter[str] = Counter()
    neither: set[str] = set()
    for (name, mail), theirs in zip(mails.items(), by_mailparser(list(mails.values())), strict=True):
        found, python = ours(mail), by_python(mail)
        for field in FIELDS:
            own, one, other = (squeezed(reader[field]) for reader in (found, theirs, python))
            same = (own == one) + (own == other)
            score[f"{field} {same}"] += 1
            if not same:
                neither.add(f"{name} {field}")
    known = {place for places in OTHERWISE.values() for place in places}
    assert neither == known, {"new": neither - known, "gone": known - neither, "score": score}
