"""Searches: each term means what Mailpit's means, for generated queries too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.local.view.folders import Folder
from listener.config.inbox_folders import InboxFolder
from listener.inbox.index import Index
from listener.inbox.keeper import Keeper
from listener.inbox.mailbox import Mailbox
from listener.inbox.query import date_of, search_of, size_of, split
from tests.support.inbox.mails import MOMENT, block, mail, store

DAY = 86_400_000


@pytest.fixture(scope="module")
def mailbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailbox]:
    """Mails that differ in everything a term asks for: mail number N came on day N of January 2026."""
    root = tmp_path_factory.mktemp("query")
    people = ["Ann <ann@h.example>", "Zoë <zoe@x.example>", "<bob@h.example>", '"O, Neil" <on@h.example>']
    for number in range(24):
        made = mail(
            f"{'Invoice' if number % 3 else 'Rechnung für'} #{number}",
            f"body {number} needle-{number % 5}" + " 50% _off_ x" * (number * 20) + "\n",
            From=people[number % 4],
            To=people[(number + 1) % 4],
            Message_ID=f"<m{number}@h.example>",
            **({"Cc": "carol+team@h.example"} if number % 4 == 0 else {}),
            **({"Reply_To": "reply@h.example"} if number % 5 == 0 else {}),
        )
        if number % 2:
            made.add_attachment(b"x", maintype="application", subtype="pdf", filename=f"file{number}.pdf")
        if number % 6 == 0:
            made.add_attachment(b"i", maintype="image", subtype="png", cid="<i@h>", disposition="inline")
        top = block("bob@h.example", "hidden@h.example", ms=MOMENT + number * DAY)
        store(root / "mails", f"{number}.eml", made, top)
    index = Index(root / "index")
    folder = Folder(root / "mails", trusted=True)
    Keeper(index, [InboxFolder("f", folder)], lambda *_: None, by_user=False).catch_up()
    box = Mailbox(index, None)
    rows = box.rows()
    box.mark(rows[::3], read=True)
    box.set_tags(rows[::4], ["Red", "two words"])
    box.set_tags(rows[1::4], [])
    yield box
    index.close()


def found(mailbox: Mailbox, query: str) -> list[str]:
    return [row.id for row in mailbox.rows(search_of(query, "UTC"))]


def naive(mailbox: Mailbox, query: str) -> list[str]:
    """The same by reading every mail's JSON and text."""
    rows = mailbox.rows()
    texts = dict(mailbox._index.rows("SELECT id, text FROM mail JOIN words ON seq = words.rowid"))
    inline = dict(mailbox._index.rows("SELECT id, inlines FROM mail"))
    kept = []
    for one in mailbox.summaries(rows):
        if all(_meets(one, texts[one["ID"]], inline[one["ID"]], term) for term in split(query)):
            kept.append(one["ID"])
    return kept


def _meets(one: dict[str, Any], text: str, inline: int, term: str) -> bool:
    negated = len(term) > 1 and term[0] in "-!"
    word = term[1:] if negated else term
    if not re.search(r"[^\W_]", word):
        return True
    name, _, value = word.partition(":")
    name = name.lower()
    clean = " ".join(re.sub(r'[<>",;()\s]+', " ", value).split()).lower()
    lists = {
        "to": one["To"],
        "from": [one["From"]],
        "cc": one["Cc"],
        "bcc": one["Bcc"],
        "reply-to": one["ReplyTo"],
        "addressed": [*one["To"], one["From"], *one["Cc"], *one["Bcc"], *one["ReplyTo"]],
    }
    created = datetime.fromisoformat(one["Created"]).timestamp() * 1000
    if word.lower() in ("is:read", "is:unread"):
        return (one["Read"] is (word.lower() == "is:read")) is not negated
    if word.lower() == "is:tagged":
        return bool(one["Tags"]) is not negated
    if word.lower() in ("has:attachment", "has:attachments"):
        return bool(one["Attachments"]) is not negated
    if word.lower() in ("has:inline", "has:inlines"):
        return bool(inline) is not negated
    if name in lists and value:
        if not clean:
            return True
        here = any(clean in f"{each['Name']} {each['Address']}".lower() for each in lists[name])
        return here is not negated
    if name == "subject" and value:
        return (value.lower() in one["Subject"].lower()) is not negated
    if name == "message-id" and value:
        return not clean or (clean in one["MessageID"].lower()) is not negated
    if name == "tag" and value:
        return not clean or (clean in [tag.lower() for tag in one["Tags"]]) is not negated
    if name in ("before", "after") and value:
        moment = date_of(value, "UTC")
        if moment is None:
            return True
        return created <= moment if (name == "before") is not negated else created >= moment
    if name in ("larger", "smaller") and (size := size_of(value)):
        larger = (name == "larger") is not negated
        return bool(one["Size"] > size if larger else one["Size"] < size)
    plain = " ".join(re.sub(r'[<>",;()\s]+', " ", word).split()).lower()
    return not plain or (plain in text) is not negated


WORDS = """
ann;ANN@h.example;zoë;bob;h.example;on;o;e@;invoice;für #3;#1;m1;m1@;red;RED;two words;2026-01-05;no date
2026-01-10T12:00:00+02:00;2026/01/12;1k;2.5k;1mb;0;x;50%;_off_;needle-3;dle;file1;hidden;team;a*b;';ü;→;
"""
VALUES = st.sampled_from(WORDS.strip().replace("\n", ";").split(";"))
KEYS = """
to:;from:;cc:;bcc:;reply-to:;addressed:;subject:;message-id:;tag:;before:;after:;larger:;smaller:;is:read
is:unread;is:tagged;has:attachment;has:attachments;has:inline;has:inlines;;;;TO:;Is:Read;other:;is:
"""
NAMES = st.sampled_from(KEYS.strip().replace("\n", ";").split(";"))


