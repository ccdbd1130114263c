"""Exact values and regular expressions of the configuration."""

from __future__ import annotations

import re
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.domains import domain_key
from listener.filters.pattern import KEPT, KEPT_LENGTH, Values, as_tuple, domain_glob, glob_matcher, matcher


@pytest.mark.parametrize(
    ("expression", "text", "matches"),
    [
        (".*@mydomain.com", "bob@mydomain.com", True),
        (".*@mydomain.com", "bob@mydomain.com.evil.example", False),
        ("bob@mydomain.com", "notbob@mydomain.com", False),
        ("^.*@c\\.example$", "x@c.example", True),
        ("a|ab", "ab", True),
        ("a$|b", "ab", False),
        ("a$", "a\n", False),
        ("(?m)a$", "a\nb", False),
        ("Bob@c\\.example", "bob@c.example", False),
        ("(?i)Bob@c\\.example", "bob@C.EXAMPLE", True),
        ("b.b@c", "böb@c", True),
        ("", "", True),
        ("", "x", False),
        (".*", "\udc80", True),
    ],
)
def test_whole_texts_are_matched_as_they_are(expression: str, text: str, matches: bool) -> None:
    assert matcher(expression)(text) is matches


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("(?=a)b", "lookahead is not supported"),
        ("(?!.*evil).*", "lookahead is not supported"),
        ("(?<=a)b", "lookbehind is not supported"),
        ("(?<!a)b", "lookbehind is not supported"),
        ("(a)\\1", "backreference is not supported"),
        ("(?P<n>a)(?P=n)", "backreference is not supported"),
        ("(?<n>a)\\k<n>", "backreference is not supported"),
        ("(?>a)", "atomic group is not supported"),
        ("a++", "possessive quantifier is not supported"),
        ("(a)?(?(1)a|b)", "condition is not supported"),
        ("\\u1234", r"write \x{263A}"),
        ("a\\Z", r"\Z is not supported"),
        ("(\\pL{500}){2}", "an expression of this size is not supported"),
        ("a{1001}", "a repetition of this size is not supported (1,000 is the most)"),
        ("[", "not a regular expression (missing ]: [)"),
        ("a)|(b", "not a regular expression (unexpected ): a)|(b)"),
        ("*", "not a regular expression (no argument for repetition operator"),
    ],
)
def test_what_cannot_be_expressed_is_named(expression: str, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)) as caught:
        matcher(expression)
    assert str(caught.value).endswith(f": regexp:{expression}")


def test_nothing_makes_an_expression_slow() -> None:
    evil = matcher("(a*)*b|(a|aa)+c|(.*a){20}d")
    began = time.process_time()
    assert not evil("a" * 4000)
    assert time.process_time() - began < 1


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")))
def test_exact_values_match_themselves_whatever_the_case_of_their_ascii_letters(
    value: str, other: str
) -> None:
    values = Values((value,)) if not value.startswith("regexp:") else Values(())
    if not value.startswith("regexp:"):
        assert value in values
        assert "".join(c.swapcase() if c.isascii() else c for c in value) in values
        if "@" not in value + other:
            assert (other in values) == (folded(other) == folded(value))


def folded(text: str) -> str:
    return "".join(c.lower() if c.isascii() else c for c in text)


def test_any_value_will_do() -> None:
    values = Values(("One@a.example", "regexp:.*@b\\.example", "regexp:x{3}"))
    assert "one@A.example" in values
    assert "two@b.example" in values
    assert "xxx" in values
    assert "two@a.example" not in values
    assert "x" not in Values(())


@pytest.mark.parametrize(("given", "tuple_"), [("a", ("a",)), (["a"], ["a"]), (("a",), ("a",)), (3, 3)])
def test_one_text_stands_for_a_list_of_it(given: object, tuple_: object) -> None:
    assert as_tuple(given) == tuple_


