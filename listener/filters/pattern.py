"""Values to compare with: exact ones, and regular expressions of an engine that cannot be made slow.

RE2 matches in time linear in the text, whatever the expression, and so has no lookaround and no
backreferences (https://github.com/google/re2/wiki/Syntax). It is imported when the first `regexp:`
is met.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from functions.message.addresses import address_key, with_a_labels

PREFIX: Final = "regexp:"

MAX_MEMORY: Final = 4_194_304
"""Octets that one compiled expression may take, its cached states included."""

_FASTER_ANYWAY: Final = "leave it out: nothing is ever tried twice here"

_INEXPRESSIBLE: Final = (
    (re.compile(r"\(\?[=!]"), "lookahead", "say what the whole text looks like instead"),
    (re.compile(r"\(\?<[=!]"), "lookbehind", "say what the whole text looks like instead"),
    (re.compile(r"\\[1-9k]|\(\?P="), "backreference", "spell out what may be repeated"),
    (re.compile(r"\(\?>"), "atomic group", _FASTER_ANYWAY),
    (re.compile(r"[*+?}]\+"), "possessive quantifier", _FASTER_ANYWAY),
    (re.compile(r"\(\?\("), "condition", "write the alternatives out"),
    (re.compile(r"\\u"), r"\u", r"write \x{263A} for U+263A"),
    (re.compile(r"\\Z"), r"\Z", "leave it out: the end is meant anyway"),
    (re.compile("repetition size"), "a repetition of this size", "1,000 is the most"),
    (re.compile("too large"), "an expression of this size", "shorten its repetitions"),
)
"""What other engines have and RE2 has not: how it looks in a complaint, its name, the cure."""


def matcher(expression: str) -> Callable[[str], bool]:
    """A test of whole texts against a regular expression, as if in `^(?:…)$`; case counts unless
    the expression says `(?i)`. Raises ValueError that names what RE2 cannot express."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = MAX_MEMORY
    try:
        # Compiled as it stands, since `a)|(b` is a mistake that brackets around it would hide.
        fullmatch = re2.compile(expression, options).fullmatch
    except re2.error as error:
        raise ValueError(f"{_complaint(error, expression)}: {PREFIX}{expression}") from None
    # Octets spare the binding its counting of characters, which costs more than the match.
    return lambda text: fullmatch(text.encode("utf-8", "surrogatepass")) is not None


def _complaint(error: Exception, expression: str) -> str:
    said = error.args[0] if error.args else ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    if text.endswith("(?P") and "(?P=" in expression:
        text += "="
    for looks, name, cure in _INEXPRESSIBLE:
        if looks.search(text):
            return f"{name} is not supported ({cure})"
    return f"not a regular expression ({text})"


class Values:
    """A set of values of the configuration, each exact or `regexp:…`.

    `canonical` brings an exact value into the form that it is compared in; it raises ValueError
    for one that could never be met. Of a text in ASCII that is its lower case, a final dot aside.
    """

    __slots__ = ("_canonical", "_exact", "_matchers")

    def __init__(self, values: Iterable[str], canonical: Callable[[str], str] = address_key) -> None:
        exact: set[str] = set()
        matchers: list[Callable[[str], bool]] = []
        for value in values:
            if value.startswith(PREFIX):
                matchers.append(matcher(value.removeprefix(PREFIX)))
            else:
                exact.add(canonical(value))
        self._exact = frozenset(exact)
        self._canonical = canonical
        self._matchers = tuple(matchers)

    def __contains__(self, text: str) -> bool:
        """Whether any value matches. Expressions see the text as it is; an address whose domain goes
        beyond ASCII they see with its A-labels as well."""
        plain = text.isascii()
        if (text.lower() if plain and text[-1:] != "." else self._canonical(text)) in self._exact:
            return True
        for matches in self._matchers:  # not any(): a generator costs more than the rest
            if matches(text):
                return True
        if plain or not self._matchers:
            return False
        text = with_a_labels(text)
        return any(matches(text) for matches in self._matchers)


def as_tuple(value: Any) -> Any:
    """One text as a tuple of it; anything else as it is, for the model to judge."""
    return (value,) if isinstance(value, str) else value
