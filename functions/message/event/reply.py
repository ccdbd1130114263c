"""The text that the author of a reply wrote above the quoted mail.

Mail programs mark the quoted mail by an attribution line and `>`, or by a separator with a header as
Outlook writes it. This code goes through the lines once and compares words: no text makes it slow. It
answers None where it is not sure: then a reader shows the whole text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from functions.message.event.reply_words import (
    FORWARDED,
    FORWARDS,
    FROM,
    OPENERS,
    ORIGINAL,
    OTHERS,
    SIGNATURES,
    VERBS,
)

MAX_TEXT: Final = 262_144
"""Most characters of a text that are searched; the end of a longer one could hold an answer, too."""

MAX_LINES: Final = 10_000
"""Most lines of a text that are searched."""

_TRIES: Final = 200  # lines that could introduce a quoted mail, but do not
_LINE: Final = 400  # characters of a line to look at: an attribution with long names
_GROUP: Final = 4  # lines that an attribution takes: programs wrap it at 72 characters
_HEADER: Final = 10  # lines of a quoted header to look at, empty ones included
_LABEL: Final = 30  # characters of a label of such a header
_RULE: Final = 5  # hyphens or underscores that make a line a rule

_FROM: Final = frozenset(FROM)
_OTHERS: Final = frozenset(OTHERS)
_LABELS: Final = _FROM | _OTHERS
_MARKS: Final = "-_—=*> \t\xa0"  # around the words of a separator
_TIMES: Final = str.maketrans("123456789", "0" * 9)
_BLANKS: Final = " \t\r\xa0"


def reply_text(text: str | None, subject: str | None, answers: bool) -> str | None:
    """The text above the quoted mail, without the signature; None if there is no quoted mail, if nothing
    is above it, if the author wrote between its lines, or if the mail was forwarded. `answers` says that
    the mail names the mail that it answers (RFC 5322 section 3.6.4). Linear in the text."""
    if text is None or len(text) > MAX_TEXT or any(_starts_with(subject, mark) for mark in FORWARDS):
        return None
    if not answers and "\n>" not in text and not _starts_with(subject, "re"):
        return None
    lines = text.split("\n")
    end = _quote_start(lines, answers) if len(lines) <= MAX_LINES else None
    if end is None:
        return None
    return _unsigned(lines[:end]) or None


def _quote_start(lines: Sequence[str], answers: bool) -> int | None:
    """The line at which the quoted mail begins, with what introduces it; None if that is not sure."""
    tries = 0
    for at, whole in enumerate(lines):
        line = whole[:_LINE].strip(_BLANKS)
        if not line:
            continue
        if line[0] == ">":
            return _before_marks(lines, at) if _nothing_follows(lines, at) else None
        ends = line[-1] in ":：-"
        if (ends or line[0] in "-_—") and (marked := _separated(line)) is not None:
            return at if marked else None
        labelled = _label(line) in _LABELS
        if labelled and _quoted_header(lines, at):
            return _above_rule(lines, at)
        tries += labelled or ends
        if tries > _TRIES:
            return None
        if ends and _has_verb(line) and not _next_line(lines, at).startswith(">"):
            # A line with a mark decides for the line above it.
            start = _attribution(lines, at)
            if start is not None:
                sure = answers and _evidence(lines[start : at + 1]) >= 2
                return start if sure else None
    return None


def _separated(line: str) -> bool | None:
    """True for a line that separates a quoted mail, False for one that separates a forwarded mail."""
    words = line.strip(_MARKS).rstrip(":").casefold()
    ruled = line[0] in "-_—" and len(line) - len(words) >= _RULE
    if ruled and any(each in words for each in ORIGINAL):
        return True
    return False if words.startswith(FORWARDED) and (ruled or line[-1] == ":") else None


def _before_marks(lines: Sequence[str], at: int) -> int | None:
    """The line at which the introduction of the quotation starts that begins at `at`."""
    above = at - 1
    while above >= 0 and not lines[above].strip(_BLANKS):
        above -= 1
    if above < 0:
        return at
    start = _attribution(lines, above)
    if start is not None:
        return start
    # An introduction that is not understood, or the author's own words about the quotation.
    return None if lines[above].rstrip(_BLANKS).endswith((":", "：")) else at


def _nothing_follows(lines: Sequence[str], at: int) -> bool:
    """True if all lines after the first quoted one are quoted too, up to a signature or footer."""
    for whole in lines[at:]:
        line = whole[:_LINE].rstrip("\r")
        if line in ("-- ", "--") or _is_rule(line):
            return True
        stripped = line.strip(_BLANKS)
        if stripped and stripped[0] != ">":
            return stripped.casefold().startswith(SIGNATURES)
    return True


def _attribution(lines: Sequence[str], at: int) -> int | None:
    """The first line of the attribution that ends with line `at`; None if there is none."""
    last = lines[at][:_LINE].strip(_BLANKS)
    if last[-1:] not in (":", "：", "-"):
        return None
    found: int | None = None
    joined = ""
    for start in range(at, max(-1, at - _GROUP), -1):
        line = lines[start][:_LINE].strip(_BLANKS)
        if not line or line[0] == ">":
            break
        joined = f"{line} {joined}"
        dated = any(character.isdigit() for character in joined)
        opened = _opens(line)
        told = dated or "@" in joined
        if told and (_has_verb(joined) or (opened if not dated else "@" in joined)):
            if opened:
                return start
            found = start if found is None else found
    return found


def _has_verb(text: str) -> bool:
    """True if an attribution's verb stands at the end of a text, or before the name that ends it."""
    words = text.casefold().rstrip(":： -\xa0")
    return words.endswith(VERBS) or any(f" {verb} " in words for verb in VERBS)


