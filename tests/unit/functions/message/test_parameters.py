"""MIME parameters and bounded field reading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.fields import first_value, iter_fields
from functions.message.headers import field_end, field_patterns, unfold
from functions.message.parameters import parse_parameters


@pytest.mark.parametrize(
    ("value", "main", "parameters"),
    [
        (b"text/plain", "text/plain", {}),
        (b'Text/HTML; Charset="utf-8" ; x=y', "text/html", {"charset": "utf-8", "x": "y"}),
        (b"a/b; name*=utf-8'en'%C3%A9.png", "a/b", {"name": "é.png"}),
        (b"a/b; name=plain.png; name*=utf-8''%C3%A9.png", "a/b", {"name": "é.png"}),
        (b"a/b; n*0*=iso-8859-1''%E9; n*1=\"b;c\"; n*2*=%E9", "a/b", {"n": "éb;cé"}),
        (b"a/b; n*1=b; n*0=a", "a/b", {"n": "ab"}),
        (b'a/b; filename="=?utf-8?q?=C3=A9?=.txt"', "a/b", {"filename": "é.txt"}),
        (b'a/b; n="q\\"x', "a/b", {"n": 'q"x'}),
        (b"a/b; n=1; n=2", "a/b", {"n": "1"}),
        (b"", "", {}),
        (b";;;=;a=", "", {"a": ""}),
    ],
)
def test_parameters(value: bytes, main: str, parameters: dict[str, str]) -> None:
    assert parse_parameters(value) == (main, parameters)


@given(
    st.lists(st.sampled_from([b";", b"=", b"*", b"'", b'"', b"\\", b"%", b"0", b"a", b" ", b"\xff"])).map(
        b"".join
    )
)
def test_any_value_is_read(value: bytes) -> None:
    parse_parameters(value)


HEAD = b"A: 1\r\nnot a field\r\nB :\r\n  2\r\n\t3\r\na: 4\r\n"


def test_fields_are_unfolded_and_other_lines_passed_over() -> None:
    assert list(iter_fields(HEAD)) == [(b"A", b"1"), (b"B", b"2\t3"), (b"a", b"4")]
    assert list(iter_fields(HEAD, most=1)) == [(b"A", b"1")]
    assert list(iter_fields(b"")) == []


def test_the_first_field_of_a_name() -> None:
    assert first_value(HEAD, b"a") == b"1"
    assert first_value(HEAD, b"b") == b"2\t3"
    assert first_value(HEAD, b"not a field") is None
    assert first_value(b"A: " + b"x" * 100_000, b"a") == b"x" * 65_535


@given(
    st.lists(
        st.sampled_from([b"a", b"A", b"ab", b"b", b":", b" ", b"\t", b"\r\n", b"\n", b"\xef\xbb\xbf", b"x"])
    ).map(b"".join)
)
def test_the_first_field_is_where_the_patterns_find_it(head: bytes) -> None:
    for name in ("a", "Ab"):
        first, other = field_patterns([name])
        found = first.match(head) or other.search(head)
        value = None if found is None else unfold(head[found.end() : field_end(head, found.end())])
        assert first_value(head, name.encode()) == value
