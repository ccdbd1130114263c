"""Detects fields of a mail that pose as the relay's own: Authentication-Results (RFC 8601 section 5)
and Received-SPF.

A field that can be parsed names its writer. One that cannot be parsed counts as posing if the
relay's name is anywhere in it, in any form, because programs that read it later may be more
lenient.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final

from functions.message.charset import decode_words
from functions.message.domains import domain_key

MAX_VALUE: Final = 16_384
"""Most bytes of a value that are searched for the relay's name. A longer value that cannot be parsed
counts as posing, because no server writes one so long."""

Test = Callable[[bytes], bool]
"""True if an unfolded value is forged."""

# RFC 8601 section 2.2 with RFC 5322 section 3.2.2, for printable ASCII alone. Comments with quoted
# pairs or nested comments are excluded, because readers differ about their end. Values that other
# servers leave unquoted are accepted.
_CFWS: Final = rb"(?:[ \t]|\([ \t!-'*-\[\]-~]*+\))*+"
_TOKEN: Final = rb"[!#-'*+.0-9A-Z^_`a-z{|}~-]++"
_PAIR: Final = (
    rb"[A-Za-z][0-9A-Za-z._/-]*+[ \t]*+=[ \t]*+(?:[!#-'*-:<-\[\]-~]++|\"[ !#-\[\]-~]*+\")++" + _CFWS
)
_RESULT: Final = rb";" + _CFWS + rb"(?:(?:" + _PAIR + rb")++|[Nn][Oo][Nn][Ee]" + _CFWS + rb")?+"
_RESULTS: Final = re.compile(
    rb"%b(?:(%b)|\"(%b)\")%b(?:[0-9]++%b)?+(?:%b)*+\Z" % (_CFWS, _TOKEN, _TOKEN, _CFWS, _CFWS, _RESULT)
)
# RFC 7208 section 9.1.
_RECEIVED_SPF: Final = re.compile(rb"%b[A-Za-z]++%b(?:%b(?:;|\Z)%b)*+\Z" % (_CFWS, _CFWS, _PAIR, _CFWS))
_RECEIVER: Final = re.compile(rb'receiver[ \t]*=[ \t]*(?:"([^"]*)"|([^\s;"]+))', re.IGNORECASE)
_COMMENT: Final = re.compile(rb"\([ \t]*([^\s():]+)")

_PAREN: Final = re.compile(r"\\.|[()]", re.DOTALL)
_INNERMOST: Final = re.compile(r"\([^()]*\)")


def forged(*names: str) -> Test:
    """A test for values of Authentication-Results that name the relay as their writer."""
    ours = frozenset(map(domain_key, names))
    holds = _holder(ours)

    def test(found: bytes) -> bool:
        parsed = _RESULTS.match(found)
        if parsed is None:
            return holds(found)
        return _key(parsed[1] or parsed[2]) in ours

    return test


def forged_spf(*names: str) -> Test:
    """The same test for Received-SPF, which names its writer as receiver= (RFC 7208 section 9.1) and at
    the start of its comment."""
    ours = frozenset(map(domain_key, names))
    holds = _holder(ours)

    def test(found: bytes) -> bool:
        if _RECEIVED_SPF.match(found) is None:
            return holds(found)
        writers = [quoted or plain for quoted, plain in _RECEIVER.findall(found)] + _COMMENT.findall(found)
        return any(_key(writer) in ours for writer in writers)

    return test


def _key(name: bytes) -> str:
    return domain_key(name.decode("ascii").strip().rstrip("."))


def _holder(names: frozenset[str]) -> Test:
    """A test that is true if a value holds one of the names in any form."""
    ours = re.compile("|".join(map(_any_form, names)))

    def test(found: bytes) -> bool:
        return len(found) > MAX_VALUE or any(ours.search(_bare(text)) for text in _readings(found))

    return test


def _any_form(name: str) -> str:
    """An expression for a name's bare forms: each label as an A-label or as a U-label."""
    return r"\.".join(
        "|".join(("(?:" + re.escape(_bare(label)), re.escape(_bare(_u_label(label))) + ")"))
        for label in name.split(".")
    )


def _u_label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        return label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label


def _readings(found: bytes) -> Iterator[str]:
    """The value as different readers see it: bytes as UTF-8 or as Windows-1252, with and without its
    comments, and with its encoded words decoded."""
    text = found.decode("utf-8", "ignore")
    texts = {text, _without_comments(text), _INNERMOST.sub("", text)}
    if not found.isascii():
        texts.add(found.decode("cp1252", "ignore"))
    for each in texts:
        yield each
        if "=?" in each:
            yield decode_words(each.encode())


def _without_comments(text: str) -> str:
    """The text without its comments; if a comment never ends, without the rest."""
    kept: list[str] = []
    depth = at = 0
    for found in _PAREN.finditer(text):
        if found[0] == "(":
            if not depth:
                kept.append(text[at : found.start()])
            depth += 1
        elif found[0] == ")" and depth:
            depth -= 1
            at = found.end()
    return "".join(kept) + ("" if depth else text[at:])


class _Bare(dict[int, str]):
    """A character's part in the bare form of a text: letters and digits without case, width and marks,
    full stops and hyphens. It works on one character at a time, because putting the marks of a whole
    text into order takes quadratic time."""

    def __missing__(self, code: int) -> str:
        plain = unicodedata.normalize("NFKD", chr(code)).replace("\u3002", ".").lower()
        found = "".join(c for c in plain if c.isalnum() or c in ".-")
        if code < 0x10000:
            self[code] = found
        return found


_BARE: Final = _Bare()


def _bare(text: str) -> str:
    return text.translate(_BARE)