# -- globs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "text", "matches"),
    [
        ("*@example.com", "bob@example.com", True),
        ("*@example.com", "Bob@EXAMPLE.com", True),
        ("*@EXAMPLE.com.", "bob@example.com", True),
        ("*@example.com", "bob@example.com.", True),
        ("*@example.com", "@example.com", True),
        ("*@example.com", "bob@sub.example.com", False),
        ("*@example.com", "bob@example.com.evil.test", False),
        ("*@example.com", "bob@exampleXcom", False),
        ("*@example.com", '"a@b"@example.com', False),
        ("*@*.example.com", "bob@a.b.example.com", True),
        ("*@*.example.com", "bob@example.com", False),
        ("b?b@example.com", "bob@example.com", True),
        ("b?b@example.com", "böb@example.com", True),
        ("b?b@example.com", "bb@example.com", False),
        ("b?b@example.com", "boob@example.com", False),
        ("bob?example.com", "bob@example.com", False),
        ("*", "bob@example.com", False),
        ("*", "", True),
        ("*@*", "bob@example.com", True),
        ("*@*", "", False),
        ("bob+*@example.com", "BOB+x.y@example.com", True),
        ("bob+*@example.com", "bobb@example.com", False),
        ("[b]ob@example.com", "bob@example.com", False),
        ("b\\*@example.com", "b\\x@example.com", True),
        ("*@münchen.example", "bob@xn--mnchen-3ya.example", True),
        ("*@xn--mnchen-3ya.example", "bob@MÜNCHEN.example", True),
        ("*@*.münchen。example", "bob@mail.münchen.example", True),
        ("*@fass.example", "bob@faß.example", False),
        ("*@💩.example", "bob@💩.example", True),
        ("k*@example.com", "\u212aim@example.com", False),
        ("*", "\udc80\n", True),
    ],
)
def test_globs_see_what_exact_values_see(glob: str, text: str, matches: bool) -> None:
    assert (text in Values((f"glob:{glob}",))) is matches


@pytest.mark.parametrize(
    ("glob", "name", "matches"),
    [
        ("*.example.com", "MX.example.com", True),
        ("*.example.com", "example.com", False),
        ("mx?.münchen.example", "mx1.xn--mnchen-3ya.example", True),
        ("*", "[192.0.2.1]", True),
        ("*.", "a.", True),
    ],
)
def test_globs_of_domains_are_compared_by_a_labels(glob: str, name: str, matches: bool) -> None:
    assert (name in Values((f"glob:{glob}",), domain_key, glob=domain_glob)) is matches


@pytest.mark.parametrize("glob", ["*@mün*.example", "*@m?ü.example"])
def test_a_label_beyond_ascii_has_to_be_written_out(glob: str) -> None:
    with pytest.raises(ValueError, match="write it out"):
        Values((f"glob:{glob}",))


def by_hand(glob: str, text: str) -> bool:
    """A glob as its description says, letter by letter."""
    if not glob:
        return not text
    if glob[0] == "*":
        return by_hand(glob[1:], text) or (text[:1] not in ("", "@") and by_hand(glob, text[1:]))
    return (
        bool(text)
        and (text[0] == glob[0] or (glob[0] == "?" and text[0] != "@"))
        and by_hand(glob[1:], text[1:])
    )


@given(glob=st.text("ab@*?.\\[", max_size=7), text=st.text("ab@.*\\[\n", max_size=7))
def test_a_glob_matches_as_its_description_says(glob: str, text: str) -> None:
    assert glob_matcher(glob)(text) is by_hand(glob, text)


def test_nothing_makes_a_glob_slow() -> None:
    evil = Values(("glob:" + "*a" * 60 + "b@example.com",))
    began = time.process_time()
    for _ in range(50):
        assert "a" * 5_000 + "@example.com" not in evil
    assert time.process_time() - began < 2


@given(st.lists(st.sampled_from(["bob@a.example", "BOB@A.example", "x@b.example", "é@é.example", "", "bob"])))
def test_a_text_has_the_same_answer_however_often_it_is_asked_about(texts: list[str]) -> None:
    values = Values(("regexp:bob@.*", "glob:*@xn--9ca.example"))
    assert [text in values for text in texts] == [
        text in Values(("regexp:bob@.*", "glob:*@xn--9ca.example")) for text in texts
    ]


@pytest.mark.parametrize("length", [20, KEPT_LENGTH, 5_000])
def test_answers_about_strangers_texts_take_little_memory(length: int) -> None:
    values = Values(("regexp:.*@a\\.example",))
    texts = [f"{number:x<{length}}" for number in range(3 * KEPT)]
    assert not any(text in values for text in texts)
    tracemalloc.start()
    try:
        assert not any(f"{number:y<{length}}" in values for number in range(3 * KEPT))
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < KEPT * (KEPT_LENGTH + 300)