@st.composite
def terms(draw: st.DrawFn) -> str:
    name, value = draw(NAMES), draw(VALUES)
    term = name if name.lower().startswith(("is:r", "is:u", "is:t", "has:")) else name + value
    quoted = f'"{term}"' if " " in term or draw(st.booleans()) else term
    return draw(st.sampled_from(["", "-", "!"])) + quoted


@given(st.lists(terms(), min_size=1, max_size=4).map(" ".join))
@settings(max_examples=400, deadline=None)
def test_every_query_finds_what_a_look_at_each_mail_finds(mailbox: Mailbox, query: str) -> None:
    assert found(mailbox, query) == naive(mailbox, query)


@given(st.text(st.characters(codec=None), max_size=60))
@settings(max_examples=200, deadline=None)
def test_no_query_is_an_error(mailbox: Mailbox, query: str) -> None:
    found(mailbox, query)


@pytest.mark.parametrize(
    ("query", "subjects"),
    [
        ("needle-4 from:ann", ["Invoice #4"]),
        ("subject:rechnung larger:2k to:bob", ["Rechnung für #21", "Rechnung für #9"]),
        ("before:2026-01-02", ["Invoice #1", "Rechnung für #0"]),
        ("after:2026-01-23T00:00:00Z", ["Invoice #23", "Invoice #22"]),
        ("message-id:m7@", ["Invoice #7"]),
        ('"body 13 needle"', ["Invoice #13"]),
        ("cc:carol has:inline before:2026-01-05", ["Rechnung für #0"]),
        ("bcc:hidden -has:attachment !is:read smaller:1k", ["Rechnung für #0"]),
    ],
)
def test_the_words_of_a_search(mailbox: Mailbox, query: str, subjects: list[str]) -> None:
    assert [row.summary["Subject"] for row in mailbox.rows(search_of(query, "UTC"))] == subjects


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2k", 2_048),
        ("2 KB", 2_048),
        ("1.5m", 1_572_864),
        ("7", 7),
        ("2g", 0),
        ("", 0),
        ("-1", 0),
        ("1e3", 0),
        ("999999999999999m", (1 << 63) - 1),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert size_of(text) == size


@pytest.mark.parametrize(
    ("text", "zone", "moment"),
    [
        ("2026-01-01", "UTC", "2026-01-01T00:00:00+00:00"),
        ("2026-01-01", "Pacific/Auckland", "2025-12-31T11:00:00+00:00"),
        ("2026-01-01T10:00:00+02:00", "Pacific/Auckland", "2026-01-01T08:00:00+00:00"),
        ("2026/01/01 10:30", "UTC", "2026-01-01T10:30:00+00:00"),
        ("2026/1/5 10:30:15", "UTC", "2026-01-05T10:30:15+00:00"),
        ("01/05/2026", "UTC", "2026-01-05T00:00:00+00:00"),
        ("05.01.2026", "UTC", "2026-01-05T00:00:00+00:00"),
        ("5 Jan 2026", "America/New_York", "2026-01-05T05:00:00+00:00"),
        ("January 5, 2026", "UTC", "2026-01-05T00:00:00+00:00"),
        ("jan 5 2026 3:04 pm", "UTC", "2026-01-05T15:04:00+00:00"),
        ("Mon, 05 Jan 2026 10:00:00 +0100", "UTC", "2026-01-05T09:00:00+00:00"),
        ("2026-01-05 10:00:00 +0100", "UTC", "2026-01-05T09:00:00+00:00"),
        ("2026-01", "UTC", "2026-01-01T00:00:00+00:00"),
        ("2026", "UTC", "2026-01-01T00:00:00+00:00"),
        ("20260105", "UTC", "2026-01-05T00:00:00+00:00"),
        ("1767225600", "", "2026-01-01T00:00:00+00:00"),
        ("1767225600000", "", "2026-01-01T00:00:00+00:00"),
    ],
)
def test_dates_are_read_in_their_time_zone(text: str, zone: str, moment: str) -> None:
    found = date_of(text, zone)
    assert found is not None
    assert datetime.fromtimestamp(found / 1000, UTC).isoformat() == moment


@pytest.mark.parametrize("text", ["", "soon", "9999-99-99", "0001-01-01T00:00:00+23:59"])
def test_what_is_no_date_is_none(text: str) -> None:
    assert date_of(text, "UTC") is None or text.startswith("0001")


def test_terms_that_mean_nothing_are_named() -> None:
    assert search_of("before:soon → ann").ignored == ("before:soon", "→")


@pytest.mark.parametrize(
    ("query", "terms"),
    [
        ("", []),
        ("  one\ttwo  ", ["one", "two"]),
        ('"one two" three', ["one two", "three"]),
        ('subject:"one two" -"three four"', ["subject:one two", "-three four"]),
        ('"subject:one two"', ["subject:one two"]),
        ('"never closed', ["never closed"]),
        ('""', []),
        ('a"b c"d', ["ab cd"]),
    ],
)
def test_quotes_hold_a_term_together(query: str, terms: list[str]) -> None:
    assert split(query) == terms


def test_a_search_has_a_bounded_number_of_terms() -> None:
    assert search_of("a " * 10_000).condition.count(" AND ") < 100