def _opens(line: str) -> bool:
    return line[:_LINE].strip(_MARKS).casefold().startswith(OPENERS)


def _evidence(lines: Sequence[str]) -> int:
    """How many signs of an attribution these lines show: a known opener, an address, a time of day."""
    words = "\n".join(line[:_LINE] for line in lines)
    digits = words.translate(_TIMES)
    return _opens(lines[0]) + ("@" in words) + any(f"0{mark}0" in digits for mark in ":.h")


def _quoted_header(lines: Sequence[str], at: int) -> bool:
    """True if the header of a quoted mail starts here: lines with known labels, From among them."""
    labels = {_label(line) for line in lines[at : at + _HEADER]}
    return len(labels & _FROM) > 0 and len(labels & _OTHERS) >= 2


def _label(line: str) -> str:
    """The label in front of a line's colon, in lower case; "" if it has none."""
    start = line[:_LABEL].lstrip("*> \t\xa0")
    ends = [end for end in (start.find(":"), start.find("：")) if end > 0]
    return start[: min(ends)].strip("* \t\xa0").casefold() if ends else ""


def _above_rule(lines: Sequence[str], at: int) -> int:
    """The line of the rule that Outlook draws above the header at `at`, else `at`."""
    above = at - 1
    while above >= 0 and not lines[above].strip(_BLANKS):
        above -= 1
    return above if above >= 0 and _is_rule(lines[above]) else at


def _is_rule(line: str) -> bool:
    """True for a line of hyphens or underscores alone."""
    line = line[:_LINE].strip(_BLANKS)
    return len(line) >= _RULE and not line.strip("_-—")


def _next_line(lines: Sequence[str], at: int) -> str:
    """The next line that is not empty, of the two below; "" if there is none."""
    below = (line.strip(_BLANKS) for line in lines[at + 1 : at + 4])
    return next((line for line in below if line), "")


def _unsigned(lines: Sequence[str]) -> str:
    """The text of the lines without the signature below it."""
    end = len(lines)
    for at, line in enumerate(lines):
        if line.rstrip("\r") in ("-- ", "--"):
            end = at
            break
    while end and not lines[end - 1].strip(_BLANKS):
        end -= 1
    if end and lines[end - 1].strip(_MARKS).casefold().startswith(SIGNATURES):
        end -= 1
    return "\n".join(lines[:end]).strip()


def _starts_with(subject: str | None, mark: str) -> bool:
    """True if a subject starts with this mark and a colon."""
    start = (subject or "")[:20].casefold().lstrip()
    return start.startswith(mark) and start[len(mark) :].lstrip()[:1] in (":", "：")
