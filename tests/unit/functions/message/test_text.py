"""A stranger's text, made harmless in three ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.text import UNFIT_FOR_FIELD, escaped, one_line, printable

TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
"""Unicode's Bidi_Control characters."""

ENDS = "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"
"""The line ends of `str.splitlines`."""

DANGEROUS = [
    *TURNING,
    *ENDS,
    "\0",
    "\t",
    "\x1b",
    "\x7f",
    "\x80",
    "\x9b",
    "\x9f",
    "\u200b",
    "\ufeff",
    "\ud800",
]


@pytest.mark.parametrize("made", [printable, one_line, escaped])
@pytest.mark.parametrize("character", DANGEROUS, ids=ascii)
def test_what_turns_ends_or_steers_text_is_gone(made, character: str) -> None:
    assert character not in made(f"a{character}b")


@given(st.text(st.characters()))
def test_a_terminal_and_a_log_get_one_line_of_what_they_can_show(text: str) -> None:
    for made in (one_line(text), escaped(text)):
        assert made.isprintable()
        assert len(made.splitlines()) <= 1
    assert one_line(text) == one_line(text).strip()


@given(st.text(st.characters()))
def test_a_value_that_travels_on_can_end_no_field(text: str) -> None:
    assert not UNFIT_FOR_FIELD.search(printable(text))
    assert printable(text).encode().decode() == printable(text)


@given(st.text(st.characters(exclude_categories=["C", "Z"])))
def test_words_stay_as_they_are(text: str) -> None:
    assert printable(text) == one_line(text) == escaped(text) == text


def test_each_has_its_own_way() -> None:
    text = " a\x1b[31m\r\nb\u202e "
    assert printable(text) == " a[31mb "
    assert one_line(text) == "a [31m  b"
    assert escaped(text) == r" a\x1b[31m\r\nb\u202e "


def test_names_keep_the_blanks_and_joiners_of_their_script() -> None:
    name = "年次\u3000報告 10\u202f30 \u200d\u200c.pdf"
    assert printable(name) == name
    assert one_line(name) == "年次 報告 10 30   .pdf"


@pytest.mark.parametrize(
    ("value", "fits"), [("a\tb", True), ("\u202eא", True), ("a\nb", False), ("\x85", False)]
)
def test_a_field_takes_tabs_and_any_direction_of_writing(value: str, fits: bool) -> None:
    assert (UNFIT_FOR_FIELD.search(value) is None) is fits
