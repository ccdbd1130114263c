"""Forged Authentication-Results (RFC 8601 section 5) and Received-SPF are distinguished from other
servers' fields."""

from __future__ import annotations

import time
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.mailauth import authres, forgery
from listener.mailauth.results import SpfResult

US: Final = "mx.receiver.example"

SPF: Final = SpfResult(
    "pass", domain="example.com", sender="ann@example.com", helo="mx.example.com", ip="192.0.2.1"
)


@pytest.mark.parametrize(
    "value",
    [
        b"mx.receiver.example; spf=pass",
        b"MX.Receiver.Example; spf=pass",
        b"mx.receiver.example. ; spf=pass",
        b"mx.receiver.example 1; spf=pass",
        b"mx.receiver.example/1; spf=pass",
        b"mx.receiver.example",
        b"mx.receiver.example(comment); none",
        b'"mx.receiver.example"; spf=pass',
        b'"mx.rec\\eiver.example"; spf=pass',
        b"(a (nested) \\) comment) mx.receiver.example; spf=pass",
        b"\t mx.receiver.example; spf=pass",
        b"(never closed mx.receiver.example; spf=pass",
        b'"mx.receiver.example; spf=pass',
        b"; mx.receiver.example; spf=pass",
        b"@mx.receiver.example; spf=pass",
    ],
)
def test_forged(value: bytes) -> None:
    assert forgery.forged(US)(value)


UNPARSABLE: Final = [
    "\u00a0mx.receiver.example; dmarc=pass".encode(),  # no-break space
    "\u2003mx.receiver.example; dmarc=pass".encode(),  # em space
    "\u3000mx.receiver.example; dmarc=pass".encode(),  # ideographic space
    "\ufeffmx.receiver.example; dmarc=pass".encode(),  # byte order mark
    "\u200bmx.receiver.example; dmarc=pass".encode(),  # zero-width space
    "mx.receiver\u00ad.example; dmarc=pass".encode(),  # soft hyphen
    "mx.receiver.example\u00a0; dmarc=pass".encode(),
    "mx.receiver\u2028.example; dmarc=pass".encode(),
    b"\xa0mx.receiver.example; dmarc=pass",  # no-break space of ISO 8859-1
    b"\x85mx.receiver.example; dmarc=pass",
    "mx.re\u200bceiver.example; ".encode() + b"\xff",  # UTF-8 in one place and not in another
    b"\x0bmx.receiver.example; dmarc=pass",
    b"\x0cmx.receiver.example; dmarc=pass",
    b"\x00mx.receiver.example; dmarc=pass",
    b"mx.\x00receiver.example; dmarc=pass",
    b"mx.receiver.example\x7f; dmarc=pass",
    b"mx.rec eiver.example; dmarc=pass",  # as a fold leaves it
    b"mx . receiver . example; dmarc=pass",
    "\uff4d\uff58.receiver.example; dmarc=pass".encode(),  # full width
    "mx\u3002receiver\uff0eexample; dmarc=pass".encode(),  # other full stops
    b"=?utf-8?q?mx.receiver.example?=; dmarc=pass",
    b"=?UTF-8?B?bXgucmVjZWl2ZXIuZXhhbXBsZQ==?=; dmarc=pass",
    b"=?utf-8?q?mx.rec?= =?utf-8?q?eiver.example?=; dmarc=pass",
    b"mx.=?iso-8859-1*en?q?receiver?=.example; dmarc=pass",
    b"=?utf-16be?b?AG0AeAAuAHIAZQBjAGUAaQB2AGUAcgAuAGUAeABhAG0AcABsAGU=?=; dmarc=pass",
    b"mx.(comment)receiver.example; dmarc=pass",
    b"mx.(a (nested) one)receiver.(another)example; dmarc=pass",
    b"mx.(ends here \\)receiver.example; dmarc=pass",
    b"(\\) mx.receiver.example; dmarc=pass; (\\))) other.example; spf=pass",
    b'" mx.receiver.example"; dmarc=pass',
    b'"mx.receiver.example "; dmarc=pass',
    b'"mx.receiver"".example"; dmarc=pass',
    b'mx."receiver".example; dmarc=pass',
    b"<mx.receiver.example>; dmarc=pass",
    b"mx.receiver.example: dmarc=pass",
    b"mx.receiver.example, dmarc=pass",
    b"mx.receiver.example v1; dmarc=pass",
    b"mx.receiver.example/1; dmarc=pass",
    b"authserv-id=mx.receiver.example; dmarc=pass",
    b"other.example mx.receiver.example; dmarc=pass",
    b"i=1; mx.receiver.example; dmarc=pass",
    b"other.example; mx.receiver.example; dmarc=pass",
    b"other.example; spf=pass\x0bmx.receiver.example; dmarc=pass",
    b"other.example; spf=pass (\\) mx.receiver.example; dmarc=pass (\\))",
    b"(" + b"x" * 100_000 + b"mx.receiver.example; dmarc=pass",
]


