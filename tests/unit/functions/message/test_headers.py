"""Header editing: removals, additions, and that nothing else changes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.headers import (
    CRLF,
    HeadCollector,
    HeaderEdits,
    HeaderTooLarge,
    count_received,
    head_size,
    separator,
    split_head,
    unfold,
)

MAIL = (
    b"Received: from a ([192.0.2.1])\r\n\tby b; Fri, 02 Jan 2026 03:04:05 +0000\r\n"
    b"Subject: one\r\n two\r\nX-Old: gone\r\n\r\nbody\r\n\r\nX-Old: stays\r\n"
)

# Every piece that can matter at a boundary, so that random mails are rich in edges.
pieces = st.sampled_from(
    [
        b"\r\n",
        b"\r",
        b"\n",
        b":",
        b" ",
        b"\t",
        b"a",
        b"X-Old",
        b"x-old: v\r\n",
        b"\r\n\r\n",
        b"B:\r\n c\r\n",
        b"\xe9",
        b"From ",
        b">",
    ]
)
mails = st.lists(pieces, max_size=14).map(b"".join)


@pytest.mark.parametrize(
    ("mail", "head"),
    [
        (MAIL, MAIL[: MAIL.index(b"\r\n\r\n") + 2]),
        (b"A: b\r\n\r\nbody\r\n", b"A: b\r\n"),
        (b"A: b\r\n", b"A: b\r\n"),
        (b"A: b", b"A: b"),
        (b"A : b\r\n\r\n", b"A : b\r\n"),
        (b"A:\r\n folded\r\n\r\n", b"A:\r\n folded\r\n"),
        (b"A: \xe9\xff\r\n\r\n", b"A: \xe9\xff\r\n"),
        (b"A: b\r\nnot a field\r\nC: d\r\n\r\nbody", b"A: b\r\nnot a field\r\nC: d\r\n"),
        (b"\r\nbody\r\n", b""),
        (b"no header here\r\n\r\nA: b\r\n", b""),
        (b" A: b\r\n\r\n", b""),
        (b"\xc3\xa9: b\r\n\r\n", b""),
        (b": b\r\n\r\n", b""),
        (b"", b""),
        (b"X" * 998 + b": b\r\n\r\n", b""),
        (
            b"From a@b.example Mon Jan  5 10:00:00 2026\r\nA: b\r\n\r\nx",
            b"From a@b.example Mon Jan  5 10:00:00 2026\r\nA: b\r\n",
        ),
        (b">From a@b.example\r\nA: b\r\n\r\nx", b">From a@b.example\r\nA: b\r\n"),
        (b"From : a@b.example\r\n\r\nx", b"From : a@b.example\r\n"),
        (b"from here on\r\nA: b\r\n\r\n", b""),
        (b"A: b\r\n \r\nC: d\r\n\t\r\n\r\nbody", b"A: b\r\n \r\nC: d\r\n\t\r\n"),
        (b"A: b\n\nC: d\r\r\nE: f\r\n\r\nbody", b"A: b\n\nC: d\r\r\nE: f\r\n"),
    ],
)
def test_where_the_header_block_ends(mail: bytes, head: bytes) -> None:
    assert split_head(mail) == (head, mail[len(head) :])
    assert head_size(mail) == len(head)


@pytest.mark.parametrize(
    ("mail", "expected"),
    [(b"", CRLF), (b"text\r\n", CRLF), (b"\r\ntext\r\n", b""), (b"A: b\r\n\r\n", b""), (b"A: b\r\n", b"")],
)
def test_fields_on_top_of_a_mail_without_header_are_followed_by_a_blank_line(
    mail: bytes, expected: bytes
) -> None:
    assert separator(*split_head(mail)) == expected


@given(mails)
def test_head_and_rest_are_the_mail(mail: bytes) -> None:
    head, rest = split_head(mail)
    assert head + rest == mail
    assert rest == b"" or head == b"" or rest.startswith(CRLF)
    assert b"\r\n\r\n" not in head


def collect(chunks: list[bytes], limit: int) -> tuple[bytes, bytes] | None:
    collector = HeadCollector(limit)
    try:
        for at, chunk in enumerate(chunks):
            rest = collector.feed(chunk)
            if rest is not None:
                return collector.head, rest + b"".join(chunks[at + 1 :])
        rest = collector.finish()
    except HeaderTooLarge:
        return None
    return collector.head, rest


@given(mails, st.integers(0, 60))
def test_the_collector_agrees_with_the_whole_mail_at_every_boundary(mail: bytes, limit: int) -> None:
    head, rest = split_head(mail)
    expected = None if len(head) > limit else (head, rest)
    assert collect([mail], limit) == expected
    assert collect([mail[at : at + 1] for at in range(len(mail))], limit) == expected
    for at in range(len(mail) + 1):
        assert collect([mail[:at], mail[at:]], limit) == expected


def test_the_collector_settles_a_long_first_line_without_a_colon() -> None:
    collector = HeadCollector(10)
    line = b"x" * 990
    assert collector.feed(line) is None
    assert collector.feed(b"y" * 50) == line + b"y" * 50
    assert collector.head == b""


def test_a_header_in_single_bytes_is_collected_in_linear_time() -> None:
    mail = b"A: " + b"b" * 200_000 + b"\r\n\r\nrest"
    collector = HeadCollector(1 << 20)
    rest = next(r for at in range(len(mail)) if (r := collector.feed(mail[at : at + 1])) is not None)
    assert (len(collector.head), rest) == (200_005, CRLF)


def test_additions_stand_in_the_order_of_the_configuration() -> None:
    edits = HeaderEdits({"X-B": "1", "X-A": "ü", "X-Empty": "", "X-Number": 25})
    assert edits.added(b"") == "X-B: 1\r\nX-A: ü\r\nX-Empty:\r\nX-Number: 25\r\n".encode()


@pytest.mark.parametrize(
    ("head", "added"),
    [
        (b"", b"X-Mark: 1\r\n"),
        (b"X-Other: X-Mark: 0\r\n", b"X-Mark: 1\r\n"),
        (b"X-Mark-Too: 0\r\n", b"X-Mark: 1\r\n"),
        (b"A: b\r\n X-Mark: folded\r\n", b"X-Mark: 1\r\n"),
        (b"x-mark: 0\r\n", b""),
        (b"A: b\r\nX-MARK : 0\r\n", b""),
    ],
)
def test_a_question_mark_adds_only_what_is_absent(head: bytes, added: bytes) -> None:
    assert HeaderEdits({"?X-Mark": "1"}).added(head) == added


def test_what_is_removed_counts_as_absent_and_what_is_added_as_present() -> None:
    assert HeaderEdits({"-X": "", "?X": "new"}).added(b"X: old\r\n") == b"X: new\r\n"
    assert HeaderEdits({"X": "first", "?x": "second"}).added(b"") == b"X: first\r\n"


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"X-Old: a\r\n", b""),
        (b"x-OLD:a\r\nA: b\r\n", b"A: b\r\n"),
        (b"A: b\r\nX-Old : a\r\n\tfolded\r\n more\r\nC: d\r\n", b"A: b\r\nC: d\r\n"),
        (b"A: b\r\nX-Old: 1\r\nX-Old: 2\r\nX-Old: 3\r\n", b"A: b\r\n"),
        (b"A: b\r\nX-Old: unterminated", b"A: b\r\n"),
        (b"A: b\r\n X-Old: continued\r\n", b"A: b\r\n X-Old: continued\r\n"),
        (b"A: b\r\nX-Older: c\r\n", b"A: b\r\nX-Older: c\r\n"),
        (b"A: b\r\njunk line\r\nX-Old: a\r\nC: \xff\r\n", b"A: b\r\njunk line\r\nC: \xff\r\n"),
    ],
)
def test_a_removal_takes_whole_fields(head: bytes, kept: bytes) -> None:
    assert HeaderEdits({"-X-Old": True}).kept(head) == kept


def test_a_predicate_decides_by_the_unfolded_value() -> None:
    seen: list[bytes] = []

    def ours(value: bytes) -> bool:
        seen.append(value)
        return value.startswith(b"mx.example.org;")

    edits = HeaderEdits(removals=[("Authentication-Results", ours)])
    head = (
        b"Authentication-Results: mx.example.org;\r\n\tspf=pass\r\n"
        b"A: b\r\nauthentication-results: other.example; spf=fail\r\n"
    )
    assert edits.kept(head) == head[head.index(b"A: b") :]
    assert seen == [b"mx.example.org;\tspf=pass", b"other.example; spf=fail"]
    assert edits.kept(head[head.index(b"A: b") :]) == head[head.index(b"A: b") :]


NAME_THAT_ONLY_SOME_FIND = [
    b"X-Old \t : forged\r\n",
    b"X-Old\r\n : forged\r\n",
    b"X-Old\r\n\t\r\n : forged\r\n more\r\n",
    b"X-Old\x0b: forged\r\n",
    b"X-Old\x00:forged\r\n",
    "X-Old\u00a0: forged\r\n".encode(),
    "X-Old \u2003\u200b: forged\r\n".encode(),
    "\ufeffX-Old: forged\r\n".encode(),
    "\u00a0 x-old : forged\r\n".encode(),
    b"\xa0X-OLD\xa0: forged\r\n",
    b"\x0cX-Old: forged\r\n",
]


@pytest.mark.parametrize("field", NAME_THAT_ONLY_SOME_FIND, ids=ascii)
@pytest.mark.parametrize("edits", [{}, {"-X-Old": ""}])
def test_a_predicate_is_asked_of_fields_that_only_a_lenient_reader_finds(
    field: bytes, edits: dict[str, object]
) -> None:
    asked: list[bytes] = []

    def forged(value: bytes) -> bool:
        asked.append(value)
        return value.startswith(b"forged")

    removing = HeaderEdits(edits, [("x-old", forged)])
    head = b"A: b\r\n" + field + b"C: d\r\n"
    assert removing.kept(head) == b"A: b\r\nC: d\r\n"
    assert removing.kept(field + b"C: d\r\n") == b"C: d\r\n"
    assert bool(asked) == (not edits)
    keeping = HeaderEdits(removals=[("x-old", lambda value: False)])
    assert keeping.kept(head) is head


@pytest.mark.parametrize(
    "line",
    [
        b" X-Old: continued\r\n",
        b"\t\xa0X-Old: continued\r\n",
        b"AX-Old: other\r\n",
        b"X-Old x: other\r\n",
        b"\xe9X-Old: other\r\n",
    ],
    ids=ascii,
)
def test_no_predicate_is_asked_of_other_lines(line: bytes) -> None:
    def never(value: bytes) -> bool:
        raise AssertionError(value)

    head = b"A: b\r\n" + line
    assert HeaderEdits(removals=[("X-Old", never)]).kept(head) is head


def test_a_configured_removal_needs_no_predicate() -> None:
    def never(value: bytes) -> bool:
        raise AssertionError(value)

    assert HeaderEdits({"-X": ""}, [("x", never)]).kept(b"X: 1\r\n") == b""


@given(mails)
def test_removing_what_is_not_there_returns_the_same_object(mail: bytes) -> None:
    head, _ = split_head(mail)
    assert HeaderEdits({"-X-Absent": "", "X-New": "1"}).kept(head) is head
    assert HeaderEdits({}).added(head) == b""
    assert HeaderEdits(removals=[("X-Old", lambda value: False)]).kept(head) is head


@given(
    mails, st.sampled_from([None, {"X-New": "1"}, {"?Subject": "1"}, {"-Subject": ""}, {"-X": "", "?X": "1"}])
)
def test_all_edits_at_once_are_those_made_one_by_one(mail: bytes, edits: dict[str, object] | None) -> None:
    head, _ = split_head(mail)
    for made in (HeaderEdits(edits), HeaderEdits(edits, [("From", lambda value: True)])):
        assert made.applied(head) == (made.added(head), made.kept(head))


@given(mails)
def test_a_removal_leaves_no_field_and_every_other_line(mail: bytes) -> None:
    head, _ = split_head(mail)
    kept = HeaderEdits({"-X-Old": ""}).kept(head)
    expected: list[bytes] = []
    goes = False
    for line in head.split(CRLF):
        if not line.startswith((b" ", b"\t")):
            name, colon, _ = line.partition(b":")
            goes = bool(colon) and name.rstrip(b" \t").lower() == b"x-old"
        if not goes:
            expected.append(line)
    assert kept.rstrip(CRLF) == CRLF.join(expected).rstrip(CRLF)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"X Y": "v"}, "'X Y'"),
        ({"": "v"}, "''"),
        ({"-": "v"}, "'-'"),
        ({"X:": "v"}, "'X:'"),
        ({"Ünicode": "v"}, "'Ünicode'"),
        ({"X": "a\r\nBcc: b"}, "'X': the value holds a line break"),
        ({"?X": "a\nb"}, "'?X'"),
        ({"X": "a\x00"}, "'X'"),
        ({"X": "\udc80"}, "'X'"),
        ({"X": None}, "'X': a field's value is text, not NoneType"),
        ({"X": True}, "'X'"),
        ({"X": "v" * 1000}, "'X': the field is longer"),
    ],
)
def test_what_a_header_cannot_hold_is_refused_by_name(edits: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=r"header field|value|longer") as error:
        HeaderEdits(edits)
    assert message in str(error.value)


def test_a_removal_predicate_has_a_field_name() -> None:
    with pytest.raises(ValueError, match="not a header field name"):
        HeaderEdits(removals=[("a b", lambda value: True)])


@pytest.mark.parametrize(
    ("head", "count"),
    [
        (b"", 0),
        (b"Received: a\r\n", 1),
        (b"RECEIVED :a\r\nreceived: b\r\nX: Received: c\r\n Received: d\r\nReceived-SPF: e\r\n", 2),
        (b"A: b\r\n" + b"Received: x\r\n" * 100, 100),
    ],
)
def test_only_field_starts_count_as_received(head: bytes, count: int) -> None:
    assert count_received(head) == count


def test_unfolding_keeps_the_inner_blanks() -> None:
    assert unfold(b" a\r\n\tb\r\n  c \r\n") == b"a\tb  c"


@pytest.mark.parametrize(
    "head",
    [
        b"A: b\r\n" + b"\xa0" * 1_000_000 + b"\r\n",
        b"A: b\r\nX-Old" + b"\r\n " * 300_000 + b"\r\n",
        b"A: b\r\n" + b"X-Old\r\n \r\n" * 100_000,
        b"A: b\r\n" + b"\xa0\r\n" * 300_000,
        b"A: b\r\n" + b"X-Old\xa0" * 150_000,
    ],
    ids=["blanks", "folds", "names", "lines", "repeated"],
)
def test_looking_for_hidden_fields_is_linear(head: bytes) -> None:
    started = time.process_time()
    HeaderEdits(removals=[("X-Old", lambda value: False), ("X-Older", lambda value: True)]).kept(head)
    assert time.process_time() - started < 1


def test_editing_a_hostile_megabyte_is_linear() -> None:
    head = b"X-Old:\r\n" * 130_000
    assert HeaderEdits({"-X-Old": ""}).kept(head) == b""
    assert (
        len(HeaderEdits({"-X-Old": ""}).kept(b"A: b\r\n" + b"X-Old: 1\r\nB: c\r\n" * 50_000))
        == 6 + 6 * 50_000
    )
