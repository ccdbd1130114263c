"""Finding header fields, and recognizing headers that cannot carry a signature."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.mailauth.dkim.fields import MAX_FIELDS, MOST_NAMES, HeaderBlock, HeaderField, known_names


def fields_of(block: HeaderBlock) -> list[HeaderField]:
    return [field for name in block.by_name for field in block.named(name)]


def test_fields_keep_their_bytes() -> None:
    block = HeaderBlock(b"From: a\r\n b\r\nSubJect \t:  \xff\r\nfrom:c\r\n\r\n")
    assert [(f.name, f.raw, f.value) for f in fields_of(block)] == [
        (b"from", b"From: a\r\n b", b" a\r\n b"),
        (b"from", b"from:c", b"c"),
        (b"subject", b"SubJect \t:  \xff", b"  \xff"),
    ]
    assert [f.relaxed for f in fields_of(block)] == [b"from:a b", b"from:c", b"subject:\xff"]
    assert block.by_name == {b"from": [b"From: a\r\n b", b"from:c"], b"subject": [b"SubJect \t:  \xff"]}
    assert block.named(b"to") == []
    assert block.count == 3
    assert block.fault == ""


@pytest.mark.parametrize("head", [b"", b"\r\n", b"From: a", b"From: a\r\n", b"From: a\r\n\r\n"])
def test_with_and_without_its_end(head: bytes) -> None:
    block = HeaderBlock(head)
    assert [f.value for f in fields_of(block)] == ([b" a"] if head.startswith(b"F") else [])
    assert block.fault == ""


@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (b"From: a\r\nno field\r\nTo: b\r\n\r\n", "malformed header"),
        (b" leading: x\r\nFrom: a\r\n\r\n", "malformed header"),
        (b"From a@b Mon Jan  1 00:00:00 2026\r\nTo: b\r\n\r\n", ""),
        (b"a: b\r\n" * (MAX_FIELDS + 1), "too many header fields"),
        (b"a: b\r\n" * MAX_FIELDS, ""),
    ],
)
def test_faults(head: bytes, fault: str) -> None:
    block = HeaderBlock(head)
    assert block.fault == fault
    assert block.count == len(fields_of(block)) <= MAX_FIELDS


def test_a_line_without_a_colon_is_no_field_though_its_text_is_a_known_name() -> None:
    HeaderBlock(b"From: a\r\n")
    block = HeaderBlock(b"To: a\r\nFrom\r\n")
    assert (block.by_name, block.count, block.fault) == ({b"to": [b"To: a"]}, 1, "malformed header")


def test_the_known_names_are_bounded_in_number_and_length() -> None:
    for start in range(0, 3 * MOST_NAMES, 1_000):
        HeaderBlock(b"".join(b"X-Name-%d: x\r\n" % number for number in range(start, start + 1_000)))
        assert len(known_names) <= MOST_NAMES
    HeaderBlock(b"X-" + b"n" * 500 + b": x\r\nNo field \v: x\r\n")
    assert max(map(len, known_names)) <= 64
    assert b"No field \v" not in known_names


@given(st.binary(max_size=300))
def test_nothing_raises(head: bytes) -> None:
    for field in fields_of(HeaderBlock(head)):
        assert head.find(field.raw) >= 0
        assert field.raw.endswith(field.value)
        assert b"\n" not in field.relaxed.replace(
            b"\n", b"", field.raw.count(b"\n") - field.raw.count(b"\r\n")
        )
