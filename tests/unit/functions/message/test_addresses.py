"""Address lists as strangers write them."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.addresses import (
    MAX_AUTHORS,
    MAX_FROM,
    Address,
    address_key,
    authors_of,
    in_ascii,
    parse_addresses,
    with_a_labels,
)
from functions.message.reading import lists


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"bob@x.org", [("", "bob@x.org")]),
        (b'Bob <bob@x.org>, "Doe, John" <j@x.org>', [("Bob", "bob@x.org"), ("Doe, John", "j@x.org")]),
        (b"bob@x.org (Bob (the) builder)", [("Bob (the) builder", "bob@x.org")]),
        (b"bob@x.org (Bob) (at work)", [("Bob at work", "bob@x.org")]),
        (b"Bob <<bob@x.org>>, c@x", [("Bob", "bob@x.org"), ("", "c@x")]),
        (b"J. <john . doe @ x . org>, J. j@x", [("J.", "john.doe@x.org"), ("J.", "j@x")]),
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
        (
            b"=?utf-8?Q?Support@other.example,_John?= <john@x>",
            [("Support@other.example, John", "john@x")],
        ),
        (b'=?utf-8?Q?a;b:c(d?= <a@x>, =?utf-8?Q?<b@y>"?= <c@x>', [("a;b:c(d", "a@x"), ('<b@y>"', "c@x")]),
        (b"x=?utf-8?q?a,b@y?= <c@x>", [("xa,b@y", "c@x")]),
        (b"=?utf-8?q?a, b@y?= <c@x>", [("a, b@y", "c@x")]),
        (b"=?utf-8?q?a,b <c@x>", [("=?utf-8?q?a, b", "c@x")]),  # it never ends
        (b"=?q?x?=@x.org", [("", "=?q?x?=@x.org")]),
        (b"a @ x.org", [("", "a@x.org")]),
        (b"a (c) @ (d) x (e) . org (f)", [("c d e f", "a@x.org")]),
        (b"<a @ x . org>", [("", "a@x.org")]),
        (b"<a(>)@x.org>", [("", "a@x.org")]),
        (b"Support @ Home <a@x>", [("Support @ Home", "a@x")]),
        (b"a@x.org b@y.org", [("", "a@x.org"), ("", "b@y.org")]),
        (b"A <a@x.org><b@y.org>", [("A", "a@x.org"), ("A", "b@y.org")]),
        (b"a@x.org: b@y.org;", [("", "a@x.org"), ("", "b@y.org")]),
        (b"J. Smith  <j@x>", [("J. Smith", "j@x")]),
        (b'"J.  Smith" <j@x>', [("J.  Smith", "j@x")]),
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


PIECES = st.sampled_from(
    [
        *(
            b"a@b.example",
            b"<",
            b">",
            b",",
            b", ",
            b";",
            b":",
            b" ",
            b"\t",
            b'"',
            b"Ann",
            b"J.",
            b"@",
            b"=",
            b"?",
            b"\x00",
        ),
        *(
            b"=?",
            b"?=",
            b"=?utf-8?q?",
            b"=?utf-8?q?x?=",
            b"=?utf-8?q?a,b?=",
            b"<c@d.example>",
            b'"q r"',
            b"[",
            b"\\",
            b"\xff",
        ),
    ]
)


@given(st.lists(PIECES, max_size=12).map(b"".join))
def test_the_usual_form_is_read_as_any_other(value: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lists, "_USUAL", re.compile("(?!)"))
        slowly = parse_addresses(value)
    assert parse_addresses(value) == slowly


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Bob@Example.com", "bob@EXAMPLE.com"),
        ("bob@münchen.example", "BOB@xn--mnchen-3ya.example"),
        ("bob@MÜNCHEN.example", "bob@mu\u0308nchen.example"),
        ("bøb@münchen\u3002example", "bøB@xn--mnchen-3ya.EXAMPLE"),
        ("bob@example.com.", "bob@example.com"),
        ("bob@münchen.example.", "bob@münchen.example"),
        ('"b@b"@Example.com', '"B@b"@example.com'),
        ("Postmaster", "postmaster"),
        ("bob@[IPv6:2001:DB8::1]", "bob@[ipv6:2001:db8::1]"),
        ("", ""),
    ],
)
def test_ways_to_write_one_address(one: str, other: str) -> None:
    assert address_key(one) == address_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("\u212aim@x.example", "kim@x.example"),  # KELVIN SIGN
        ("ſam@x.example", "sam@x.example"),
        ("straße@x.example", "strasse@x.example"),
        ("İ@x.example", "i\u0307@x.example"),
        ("É@x.example", "é@x.example"),
        ("ﬁ@x.example", "fi@x.example"),
        ("bob@faß.example", "bob@fass.example"),
        ("bob@💩.example", "bob@xn--ls8h.example"),
        ("bob@a_ü.example", "bob@xn--a_-xka.example"),
        ("bob@" + "ü" * 60 + ".example", "bob@example"),
        ("bob@[192.0.2.1]", "bob@192.0.2.1"),
        ("bob@example.com..", "bob@example.com"),
        ("bob@example.com ", "bob@example.com"),
        ("postmaster.", "postmaster"),
        ("\uff42ob@x.example", "bob@x.example"),
        ("bob\u00ad@x.example", "bob@x.example"),
    ],
)
def test_different_addresses(one: str, other: str) -> None:
    assert address_key(one) != address_key(other)


@given(st.text(max_size=40))
def test_any_text_has_a_key_as_an_address(text: str) -> None:
    key = address_key(text)
    assert address_key(key) == key
    assert address_key(text.swapcase() if text.isascii() else text) == key


@pytest.mark.parametrize(
    ("address", "labels", "ascii_only"),
    [
        ("bob@Example.com", "bob@Example.com", "bob@Example.com"),
        ("Bob@münchen.example", "Bob@xn--mnchen-3ya.example", "Bob@xn--mnchen-3ya.example"),
        ("kunde@faß.example", "kunde@xn--fa-hia.example", "kunde@xn--fa-hia.example"),
        ("bøb@münchen.example", "bøb@xn--mnchen-3ya.example", None),
        ("bøb@example.com", "bøb@example.com", None),
        ("bob@💩.example", "bob@💩.example", None),
        ("bøb", "bøb", None),
        ("bob", "bob", "bob"),
        ("", "", ""),
    ],
)
def test_addresses_for_ascii_only_systems(address: str, labels: str, ascii_only: str | None) -> None:
    assert with_a_labels(address) == labels
    assert in_ascii(address) == ascii_only


def test_authors_are_those_of_all_from_fields() -> None:
    found = authors_of(
        b"From: Ann <ann@a.example>\r\nfrom : b@b.example,\r\n c@A.example\r\nTo: d@d.example\r\n"
    )
    assert found.addresses == (("Ann", "ann@a.example"), ("", "b@b.example"), ("", "c@A.example"))
    assert (found.fields, found.complete) == (2, True)
    assert found.domains == found.possible_domains == ("a.example", "b.example")


@pytest.mark.parametrize(
    ("value", "domains", "possible"),
    [
        (b"=?utf-8?Q?Support@other.example,_John?= <j@b.example>", ["b.example"], ["other.example"]),
        (b"<@relay.example:j@b.example>", ["b.example"], ["relay.example"]),
        (b"j@[192.0.2.1], k@b.example", ["b.example"], []),
        (b'"Joe <j@b.example>', ["b.example"], []),
        (b'j@b.example, "Joe <k@c.example>', ["b.example"], ["c.example"]),
        (b'"x@y.example" <j@b.example>', ["b.example"], []),
        (b"nobody", [], []),
    ],
)
def test_the_author_is_told_from_what_another_reader_may_take_for_one(
    value: bytes, domains: list[str], possible: list[str]
) -> None:
    found = authors_of(b"From: " + value + b"\r\n")
    assert list(found.domains) == domains
    assert list(found.possible_domains) == domains + possible


@pytest.mark.parametrize(
    "field",
    [
        b"From\r\n : c@bank.example\r\n",
        b"From\x0b: c@bank.example\r\n",
        "From\u00a0: c@bank.example\r\n".encode(),
        "\ufefffrom: c@bank.example\r\n".encode(),
    ],
    ids=ascii,
)
def test_a_from_field_that_only_some_readers_find_may_name_an_author(field: bytes) -> None:
    head = b"To: d@d.example\r\n" + field + b"From \t: a@a.example\r\n"
    found = authors_of(head)
    assert found.addresses == (("", "a@a.example"),)
    assert (found.fields, found.complete) == (1, True)
    assert found.possible_domains == ("a.example", "bank.example")


def test_more_authors_than_are_read() -> None:
    short = b"From: " + b"a@b.example, " * 100 + b"\r\n"
    assert authors_of(short).complete
    assert not authors_of(short * 20).complete
    assert not authors_of(b"From: " + b" " * MAX_FROM + b"a@b.example\r\n").complete
    many = b"From: " + b"a@b," * MAX_AUTHORS + b"joe@bank.example\r\n"
    assert len(many) < MAX_FROM
    assert not authors_of(many).complete
    assert not authors_of(b"From: " + b"<a@b>" * MAX_AUTHORS + b"<joe@bank.example>\r\n").complete
    assert authors_of(b"").fields == 0


@pytest.mark.parametrize(
    "value",
    [
        b'""' * 4_000 + b"@b" + b" .x" * 2_600,
        b"a@b" + b" .c" * 5_400,
        b"@:" * 8_000,
        b"@ " * 8_000,
        b'<"' * 8_000 + b"@",
        b"=?u?q?" * 2_700 + b"@",
        b" " * 1_000_000,
        b'"a@b" <c@d ' * 1_400,
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_hostile_authors_take_little_time(value: bytes) -> None:
    started = time.process_time()
    assert authors_of(b"From: " + value + b"\r\n").possible_domains is not None
    # What grows with the square takes minutes; a collection by the interpreter may fall into this.
    assert time.process_time() - started < 1.0
