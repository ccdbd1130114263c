"""Values to compare with: exact ones, globs, and regular expressions of an engine whose time is always
linear.

RE2 matches in time linear in the text, whatever the expression, and therefore has no lookaround and
no backreferences (https://github.com/google/re2/wiki/Syntax). It is imported with the first
`regexp:` or `glob:`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from functions.message.addresses import address_key, with_a_labels
from functions.message.domains import domain_key, fold_ascii

PREFIX: Final = "regexp:"

GLOB: Final = "glob:"

MAX_MEMORY: Final = 4_194_304
"""Most bytes of one compiled expression, its cached states included."""

KEPT: Final = 1_024
"""Most texts of which a set with patterns keeps the answer, because the same recipients get most mail."""

KEPT_LENGTH: Final = 512
"""Most characters of such a text."""

_FASTER_ANYWAY: Final = "omit it: this engine never backtracks"

_INEXPRESSIBLE: Final = (
    (re.compile(r"\(\?[=!]"), "lookahead", "describe the whole text instead"),
    (re.compile(r"\(\?<[=!]"), "lookbehind", "describe the whole text instead"),
    (re.compile(r"\\[1-9k]|\(\?P="), "backreference", "write the repeated part out"),
    (re.compile(r"\(\?>"), "atomic group", _FASTER_ANYWAY),
    (re.compile(r"[*+?}]\+"), "possessive quantifier", _FASTER_ANYWAY),
    (re.compile(r"\(\?\("), "condition", "write the alternatives out"),
    (re.compile(r"\\u"), r"\u", r"write \x{263A} for U+263A"),
    (re.compile(r"\\Z"), r"\Z", "omit it: the expression matches up to the end anyway"),
    (re.compile("repetition size"), "a repetition of this size", "1,000 is the most"),
    (re.compile("too large"), "an expression of this size", "shorten its repetitions"),
)
"""Features that other engines have and RE2 has not: their look in a message, their name, the cure."""


def matcher(expression: str) -> Callable[[str], bool]:
    """A test of whole texts against a regular expression, as if in `^(?:…)$`; case counts unless the
    expression says `(?i)`. Raises ValueError that names the feature that RE2 does not have."""
    import re2

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = MAX_MEMORY
    try:
        # Compiled unchanged, because brackets around it would hide a mistake like `a)|(b`.
        fullmatch = re2.compile(expression, options).fullmatch
    except re2.error as error:
        raise ValueError(f"{_complaint(error, expression)}: {PREFIX}{expression}") from None
    # With bytes the binding need not count characters, which costs more than the match.
    return lambda text: fullmatch(text.encode("utf-8", "surrogatepass")) is not None


def _complaint(error: Exception, expression: str) -> str:
    said = error.args[0] if error.args else ""
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    if text.endswith("(?P") and "(?P=" in expression:
        text += "="
    for looks, name, cure in _INEXPRESSIBLE:
        if looks.search(text):
            return f"{name} is not supported ({cure})"
    if "no argument" in text:
        text += "; write .* for any text"
    return f"not a regular expression ({text})"


_WILD: Final = re.compile(r"[*?]")
_DOTS: Final = re.compile("[.\u3002\uff0e\uff61]")  # RFC 3490 section 3.1: the dots of a name


def is_wild(value: str) -> bool:
    """True if an exact value looks like a glob. An address may have such characters (RFC 5322 atext)."""
    return not value.startswith((PREFIX, GLOB)) and _WILD.search(value) is not None


def is_expression(value: str) -> bool:
    """True if a value that looks like a pattern looks like a regular expression rather than a glob."""
    return ".*" in value or ".+" in value or value.startswith("^") or value.endswith("$")


def as_pattern(value: str) -> str:
    """The pattern that a wild value was probably meant to be."""
    prefix, colon, rest = value.partition(":")
    if colon and prefix.casefold() in {"regexp", "regex", "re", "pattern"}:
        return f"{PREFIX}{rest}"
    if found := re.fullmatch(r"/(.*)/([a-z]*)", value):
        return f"{PREFIX}{'(?i)' if 'i' in found[2] else ''}{found[1]}"
    return f"{PREFIX if is_expression(value) else GLOB}{value}"


def not_an_address(value: str) -> str:
    """What to write in place of an exact value that can be no mail address; "" if it can."""
    if value in ("", "<>") or value.startswith((PREFIX, GLOB)) or value.casefold() == "postmaster":
        return ""
    if found := re.fullmatch(r".*<([^<>\s]+@[^<>\s]+)>", value):
        return found[1]
    name, at, domain = value.rpartition("@")
    if not name and "." in domain:
        return f"{GLOB}*@{domain}"
    return "" if at else "USER@DOMAIN"


def glob_matcher(glob: str) -> Callable[[str], bool]:
    """A test of whole texts against a glob: `*` stands for any characters except `@`, `?` for one.
    Linear in the text, because it runs as a regular expression of RE2."""
    parts = {"*": "[^@]*", "?": "[^@]"}
    return matcher("(?s)" + "".join(parts.get(one) or re.escape(one) for one in glob))


def address_glob(glob: str) -> str:
    """A glob for addresses in the form that `address_key` gives them. Raises ValueError."""
    local, at, domain = glob.rpartition("@")
    return fold_ascii(local) + at + domain_glob(domain) if at else fold_ascii(glob)


def domain_glob(glob: str) -> str:
    """A glob for domains in the form that `domain_key` gives them: each label as an A-label. Raises
    ValueError for a label beyond ASCII that has a wildcard, because its A-label is then unknown."""
    labels = _DOTS.split(glob)
    for label in labels:
        if not label.isascii() and _WILD.search(label):
            raise ValueError(f"{GLOB}{glob}: {label!r} has * or ? beside letters beyond ASCII: write it out")
    return ".".join(fold_ascii(one) if one.isascii() else domain_key(one) for one in labels).removesuffix(".")


class Values:
    """A set of values of the configuration, each exact, `glob:…` or `regexp:…`.

    `canonical` brings an exact value into the compared form, `glob` does so with a glob; both raise
    ValueError for a value that can never match. `met` does so with the compared texts; its default
    is `canonical`.
    """

    __slots__ = ("_exact", "_globs", "_key", "_matched", "_matchers")

    def __init__(
        self,
        values: Iterable[str],
        canonical: Callable[[str], str] = address_key,
        *,
        met: Callable[[str], str] | None = None,
        glob: Callable[[str], str] = address_glob,
    ) -> None:
        exact: set[str] = set()
        globs: list[Callable[[str], bool]] = []
        matchers: list[Callable[[str], bool]] = []
        for value in values:
            if value.startswith(PREFIX):
                matchers.append(matcher(value.removeprefix(PREFIX)))
            elif value.startswith(GLOB):
                globs.append(glob_matcher(glob(value.removeprefix(GLOB))))
            else:
                exact.add(canonical(value))
        self._exact = frozenset(exact)
        self._globs = tuple(globs)
        self._key = met or canonical
        self._matchers = tuple(matchers)
        self._matched = lru_cache(maxsize=KEPT)(self._match)

    def __contains__(self, text: str) -> bool:
        """True if any value matches. Globs see the text as exact values do. Expressions see it
        unchanged; an address whose domain goes beyond ASCII they see with its A-labels as well."""
        if not self._globs and not self._matchers:
            return self._key(text) in self._exact
        return self._matched(text) if len(text) <= KEPT_LENGTH else self._match(text)

    def _match(self, text: str) -> bool:
        key = self._key(text)
        if key in self._exact:
            return True
        for matches in self._globs:
            if matches(key):
                return True
        for matches in self._matchers:
            if matches(text):
                return True
        if text.isascii() or not self._matchers:
            return False
        text = with_a_labels(text)
        return any(matches(text) for matches in self._matchers)


def as_tuple(value: Any) -> Any:
    """One text as a tuple of it; any other value unchanged, for the model to judge."""
    return (value,) if isinstance(value, str) else value