@pytest.mark.parametrize("value", UNPARSABLE, ids=lambda value: ascii(value)[:40])
def test_what_cannot_be_parsed_is_ours_where_our_name_is_anywhere_in_it(value: bytes) -> None:
    assert forgery.forged(US)(value)
    assert forgery.forged(US)(value.replace(b"mx.", b"MX.").replace(b"exam", b"eXam"))


@pytest.mark.parametrize("value", UNPARSABLE[:-1], ids=lambda value: ascii(value)[:40])
def test_what_cannot_be_parsed_stays_where_another_name_is_in_it(value: bytes) -> None:
    assert not forgery.forged("mx.elsewhere.example")(value)


@pytest.mark.parametrize(
    "value",
    [
        "mx.m\u00fcnchen.example; dmarc=pass".encode(),
        "MX.M\u00dcNCHEN.example; dmarc=pass".encode(),
        "mx.mu\u0308nchen.example; dmarc=pass".encode(),  # decomposed
        "mx.m\u00fcnchen.example; dmarc=pass".encode("iso-8859-1"),
        b"mx.=?utf-8?q?m=C3=BCnchen?=.example; dmarc=pass",
        b"MX.XN--MNCHEN-3YA.Example; dmarc=pass",
        b'"mx.xn--mnchen-3ya.example." 1; dmarc=pass',
        "mx\u3002\uff58n--mnchen-3ya.example; dmarc=pass".encode(),
    ],
    ids=ascii,
)
def test_our_name_is_found_in_both_of_its_forms(value: bytes) -> None:
    assert forgery.forged("mx.xn--mnchen-3ya.example")(value)


def test_our_name_may_have_several_labels_beyond_ascii() -> None:
    test = forgery.forged("xn--bcher-kva.xn--mnchen-3ya.example")
    for value in ("b\u00fccher.m\u00fcnchen.example", "b\u00fccher.xn--mnchen-3ya.example"):
        assert test(f"{value}; dmarc=pass".encode())
    assert not test("b\u00fccher.example; dmarc=pass".encode())


@pytest.mark.parametrize(
    "value",
    [
        "pass receiver=\u00a0mx.receiver.example".encode(),
        "pass (mx.receiver\u200b.example: fine)".encode(),
        b"pass receiver=mx.rec(c)eiver.example",
        b"pass receiver=(c)mx.receiver.example",
        b'pass receiver="mx.rec\\eiver.example"',
        b'pass receiver=" mx.receiver.example"',
        b"=?utf-8?q?pass_receiver=3Dmx.receiver.example?=",
        b"pass\x00 receiver=mx.receiver.example",
    ],
    ids=ascii,
)
def test_received_spf_that_cannot_be_parsed_counts_as_forged_with_the_relays_name_in_it(value: bytes) -> None:
    assert forgery.forged_spf(US)(value)
    assert not forgery.forged_spf("mx.elsewhere.example")(value)


