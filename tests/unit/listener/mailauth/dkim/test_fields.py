"""Finding header fields, and recognizing headers that cannot carry a signature."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.mailauth.dkim.fields import MAX_FIELDS, HeaderBlock, HeaderField


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


@given(st.binary(max_size=300))
def test_nothing_raises(head: bytes) -> None:
    for field in fields_of(HeaderBlock(head)):
        assert head.find(field.raw) >= 0
        assert field.raw.endswith(field.value)
        assert b"\n" not in field.relaxed.replace(
            b"\n", b"", field.raw.count(b"\n") - field.raw.count(b"\r\n")
        )
