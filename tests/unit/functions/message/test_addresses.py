"""Address lists as strangers write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.addresses import Address, parse_addresses


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bob@x.org", [("", "bob@x.org")]),
        (b'Bob <bob@x.org>, "Doe, John" <j@x.org>', [("Bob", "bob@x.org"), ("Doe, John", "j@x.org")]),
        (b"bob@x.org (Bob (the) builder)", [("Bob (the) builder", "bob@x.org")]),
        (b"undisclosed-recipients:;", []),
        (b"Team: a@x, B <b@x>;, c@x", [("", "a@x"), ("B", "b@x"), ("", "c@x")]),
        (b'"a b"@x.org', [("", '"a b"@x.org')]),
        (b'<"a>b"@x.org>', [("", '"a>b"@x.org')]),
        (b'"q\\"x" <a@b>', [('q"x', "a@b")]),
        (b"=?utf-8?q?J=C3=B6rg?= <j@x>", [("Jörg", "j@x")]),
        ("Jörg <ö@x>".encode(), [("Jörg", "ö@x")]),
        (b"a@[IPv6:::1]", [("", "a@[IPv6:::1]")]),
        (b"Name bob@x.org", [("Name", "bob@x.org")]),
        (b"Bob", [("Bob", "")]),
        (b"<>", []),
        (b"x <a@b", [("x", "a@b")]),
        (b"", []),
    ],
)
def test_lists(value: bytes, expected: list[tuple[str, str]]) -> None:
    assert parse_addresses(value) == [Address(*pair) for pair in expected]


@given(st.text(alphabet='ab@.,;:<>()[]"\\ =?é\n', max_size=200))
def test_any_text_gives_a_list(text: str) -> None:
    for address in parse_addresses(text.encode()):
        assert address.name or address.address


def test_the_list_is_capped() -> None:
    assert len(parse_addresses(b"a@b," * 5_000, most=100)) == 100


@pytest.mark.parametrize(
    "hostile", [b"(", b'"', b"<", b'<"', b"\\", b"[", b'"\\', b"a ", b'<<"', b'@"', b":"]
)
def test_hostile_lists_take_linear_time(hostile: bytes) -> None:
    # A quadratic reader needs minutes for this much.
    parse_addresses(hostile * 100_000)