@pytest.mark.parametrize(
    "value",
    [
        b"pass (google.com: domain of ann@b.example designates 192.0.2.1 as permitted sender) "
        b"client-ip=192.0.2.1;",
        b"Pass (protection.b.example: domain of b.example designates 192.0.2.1 as permitted sender) "
        b"receiver=protection.b.example; client-ip=192.0.2.1; helo=mx.receiver.example; pr=C",
        b"none (mx.b.example: mx.receiver.example does not say) envelope-from=<ann@b.example>; "
        b'helo="mx.receiver.example"',
    ],
    ids=ascii,
)
def test_received_spf_of_others_stays(value: bytes) -> None:
    assert not forgery.forged_spf(US)(value)


@pytest.mark.parametrize(
    "value",
    [
        b"\xff" * 1_000_000,
        "\u0300\u0323".encode() * 4_000,  # marks that need reordering
        "\u00e9".encode() * 8_000,
        "\ufdfa".encode() * 5_000,  # one character that equals eighteen
        b"(" * 1_000_000,
        b"(\\" * 8_000,
        b"=?utf-8?q?" * 1_600,
        b"=?utf-8?q?a?=" * 1_200 + b"\xff",
        b"x " * 8_000,
        b'"' * 16_000,
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_hostile_values_take_little_time(value: bytes) -> None:
    test, test_spf = forgery.forged(US), forgery.forged_spf(US)
    started = time.process_time()
    test(value)
    test_spf(value)
    assert time.process_time() - started < 0.1


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"other.example; spf=pass",
        b"other.example; spf=pass (mx.receiver.example)",
        b"other.example; spf=pass smtp.helo=mx.receiver.example",
        b"mx.receiver.example.evil.example; spf=pass",
        b"notmx.receiver.example; spf=pass",
        b"(mx.receiver.example) other.example; spf=pass",
        b"receiver.example; none",
        b"\xff\xfe; none",
        b"other.example 1; spf=pass smtp.helo=mx.receiver.example",
        b'"other.example"; dkim=pass header.d=mx.receiver.example',
        b"(c) other.example (c) 1 (c); dkim=pass header.d=mx.receiver.example",
        b"mx.google.example; dkim=pass header.i=@b.example header.s=s header.b=Ab+/c=; arc=pass (i=1 "
        b"spf=pass spfdomain=b.example dkim=pass); spf=pass (google.example: domain of ann@b.example "
        b"designates 192.0.2.1 as permitted sender) smtp.mailfrom=ann@b.example "
        b"smtp.helo=mx.receiver.example; "
        b'dmarc=pass (p=REJECT sp=REJECT dis=NONE) header.from=b.example x="mx.receiver.example";',
        b"spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=b.example; dkim=pass (signature was verified) "
        b"header.d=b.example;dmarc=pass action=none header.from=b.example;compauth=pass reason=100",
        b"other.example; None",
        b"other.example 1; auth=pass smtp.auth=ann; x-ptr/2=pass y.helo=mx.receiver.example;",
        "\u00a0other.example; none".encode(),
        b"=?utf-8?q?other.example?=; none",
    ],
)
def test_not_forged(value: bytes) -> None:
    assert not forgery.forged(US)(value)


def test_forged_received_spf() -> None:
    test = forgery.forged_spf(US)
    ours = authres.received_spf(SPF, US).replace("\r\n\t", " ").encode()
    assert test(ours)
    assert test(b'pass client-ip=1.2.3.4; receiver = "MX.receiver.example"')
    assert test(b"pass (mx.receiver.example: fine)")
    assert not test(ours.replace(US.encode(), b"other.example"))
    assert not test(b"pass (other: fine) helo=mx.receiver.example; receiver=mx.receiver.example.evil.example")


@given(st.binary(max_size=200))
def test_tests_never_raise(value: bytes) -> None:
    assert forgery.forged(US)(value) in (True, False)
    assert forgery.forged_spf(US)(value) in (True, False)
    assert forgery.forged(US)(b"mx.receiver.example;" + value)
