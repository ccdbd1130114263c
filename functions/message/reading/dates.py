"""The instant that a Date field means: RFC 5322 with its obsolete forms, and what senders write instead.

The standard library's parsers read the first and few of the others, and read some of them wrongly:
`GMT+02:00` as UTC, `+01:00` as UTC, unknown zones as UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_MONTHS: Final = (
    ("jan", "ene", "gen", "jän"),
    ("feb", "fév", "fev"),
    ("mar", "mär", "mrz", "mrt", "maa"),
    ("apr", "avr", "abr"),
    ("may", "mai", "mei", "mag"),
    ("jun", "juin", "giu"),
    ("jul", "juil", "lug"),
    ("aug", "aou", "aoû", "ago"),
    ("sep", "set"),
    ("oct", "okt", "ott", "out"),
    ("nov",),
    ("dec", "dez", "déc", "dic"),
)
_MONTH: Final = {name: number for number, names in enumerate(_MONTHS, 1) for name in names}
# Hours from UTC (tz database; RFC 5322 section 4.3). Of several meanings it is the one most mail uses.
_ZONES: Final[dict[str, float]] = {
    **dict.fromkeys(["ut", "utc", "gmt", "wet", "z", "azost", "egst", "gmt0", "utc0", "zulu"], 0),
    **dict.fromkeys(["cet", "met", "mez", "bst", "west", "wat"], 1),
    **dict.fromkeys(["cest", "mest", "mesz", "eet", "oez", "cat", "sast"], 2),
    **dict.fromkeys(["eest", "oesz", "msk", "eat", "ast3", "trt", "idt"], 3),
    **dict.fromkeys(["gst", "msd", "samt", "amt4", "get", "azt"], 4),
    **dict.fromkeys(["pkt", "uzt", "yekt", "mvt", "tmt", "tjt"], 5),
    **dict.fromkeys(["bdt", "omst", "almt", "kgt", "btt", "novt"], 6),
    **dict.fromkeys(["ict", "wib", "krat", "hovt"], 7),
    **dict.fromkeys(["hkt", "sgt", "pht", "awst", "wita", "myt", "irkt", "ulat"], 8),
    **dict.fromkeys(["jst", "kst", "wit", "yakt"], 9),
    **dict.fromkeys(["aest", "chst", "vlat", "pgt"], 10),
    **dict.fromkeys(["aedt", "magt", "sbt", "nct"], 11),
    **dict.fromkeys(["nzst", "fjt", "pett"], 12),
    **dict.fromkeys(["nzdt", "tot", "phot"], 13),
    **dict.fromkeys(["cvt", "azot"], -1),
    **dict.fromkeys(["brst", "uyst", "fnt", "ndt2"], -2),
    **dict.fromkeys(["adt", "art", "brt", "clst", "uyt", "gft", "srt", "pyst"], -3),
    **dict.fromkeys(["ast", "edt", "clt", "bot", "vet", "gyt", "pyt"], -4),
    **dict.fromkeys(["est", "cdt", "cot", "pet", "ect"], -5),
    **dict.fromkeys(["cst", "mdt", "galt"], -6),
    **dict.fromkeys(["mst", "pdt"], -7),
    **dict.fromkeys(["pst", "akdt"], -8),
    **dict.fromkeys(["akst", "hdt"], -9),
    **dict.fromkeys(["hst", "hast", "taht"], -10),
    "sst": -11,
    "irst": 3.5,
    "irdt": 4.5,
    "aft": 4.5,
    "ist": 5.5,
    "npt": 5.75,
    "mmt": 6.5,
    "acst": 9.5,
    "acdt": 10.5,
    "nst": -3.5,
    "ndt": -2.5,
}
_MOST: Final = 200  # characters; no date is longer
_PAREN: Final = re.compile(r"[^()\\]++|\\.|.", re.DOTALL)
_ISO: Final = re.compile(r"\s*(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?=[\sT,Zz+-]|\Z)")
_EUROPE: Final = re.compile(r"(?<!\d)(\d{1,2})\.(\d{1,2})\.(\d{4}|\d{2})(?!\d)")
_AMERICA: Final = re.compile(r"(?<!\d)(\d{1,2})/(\d{1,2})/(\d{4}|\d{2})(?!\d)")
_NUMBER: Final = re.compile(r"(?<![\d:.])\d{1,4}(?![\d:])")
_WORD: Final = re.compile(r"[^\W\d_]{3,}")
_TIME: Final = re.compile(
    r"(?<!\d)(\d{1,2})\s*[:.]\s*(\d{1,2})(?:\s*[:.]\s*(\d{1,2})(?:[.,](\d{1,9})\d*+)?)?(?!\d)"
    r"(?:\s*([AaPp])\.?[Mm]\b\.?)?"
)
_OFFSET: Final = re.compile(r"(?:^|[\sA-Za-z])([+\-\u2212])\s?(\d{1,2})(?::?(\d{2}))?(?![\d:])")
_NAME: Final = re.compile(r"(?<![\w+-])[A-Za-z]{1,5}(?![A-Za-z])")


def read_date(value: str) -> datetime | None:
    """The instant, with a zone; None if the text is not a date. Without a zone it is UTC."""
    plain, comments = _without_comments(value[:_MOST])
    found = _day(plain)
    if found is None:
        return None
    (year, month, day), rest = found
    time = _TIME.search(rest)
    hour, minute, second = (int(part or 0) for part in time.group(1, 2, 3)) if time else (0, 0, 0)
    fraction = float(f"0.{time[4]}") if time and time[4] else 0.0
    if time and time[5]:
        hour = hour % 12 + (12 if time[5] in "pP" else 0)
    whole_day = hour == 24 and not minute and not second  # the end of the day (ISO 8601)
    if (hour > 23 and not whole_day) or minute > 59 or second > 60:
        return None
    after = rest[time.end() :] if time else ""
    offset = _offset(after, comments)
    try:
        moment = datetime(year, month, day, tzinfo=UTC)
        return moment + timedelta(hours=hour, minutes=minute, seconds=second + fraction) - offset
    except (ValueError, OverflowError):
        return None


def _without_comments(text: str) -> tuple[str, str]:
    """The text with a blank for each comment (RFC 5322 section 3.2.2), and the comments."""
    if "(" not in text:
        return text, ""
    plain: list[str] = []
    comments: list[str] = []
    depth = 0
    for piece in _PAREN.findall(text):
        if piece == "(":
            depth += 1
        elif piece == ")" and depth:
            depth -= 1
            plain.append(" ")
        else:
            (comments if depth else plain).append(piece)
    return "".join(plain), " ".join(comments)


def _day(text: str) -> tuple[tuple[int, int, int], str] | None:
    """Year, month and day, and the text without them."""
    if (iso := _ISO.match(text)) is not None:
        return (int(iso[1]), int(iso[2]), int(iso[3])), " " + text[iso.end() :].lstrip("Tt")
    # The last one, because names of days are names of months too: `mar` is martes, martedì and March.
    named = next((word for word in reversed(list(_WORD.finditer(text))) if _month(word[0])), None)
    if named is None:
        return _numbers(text)
    month = _month(named[0])
    time = _TIME.search(text, named.end())
    before = list(_NUMBER.finditer(text, 0, named.start()))
    day = before[-1] if before else _NUMBER.search(text, named.end(), time.start() if time else len(text))
    if day is None:
        return None
    start = max(day.end(), named.end())
    year = _NUMBER.search(text, start, time.start() if time and time.start() > start else len(text))
    if year is None and time is not None:
        year = next((one for one in _NUMBER.finditer(text, time.end()) if _is_year(text, one)), None)
    if year is None:
        return None
    if len(day[0]) > 2:  # `2026 Jan 5`
        day, year = year, day
    rest = list(text)
    for piece in (named, day, year):
        rest[piece.start() : piece.end()] = " " * (piece.end() - piece.start())
    return (_year(year[0]), month, int(day[0])), "".join(rest)


def _numbers(text: str) -> tuple[tuple[int, int, int], str] | None:
    """A date in numbers alone: with dots day and month, with slashes month and day if both are possible."""
    if (europe := _EUROPE.search(text)) is not None:
        return (_year(europe[3]), int(europe[2]), int(europe[1])), _cut(text, europe)
    if (america := _AMERICA.search(text)) is not None:
        first, second = int(america[1]), int(america[2])
        month, day = (first, second) if first <= 12 else (second, first)
        return (_year(america[3]), month, day), _cut(text, america)
    return None


def _is_year(text: str, number: re.Match[str]) -> bool:
    return len(number[0]) != 3 and text[number.start() - 1 : number.start()] not in ("+", "-", "\u2212")


def _cut(text: str, piece: re.Match[str]) -> str:
    return text[: piece.start()] + " " + text[piece.end() :]


def _month(word: str) -> int:
    low = word.lower()
    return _MONTH.get(low[:4]) or _MONTH.get(low[:3], 0)


def _year(text: str) -> int:
    """RFC 5322 section 4.3: years of two and of three digits."""
    year = int(text)
    if len(text) <= 2:
        return year + (2000 if year < 50 else 1900)
    return year + 1900 if len(text) == 3 else year


def _offset(after: str, comments: str) -> timedelta:
    """The offset from UTC in the text behind the time: its number, else its name, else the name in a
    comment, else none."""
    if (number := _OFFSET.search(after)) is not None:
        hours, minutes = int(number[2]), int(number[3] or 0)
        if hours < 24 and minutes < 60:
            offset = timedelta(hours=hours, minutes=minutes)
            return offset if number[1] == "+" else -offset
    for text in (after, comments):
        for name in _NAME.findall(text):
            if name.lower() in _ZONES:
                return timedelta(hours=_ZONES[name.lower()])
    return timedelta()
