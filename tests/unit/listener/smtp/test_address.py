"""Paths and parameters of MAIL and RCPT (RFC 5321 section 4.1.2)."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.smtp.address import BadPath, Path, parse_path, read_path


@pytest.mark.parametrize(
    ("argument", "address", "parameters"),
    [
        ("<a@b.example>", "a@b.example", ()),
        ("<>", "", ()),
        (" <a@b.example>", "a@b.example", ()),
        ("a@b.example", "a@b.example", ()),
        ("<postmaster>", "postmaster", ()),
        ('<"a b"@x.example>', '"a b"@x.example', ()),
        ('<"a\\"b"@x.example>', '"a\\"b"@x.example', ()),
        ("<@one,@two:user@three>", "user@three", ()),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]", ()),
        ("<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]", ()),
        ("<é@exämple.org> SMTPUTF8", "é@exämple.org", (("SMTPUTF8", None),)),
        ("<> size=10 BODY=8BITMIME", "", (("SIZE", "10"), ("BODY", "8BITMIME"))),
    ],
)
def test_accepted(argument: str, address: str, parameters: tuple[object, ...]) -> None:
    assert parse_path(argument) == (address, parameters)


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "<a@b",
        "<a@b>x",
        "<a b@c>",
        "<a\x00@b>",
        "<a@b\r>",
        "<a@@b>",
        "<a@b> =x",
        "<a@b> a\x01=1",
        "<" + "a" * 600 + "@b>",
        "<a@" + "b" * 300 + ">",
    ],
)
def test_refused(argument: str) -> None:
    with pytest.raises(BadPath):
        parse_path(argument)


@given(st.text(max_size=80))
def test_no_control_character_ever_comes_through(text: str) -> None:
    try:
        found = parse_path(text)
    except BadPath:
        return
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in found.address)
    assert "<" not in found.address or found.address.startswith('"')


def test_hostile_arguments_are_settled_at_once() -> None:
    started = time.perf_counter()
    for argument in (
        "<" + "@a," * 1300 + "x",
        "<" + "a" * 2000 + " " * 2000,
        '<"' + "\\a" * 1900,
        "<" * 4000,
    ):
        with pytest.raises(BadPath):
            parse_path(argument)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "argument",
    [
        "<a@b> SIZE=10" + " " * 4000 + "BODY=7BIT",
        "<a@b> SIZE=10" + " \t" * 2000 + "\x01",
        "<a@b> x" + " " * 4000,
        " " * 4000 + "<a@b>",
    ],
)
def test_blanks_cost_no_more_than_their_number(argument: str) -> None:
    def seconds(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            with contextlib.suppress(BadPath):
                parse_path(argument)
        return (time.perf_counter() - started) / times

    assert min(seconds(5) for _ in range(5)) < 0.005


@pytest.mark.parametrize("padding", [0, 300])  # a long argument is not remembered
def test_an_argument_is_read_the_same_each_time(padding: int) -> None:
    blanks = " " * padding
    for _ in range(2):
        assert read_path("FROM", f"FROM:<a@b>{blanks} SIZE=1") == Path("a@b", (("SIZE", "1"),))
        assert read_path("FROM", f" from :<a@b>{blanks}") == Path("a@b", ())
        assert read_path("TO", f"FROM:<a@b>{blanks}") is None
        assert read_path("TO", f"<a@b>{blanks}") is None
        for argument, parameter in ((f"FROM:<a b>{blanks}", ""), (f"FROM:<a@b>{blanks} =", "=")):
            with pytest.raises(BadPath) as bad:
                read_path("FROM", argument)
            assert bad.value.parameter == parameter
