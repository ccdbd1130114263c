"""Domain names: one form for all ways to write one, and none that two domains share."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.domains import MAX_NAME, ascii_form, domain_key, fold_ascii


@pytest.mark.parametrize(
    ("domain", "form"),
    [
        ("example.com", "example.com"),
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("münchen.example", "xn--mnchen-3ya.example"),
        ("MÜNCHEN.Example", "xn--mnchen-3ya.example"),
        ("mu\u0308nchen.example", "xn--mnchen-3ya.example"),
        ("XN--Mnchen-3YA.example", "xn--mnchen-3ya.example"),
        ("münchen\u3002example\uff0e", "xn--mnchen-3ya.example"),
        ("\uff58n--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("faß.example", "xn--fa-hia.example"),  # IDNA 2003 made fass.example of it
        ("FAẞ.example", "xn--fa-hia.example"),
        ("fass.example", "fass.example"),
        ("βόλος.example", "xn--nxasmm1c.example"),  # a final sigma stays unchanged
        ("ΒΌΛΟΣ.example", "xn--nxasmq6b.example"),
        ("نامه\u200cای.example", "xn--mgba3gch31f060k.example"),  # a joiner that counts
        ("\u212a.example", "k.example"),  # KELVIN SIGN
        ("exam\u00adple.com", "example.com"),  # SOFT HYPHEN
        ("_dmarc.münchen.example", "_dmarc.xn--mnchen-3ya.example"),
        ("a_b.example", "a_b.example"),
        ("localhost", "localhost"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_one_form_for_all_ways_to_write_a_name(domain: str, form: str) -> None:
    assert ascii_form(domain) == form
    assert domain_key(domain) == form


NONE = [
    "",
    ".",
    "..",
    "example.com..",
    ".example.com",
    "a..b",
    "-a.example",
    "a-.example",
    "a" * 64 + ".example",
    "ü" * 60 + ".example",
    ".".join(["a" * 60] * 5),
    "ü." * 300,
    "💩.example",
    "a_ü.example",
    "a b.example",
    " example.com",
    "exa mple.com",
    "[192.0.2.1]",
    "[IPv6:2001:DB8::1]",
    "[\uff11\uff19\uff12.0.2.1]",
    "a\x00.example",
    "ab--ü.example",
    "\u200dü.example",
    "\u0308a.example",
    "א1a.example",
    "\ue000.example",
    "\ud800.example",
    "a@b.example",
    "münchen\u00a0.example",
]


@pytest.mark.parametrize("domain", NONE, ids=lambda value: ascii(value)[:40])
def test_what_is_no_domain_is_equal_to_itself_alone(domain: str) -> None:
    assert ascii_form(domain) is None
    assert domain_key(domain) == fold_ascii(domain) == domain_key(fold_ascii(domain))
    assert domain_key(domain.upper() if domain.isascii() else domain) == domain_key(domain)
    assert ascii_form(domain_key(domain)) is None


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_has_a_key_and_a_form_is_its_own_key(one: str, other: str) -> None:
    form = ascii_form(one)
    key = domain_key(one)
    assert key == (fold_ascii(one) if form is None else form)
    if form is not None:
        assert form.isascii()
        assert len(form) <= MAX_NAME
        assert ascii_form(form) == domain_key(form) == form
        assert ascii_form(form + ".") == form
    if ascii_form(other) is None and form is not None:
        assert domain_key(other) != key, "what is no domain is never taken for one"


@given(st.text(st.characters(codec="utf-8"), max_size=12))
def test_only_ascii_letters_are_folded(text: str) -> None:
    folded = fold_ascii(text)
    assert len(folded) == len(text)
    for before, after in zip(text, folded, strict=True):
        assert after == (before.lower() if before.isascii() else before)


@pytest.mark.parametrize(
    "domain",
    [
        "ü" * 500,
        "\u0300\u0323" * 250,
        "a." * 250,
        "\u200d" * 500,
        "xn--" * 120,
        "١" * 500,
        "ü." * 250,
        "ü" * 10**6,
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_hostile_names_take_little_time(domain: str) -> None:
    started = time.process_time()
    domain_key(domain)
    assert time.process_time() - started < 0.1
