"""The envelope on top of a stored mail, and fields of its names that the mail brings itself."""

from __future__ import annotations

import itertools
import time
from email import message_from_bytes, policy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.mail import MAX_HEAD, BytesContent, Mail
from functions.processors.raw_headers import counted_block, on_top, raw_fields, without_ours
from tests.support.mails.spooled import envelope_of
from tests.support.mails.stored import split_block

OF_STORAGE = ("RCPT_TO", "MAIL_FROM", "USER", "CLIENT_HOSTNAME", "HELO")
NAMES = ("Return-Path", *(f"X-smtp-relay-{name}" for name in ("ID", "FIELDS", *OF_STORAGE)))
ABOVE = (b"", b"A: 1\r\n", b"A: 1\r\n\tmore\r\n", b"A: 1\n", b"A: 1\r", b"\xdc: 1\r\n", b"A: 1\n\n")


def test_the_block_names_the_envelope_of_this_flow_in_a_fixed_order() -> None:
    envelope = envelope_of(recipients=("a@x.example", "b@x.example"), user="ann", reverse_path="")
    fields, below = split_block(counted_block(Mail(envelope, BytesContent(b"")), "in") + b"A: 1\r\n\r\n")
    assert fields == [
        ("Return-Path", "<>"),
        ("X-smtp-relay-ID", envelope.id),
        ("X-smtp-relay-FIELDS", "9"),
        ("X-smtp-relay-RCPT_TO", "a@x.example"),
        ("X-smtp-relay-RCPT_TO", "b@x.example"),
        ("X-smtp-relay-MAIL_FROM", ""),
        ("X-smtp-relay-USER", "ann"),
        ("X-smtp-relay-CLIENT_HOSTNAME", "client.example.com"),
        ("X-smtp-relay-HELO", "client.example.com"),
    ]
    assert below == b"A: 1\r\n\r\n"


@given(user=st.text(max_size=40), helo=st.text(max_size=40))
def test_no_value_ends_its_line(user: str, helo: str) -> None:
    mail = Mail(envelope_of(user=user, helo=helo), BytesContent(b""))
    block = counted_block(mail, "in")
    fields, below = split_block(block)
    assert below == b""
    assert len(fields) == 8
    assert block.count(b"\n") == block.count(b"\r") == 8
    assert block.endswith(raw_fields(mail, "in"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "field",
    [
        b"NAME: forged\r\n",
        b"NAME:\r\n forged\r\n\tand folded\r\n",
        b"NAME : forged\r\n",
        b"NAME\r\n : forged\r\n",
        b"NAME\n\t: forged\n",
        b"NAME: forged\n more\n",
        b"NAME: forged\r more\r",
        b"\x00NAME: forged\r\n",
        b"\xef\xbb\xbfNAME: forged\r\n",
        b"\xe2\x80\x8bNAME\xc2\xa0: forged\r\n",
        b"NAME\x0b: forged\r\n",
    ],
)
def test_forged_fields_go_and_the_others_stay(field: bytes, name: str) -> None:
    for above, case in itertools.product(ABOVE, (str.lower, str.upper)):
        forged = field.replace(b"NAME", case(name).encode())
        kept = without_ours(above + forged + forged + b"B: 2\r\n")
        assert b"forged" not in kept
        assert kept.startswith(above.rstrip(b"\r\n"))
        assert kept.endswith(b"B: 2\r\n")
        # Nothing joins the fields around it.
        assert kept.count(b"\r\n") >= (b"\r\n" in above) + 1
        if above not in (b"A: 1\n\n", b"\xdc: 1\r\n"):  # there the header ends for Python's parser
            assert message_from_bytes(kept + b"\r\n", policy=policy.compat32)["B"] == "2"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"A: 1\r\n",
        b"X-smtp-relay: 3.0\r\nSubject: X-smtp-relay-USER: a\r\n",
        b"Subject: a\r\n X-smtp-relay-USER: a continuation\r\n",
        b"X-smtp-relay-USERS: a\r\nX-smtp-relay-: b\r\nX-Return-Path: c\r\nReturn-Path-2: d\r\n",
        b"Return-Path\r\nno field\r\n",
    ],
)
def test_other_fields_stay_byte_for_byte(head: bytes) -> None:
    assert without_ours(head) is head


def test_a_field_at_the_end_of_a_mail_without_an_empty_line_goes() -> None:
    assert without_ours(b"A: 1\r\nreturn-path: x") == b"A: 1\r\n"
    assert without_ours(b"return-path: x") == b""


def test_a_field_that_goes_on_below_the_part_read_of_a_header_stays() -> None:
    head = b"A: " + b"x" * (MAX_HEAD - 20) + b"\r\nReturn-Path: abc"
    head = head[:MAX_HEAD].ljust(MAX_HEAD, b"y")
    assert without_ours(head) == head


@pytest.mark.parametrize(
    "head",
    [
        b"a\r\n" * 350_000 + b"Return-Path: x\r\n",
        b"Return-Path:\r\n" * 75_000,
        b"A: 1\r\nReturn-Path" + b" " * 1_000_000,
        b"A: 1\r\nReturn-Path" + b"\r\n " * 350_000,
        b"\n" * 1_000_000 + b"return-path:",
        (b"\n" + b"\x00" * 1_000) * 1_000 + b"return-path:",
        b"\nreturn-path\n \n " * 60_000,
    ],
    ids=["lines", "fields", "blanks", "folds", "empty lines", "controls", "names"],
)
def test_a_hostile_header_costs_linear_time(head: bytes) -> None:
    started = time.process_time()
    without_ours(head)
    # A megabyte takes about 0.1 s; the square of that, hours.
    assert time.process_time() - started < 2


@pytest.mark.parametrize("block", [b"", b"A: 1\r\n"])
@pytest.mark.parametrize(
    ("content", "headed"),
    [(b"B: 2\r\n\r\nbody", True), (b"\r\nbody", True), (b"body without a header", False), (b"", False)],
)
def test_an_empty_line_ends_the_fields_above_a_mail_without_a_header(
    block: bytes, content: bytes, headed: bool
) -> None:
    notes = {"in": {"headers": [("C", "3")]}}
    for own, fields in (({}, b""), ({"notes": notes}, b"C: 3\r\n")):
        mail = Mail(envelope_of(content, **own), BytesContent(content))
        ended = b"" if headed or not block + fields else b"\r\n"
        assert on_top(mail, "in", block) == block + fields + ended
